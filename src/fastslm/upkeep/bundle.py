"""A converted model in one file, for machines without a network: written, checked and unpacked here.

The file is a zip archive whose members are stored, not compressed:

    model/{name}     the files of the converted folder, and licence and README of the source
    bundle.json      format version, name, precision, and of every file its size and SHA-256

An import believes nothing: every member must be in the list and the other way round, lie directly in ``model/``, be
stored, and have the announced size and hash.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from fastslm.config import Settings
from fastslm.errors import ChecksumMismatch, FormatError, UsageError
from fastslm.formats import checked_json
from fastslm.formats.archive import stored_members, unpack
from fastslm.hub.layout import file_errors
from fastslm.hub.plan import require_space
from fastslm.progress import Progress, ProgressCallback, silent
from fastslm.store import models
from fastslm.store.entry import Entry
from fastslm.store.manifest import MANIFEST_NAME, ModelManifest
from fastslm.store.registry import Registry
from fastslm.upkeep.bring_in import check_name

SUFFIX = ".fastslm"
LIST = "bundle.json"
VERSION = 1
MAX_LIST_BYTES = 1 << 20
MOST_FILES = 64
CHUNK_BYTES = 1 << 20
LEGAL = ("LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*", "README.md")


@dataclass(frozen=True)
class Content:
    """One file of a bundle."""

    size: int
    sha256: str


def write_bundle(entry: Entry, output: Path, progress: ProgressCallback = silent) -> int:
    """Put a converted model into one file and return its size; what is written is checked against the manifest.

    Raises:
        ChecksumMismatch: a file of the model is damaged.
        FileMissing, FormatError: the converted folder is not whole.
        UsageError: there is a file of this name already.
        DiskFull, FileSystemError: it cannot be written.
    """
    if output.exists():
        raise UsageError(f"`{output}` exists already, expected a new file", name="output", value=str(output))
    folder = Path(entry.folder)
    manifest = ModelManifest.read(folder)
    files = {path.name: path for path in [*_legal(entry), *(folder / n for n in [*manifest.hashes, MANIFEST_NAME])]}
    total = sum(path.stat().st_size for path in files.values() if path.is_file())
    require_space(output.absolute().parent, total)
    temporary = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    try:
        with file_errors("write", output), zipfile.ZipFile(temporary, "x", zipfile.ZIP_STORED) as archive:
            contents = _add_all(archive, files, manifest.hashes, _Report(progress, total))
            described = {name: asdict(content) for name, content in contents.items()}
            text = {"version": VERSION, "name": manifest.name, "precision": manifest.precision, "files": described}
            archive.writestr(LIST, json.dumps(text, indent=1, ensure_ascii=False))
        with file_errors("write", output):
            temporary.replace(output)
    finally:
        temporary.unlink(missing_ok=True)
    return output.stat().st_size


def read_bundle(path: Path, name: str | None, settings: Settings, progress: ProgressCallback = silent) -> Entry:
    """Unpack a bundle into the store and register its model under its own name, or another.

    Raises:
        FormatError: it is no bundle, or holds what it does not announce.
        ChecksumMismatch: a file is damaged; nothing is kept.
        UsageError: the name cannot be one.
        DiskFull, FileSystemError, StoreError: it cannot be written.
    """
    contents, declared = _read_list(path)
    total = sum(content.size for content in contents.values())
    require_space(settings.models_dir, total)
    chosen = declared.name if name is None else name
    if chosen != "demo":  # the demo means the same model everywhere
        check_name(chosen)
    folder = models.folder_path(settings.models_dir, chosen, declared.commit, declared.precision)
    with models.building(folder) as scratch:
        _unpack(path, contents, scratch, progress)
        manifest = ModelManifest.read(scratch)
        _check_manifest(path, manifest, declared, contents)
    return _register(chosen, manifest, folder, settings)


@dataclass(frozen=True)
class _Declared:
    """What a bundle says of its model; ``commit`` is the hash of its list."""

    name: str
    precision: str
    commit: str


@dataclass
class _Report:
    """Progress over all files."""

    callback: ProgressCallback
    total: int
    done: int = 0

    def add(self, size: int, name: str) -> None:
        self.done += size
        self.callback(Progress("bundling", self.done, self.total, "B", name))


def _legal(entry: Entry) -> Iterator[Path]:
    """What a user must be shown with the model: licence, notices, README of its source."""
    source = Path(entry.snapshot) if entry.snapshot else None
    folder = source if source is not None and source.is_dir() else source.parent if source is not None else None
    if folder is None or not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        if path.is_file() and any(fnmatchcase(path.name, pattern) for pattern in LEGAL):
            yield path


def _add_all(
    archive: zipfile.ZipFile, files: Mapping[str, Path], hashes: Mapping[str, str], report: _Report
) -> dict[str, Content]:
    contents: dict[str, Content] = {}
    for name, path in files.items():
        contents[name] = _add(archive, name, path, report)
        expected, found = hashes.get(name), contents[name].sha256
        if expected is not None and found != expected:
            message = f"`{path}` has SHA-256 `{found}`, expected `{expected}`"
            raise ChecksumMismatch(message, subject=str(path), expected=expected, found=found)
    return contents


def _add(archive: zipfile.ZipFile, name: str, path: Path, report: _Report) -> Content:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as source, archive.open(f"model/{name}", "w", force_zip64=True) as target:
        while chunk := source.read(CHUNK_BYTES):
            digest.update(chunk)
            target.write(chunk)
            size += len(chunk)
            report.add(len(chunk), name)
    return Content(size, digest.hexdigest())


def _read_list(path: Path) -> tuple[dict[str, Content], _Declared]:
    """The files of a bundle and what it says of itself, checked against the archive's own directory."""
    members = stored_members(path, MOST_FILES)
    if LIST not in members:
        raise FormatError(f"`{path}` is not a bundle: it has no `{LIST}`", subject=str(path), expected=LIST)
    data = checked_json.parse_object(_list_text(path, members[LIST]), f"{path}: {LIST}")
    if data.get("version") != VERSION:
        message = f"`{path}` has format version {checked_json.shorten(data.get('version'))}, expected {VERSION}"
        raise FormatError(message, subject=str(path), expected=VERSION, found=data.get("version"))
    contents = {name: _content(name, value, path) for name, value in _files(data, path).items()}
    announced = {f"model/{name}": content.size for name, content in contents.items()}
    found = {name: size for name, size in members.items() if name != LIST}
    if announced != found:
        wrong = sorted(set(announced.items()) ^ set(found.items()))[0][0]
        message = f"`{path}`: member {checked_json.quoted(wrong)} is not what `{LIST}` announces"
        raise FormatError(message, subject=str(path), expected=announced.get(wrong), found=found.get(wrong))
    return contents, _declared(data, path)


