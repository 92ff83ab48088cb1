"""fastslm.json: what was written is what is read, and nothing else is believed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fastslm.errors import FileMissing, FormatError
from fastslm.store.manifest import MANIFEST_NAME, ModelManifest


def manifest(**changes: Any) -> ModelManifest:
    """A sound manifest, or one with changes."""
    values: dict[str, Any] = {
        "name": "org/m",
        "commit": "c0ffee",
        "architecture": "llama",
        "precision": "int4",
        "context_length": 128,
        "vocab_size": 300,
        "num_layers": 2,
        "num_kv_heads": 2,
        "head_dim": 16,
        "bos_token_id": 1,
        "eos_token_ids": (2, 0),
        "add_bos": False,
        "special_tokens": {"eos_token": "</s>"},
        "generation": {"temperature": 0.2, "top_k": 20},
        "source_files": {"model.safetensors": 1000},
        "hashes": {"model.onnx": "ab" * 32},
        "fastslm_version": "0.1.0",
        "created": "2026-01-01T00:00:00Z",
    }
    return ModelManifest(**{**values, **changes})


def test_what_is_written_is_read(tmp_path):
    for written in (manifest(), manifest(bos_token_id=None, eos_token_ids=(), name="ünï", generation={})):
        written.write(tmp_path)
        assert ModelManifest.read(tmp_path) == written


def rewritten(folder: Path, **changes: Any) -> Path:
    """A manifest file with fields replaced, or removed where the change is None."""
    manifest().write(folder)
    path = folder / MANIFEST_NAME
    data = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in data.items() if value is not ...}))
    return folder


def test_fields_of_a_newer_version_are_passed_over(tmp_path):
    assert ModelManifest.read(rewritten(tmp_path, colour="red")) == manifest()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 2}, "format version `2`, expected 1"),
        ({"format_version": ...}, "format version `None`"),
        ({"vocab_size": ...}, "vocab_size"),
        ({"add_bos": ...}, "add_bos"),
        ({"name": ...}, "name"),
        ({"num_layers": 0}, "`num_layers` is `0`, expected a whole number from 1"),
        ({"head_dim": "16"}, "`head_dim` is `16`"),
        ({"context_length": True}, "`context_length` is `True`"),
        ({"eos_token_ids": "12"}, "`eos_token_ids` is `12`, expected a list of token ids"),
        ({"eos_token_ids": [300]}, "`eos_token_ids`"),
        ({"bos_token_id": -1}, "`bos_token_id` is `-1`"),
        ({"add_bos": "no"}, "`add_bos` is `no`"),
        ({"precision": 4}, "`precision` is `4`, expected a string"),
        ({"special_tokens": {"eos_token": 3}}, "`special_tokens`"),
        ({"generation": {"temperature": "hot"}}, "`generation`"),
        ({"hashes": []}, "`hashes`"),
        ({"hashes": {"../x": "ab"}}, "`hashes` names `../x`"),
        ({"source_files": {"a": 1.5}}, "`source_files`"),
    ],
)
def test_a_field_that_cannot_be_is_named(tmp_path, changes, message):
    """The engine sizes its memory by these numbers."""
    with pytest.raises(FormatError) as caught:
        ModelManifest.read(rewritten(tmp_path, **changes))
    assert message in str(caught.value)
    assert MANIFEST_NAME in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_manifest_is_refused(tmp_path, content):
    (tmp_path / MANIFEST_NAME).write_bytes(content)
    with pytest.raises(FormatError):
        ModelManifest.read(tmp_path)


def test_a_folder_without_a_manifest_is_no_model(tmp_path):
    with pytest.raises(FileMissing, match="is not a converted model"):
        ModelManifest.read(tmp_path)
