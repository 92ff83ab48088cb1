"""Models in other programs' order are found under names that people know them by."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from fastslm.errors import FileMissing, FormatError
from fastslm.hub.disk.foreign import LICENCE_LAYER, MODEL_LAYER, discover


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def ollama(store: Path, name: str, layers: dict[str, bytes], host: str = "registry.example") -> dict[str, str]:
    """Write a model of ``space/model/tag`` as Ollama lays it out; returns media type to hash."""
    digests = {}
    for kind, data in layers.items():
        digests[kind] = hashlib.sha256(data).hexdigest()
        blob = store / "blobs" / f"sha256-{digests[kind]}"
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(data)
    manifest = store / "manifests" / host / name
    manifest.parent.mkdir(parents=True, exist_ok=True)
    listed = [{"mediaType": kind, "digest": f"sha256:{digest}", "size": 1} for kind, digest in digests.items()]
    manifest.write_text(json.dumps({"schemaVersion": 2, "layers": listed}))
    return digests


@pytest.mark.parametrize("inside", ["", "models"])
def test_an_ollama_store(tmp_path: Path, inside: str) -> None:
    """Official models by model and tag, others with their space; the manifest tells the hash."""
    store = tmp_path / "store" / inside
    digests = ollama(store, "library/llama3.2/1b", {MODEL_LAYER: b"weights", LICENCE_LAYER: b"free"})
    ollama(store, "someone/tuned/latest", {MODEL_LAYER: b"other"})
    ollama(store, "library/embed/v1", {"application/vnd.ollama.image.params": b"{}"})
    one, two = discover(tmp_path / "store")
    assert (one.name, two.name) == ("llama3.2:1b", "someone/tuned:latest")
    assert list(one.files) == ["llama3.2-1b.gguf"]
    assert one.files["llama3.2-1b.gguf"].read_bytes() == b"weights"
    assert one.hashes == {"llama3.2-1b.gguf": digests[MODEL_LAYER]}


@pytest.mark.parametrize(
    "layer", [7, {"mediaType": MODEL_LAYER, "digest": "sha256:../../../etc/passwd"}, {"digest": "sha256:" + "0" * 64}]
)
def test_a_manifest_cannot_point_elsewhere(tmp_path: Path, layer: object) -> None:
    """A digest is 64 hexadecimal digits or the manifest is refused."""
    ollama(tmp_path, "library/m/t", {MODEL_LAYER: b"w"})
    manifest = tmp_path / "manifests/registry.example/library/m/t"
    manifest.write_text(json.dumps({"layers": [layer]}))
    with pytest.raises(FormatError, match="layer"):
        discover(tmp_path)


def test_an_lm_studio_store(tmp_path: Path) -> None:
    """Each GGUF file is a model, parts of one are one, and vision parts are none."""
    models = tmp_path / "models" / "org"
    touch(models / "small" / "small-Q4_0.gguf", models / "small" / "mmproj-small.gguf")
    touch(*(models / "big" / f"big-0000{n}-of-00002.gguf" for n in (1, 2)))
    found = {each.name: sorted(each.files) for each in discover(tmp_path)}
    assert found == {
        "small-Q4_0": ["small-Q4_0.gguf"],
        "big": ["big-00001-of-00002.gguf", "big-00002-of-00002.gguf"],
    }


def test_a_folder_of_safetensors(tmp_path: Path) -> None:
    """What a conversion needs of it, under the folder's name."""
    folder = tmp_path / "My model"
    touch(folder / "config.json", folder / "model.safetensors", folder / "tokenizer.json", folder / "optimizer.bin")
    (found,) = discover(folder)
    assert found.name == "My-model"
    assert sorted(found.files) == ["config.json", "model.safetensors", "tokenizer.json"]


def test_a_place_without_models(tmp_path: Path) -> None:
    """Told apart from a place that is not there."""
    touch(tmp_path / "notes.txt")
    for path in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(FileMissing, match="holds no model"):
            discover(path)
    with pytest.raises(FileMissing, match="there is no file"):
        discover(tmp_path / "nothing")