def _list_text(path: Path, size: int) -> bytes:
    if size > MAX_LIST_BYTES:
        message = f"`{path}` has a list of {size} bytes, expected at most {MAX_LIST_BYTES}"
        raise FormatError(message, subject=str(path), expected=MAX_LIST_BYTES, found=size)
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(LIST)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError) as error:
        raise FormatError(f"`{path}` has a damaged `{LIST}`: {error}", subject=str(path)) from error


def _files(data: Mapping[str, Any], path: Path) -> dict[str, Any]:
    files = checked_json.get(data, "files", dict, str(path))
    if not files or MANIFEST_NAME not in files:
        raise FormatError(f"`{path}` is not a bundle of a model: it lists no `{MANIFEST_NAME}`", subject=str(path))
    return files


def _content(name: str, value: Any, path: Path) -> Content:
    plain = name == Path(name).name and name not in (".", "..") and name.isprintable() and "\\" not in name
    size = value.get("size") if isinstance(value, dict) else None
    digest = value.get("sha256") if isinstance(value, dict) else None
    if not plain or name.startswith(".") or type(size) is not int or size < 0 or not isinstance(digest, str):
        message = f"`{path}` lists {checked_json.quoted(name)} as {checked_json.shorten(value)}, expected a plain file"
        raise FormatError(message, subject=str(path), found=value)
    return Content(size, digest)


def _declared(data: Mapping[str, Any], path: Path) -> _Declared:
    name = checked_json.get(data, "name", str, str(path))
    precision = checked_json.get(data, "precision", str, str(path))
    if not name or not precision:
        raise FormatError(f"`{path}` does not name its model", subject=str(path), expected="name and precision")
    commit = hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
    return _Declared(_own_name(name), precision, commit)


def _own_name(name: str) -> str:
    """A model that was made of a local file is called by the file's name here."""
    return Path(name).stem if Path(name).is_absolute() or "://" in name else name


def _unpack(archive: Path, contents: Mapping[str, Content], folder: Path, progress: ProgressCallback) -> None:
    """Everything in one pass, then the files that are listed into the model's folder."""
    most = sum(content.size for content in contents.values()) + MAX_LIST_BYTES
    whole = folder / ".bundle"
    found = unpack(archive, whole, max_bytes=most, format="zip", progress=progress)
    for name, content in contents.items():
        digest = found[f"model/{name}"]
        if digest != content.sha256:
            message = f"`{name}` in `{archive}` has SHA-256 `{digest}`, expected `{content.sha256}`"
            raise ChecksumMismatch(message, subject=name, expected=content.sha256, found=digest)
        (whole / "model" / name).rename(folder / name)
    shutil.rmtree(whole)


def _check_manifest(path: Path, manifest: ModelManifest, declared: _Declared, contents: Mapping[str, Content]) -> None:
    """The model's own manifest and the bundle's list must tell the same."""
    extra = [name for name in contents if name not in manifest.hashes and name != MANIFEST_NAME]
    foreign = next((name for name in extra if not any(fnmatchcase(name, pattern) for pattern in LEGAL)), None)
    if foreign is not None:
        message = f"`{path}` holds {checked_json.quoted(foreign)}, which is no part of the model"
        raise FormatError(message, subject=str(path), found=foreign)
    listed = {name: contents[name].sha256 for name in manifest.hashes if name in contents}
    if dict(manifest.hashes) != listed or manifest.precision != declared.precision:
        message = f"`{path}`: `{MANIFEST_NAME}` and `{LIST}` do not agree"
        raise FormatError(message, subject=str(path), expected=dict(manifest.hashes), found=listed)


def _register(name: str, manifest: ModelManifest, folder: Path, settings: Settings) -> Entry:
    registry = Registry(settings.registry_file)
    entry = registry.begin(name, manifest.precision)
    entry = registry.advance(entry, "downloaded", commit=manifest.commit)
    entry = registry.advance(entry, "converting")
    size = models.size_bytes(folder)
    return registry.advance(entry, "ready", folder=folder, resolved_precision=manifest.precision, size_bytes=size)
