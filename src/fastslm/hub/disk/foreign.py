"""Find models that lie on this machine in other programs' order: a folder, a GGUF file, LM Studio's or Ollama's store.

LM Studio   models/{org}/{name}/{file}.gguf
Ollama      models/manifests/{host}/{space}/{model}/{tag}   JSON: layers with media type, digest and size
models/blobs/sha256-{hex}                       the layers
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastslm.errors import FileMissing, FormatError
from fastslm.formats import checked_json
from fastslm.formats.gguf.model import split_files
from fastslm.hub.select import Wishes, select_files

MODEL_LAYER = "application/vnd.ollama.image.model"
LICENCE_LAYER = "application/vnd.ollama.image.license"
OWN_SPACE = "library"
MAX_MANIFEST_BYTES = 1 << 20
DEEPEST = 4
"""Folders below the one that was given in which GGUF files are looked for."""


@dataclass(frozen=True)
class Candidate:
    """A model that could be imported: a name for it, file name to place, and SHA-256 where somebody told it."""

    name: str
    origin: Path
    files: Mapping[str, Path]
    hashes: Mapping[str, str] = field(default_factory=dict)


def discover(path: Path) -> tuple[Candidate, ...]:
    """Every model at a place, by name.

    Raises:
        FileMissing: there is nothing, or nothing that could be a model.
        FormatError: a store's manifest is damaged.
    """
    if not path.exists():
        raise FileMissing(f"there is no file or folder `{path}`", what="path", name=str(path))
    found = list(_in_folder(path)) if path.is_dir() else [_gguf(path)] if path.suffix.lower() == ".gguf" else []
    if not found:
        message = f"`{path}` holds no model: expected safetensors with config.json, a GGUF file, or a store of them"
        raise FileMissing(message, what="model", name=str(path))
    return tuple(sorted(found, key=lambda each: each.name))


def _in_folder(folder: Path) -> Iterator[Candidate]:
    for store in (folder, folder / "models"):
        if (store / "manifests").is_dir() and (store / "blobs").is_dir():
            yield from _ollama(store)
            return
    if (folder / "config.json").is_file() and any(folder.glob("*.safetensors")):
        yield _plain(folder)
        return
    seen: set[Path] = set()
    for path in _gguf_files(folder):
        if path not in seen:
            found = _gguf(path)
            seen.update(found.files.values())
            yield found


def _gguf_files(folder: Path) -> list[Path]:
    """GGUF files of a folder and those below it; parts of a vision model are none."""
    patterns = ("/".join(["*"] * depth) + ".gguf" for depth in range(1, DEEPEST + 1))
    found = (path for pattern in patterns for path in folder.glob(pattern))
    return sorted(path for path in found if path.is_file() and "mmproj" not in path.name.lower())


def _gguf(path: Path) -> Candidate:
    parts = split_files(path)
    name = re.sub(r"-\d{5}-of-\d{5}$", "", path.stem)
    return Candidate(_plain_name(name), path, {part.name: part for part in parts})


def _plain(folder: Path) -> Candidate:
    """What a conversion needs of a folder in Hugging Face's layout; of a snapshot the repository's name."""
    files = [path.name for path in folder.iterdir() if path.is_file()]
    chosen = select_files(files, Wishes())
    return Candidate(_plain_name(folder.resolve().name), folder, {name: folder / name for name in chosen})


def _ollama(store: Path) -> Iterator[Candidate]:
    for manifest in sorted((store / "manifests").glob("*/*/*/*")):
        if manifest.is_file() and not manifest.name.startswith("."):
            found = _from_manifest(store, manifest)
            if found is not None:
                yield found


def _from_manifest(store: Path, manifest: Path) -> Candidate | None:
    """None for what is not one whole language model: adapters, vision parts, models without a file here."""
    space, model, tag = manifest.relative_to(store / "manifests").parts[1:]
    subject = str(manifest)
    layers = checked_json.get(checked_json.read_object(manifest, MAX_MANIFEST_BYTES), "layers", list, subject)
    kinds: dict[str, list[str]] = {}
    for layer in layers or []:
        kind, digest = _layer(layer, subject)
        kinds.setdefault(kind, []).append(digest)
    models = kinds.get(MODEL_LAYER, [])
    if len(models) != 1 or not _blob(store, models[0]).is_file():
        return None
    name = f"{model}:{tag}" if space == OWN_SPACE else f"{space}/{model}:{tag}"
    file = f"{_plain_name(model)}-{_plain_name(tag)}.gguf"
    files, hashes = {file: _blob(store, models[0])}, {file: models[0]}
    return Candidate(name, manifest, files, hashes)


def _layer(layer: Any, subject: str) -> tuple[str, str]:
    """Media type and SHA-256 of a layer."""
    kind = layer.get("mediaType") if isinstance(layer, dict) else None
    digest = layer.get("digest") if isinstance(layer, dict) else None
    match = re.fullmatch(r"sha256:([0-9a-f]{64})", digest) if isinstance(digest, str) else None
    if not isinstance(kind, str) or match is None:
        message = f"`{subject}` has a layer {checked_json.shorten(layer)}, expected a media type and a SHA-256"
        raise FormatError(message, subject=subject, found=layer)
    return kind, match[1]


def _blob(store: Path, digest: str) -> Path:
    return store / "blobs" / f"sha256-{digest}"


def _plain_name(text: str) -> str:
    """Letters, digits, dots, dashes and underscores."""
    return re.sub(r"[^\w.-]+", "-", text, flags=re.ASCII).strip("-.") or "model"
