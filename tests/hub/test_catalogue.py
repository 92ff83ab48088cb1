"""The catalogue's data file is well-formed: a typing mistake in it would send users to the wrong repository."""

from __future__ import annotations

import json
import re
from importlib import resources

from fastslm.hub.catalogue import load_catalogue
from fastslm.hub.refs import parse

FIELDS = {"name": str, "repo": str, "architecture": str, "licence": str, "parameters": int, "download_bytes": int}
FLAGS = {"gated": bool, "default": bool}


def raw() -> dict[str, object]:
    text = resources.files("fastslm.hub").joinpath("catalogue.json").read_text(encoding="utf-8")
    loaded: dict[str, object] = json.loads(text)
    return loaded


def test_every_entry_has_the_fields_and_no_others() -> None:
    """The schema, field by field."""
    data = raw()
    assert set(data) == {"models", "demo"}
    models = data["models"]
    assert isinstance(models, list)
    for entry in models:
        assert set(FIELDS) <= set(entry) <= set(FIELDS) | set(FLAGS), entry
        assert all(type(entry[name]) is kind for name, kind in FIELDS.items()), entry
        assert all(type(entry[name]) is kind for name, kind in FLAGS.items() if name in entry), entry
        assert re.fullmatch(r"[a-z0-9][a-z0-9.-]*:[0-9.]+[mb]", entry["name"]), entry
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", entry["repo"]), entry


def test_sizes_agree_with_names_and_with_each_other() -> None:
    """Publishers round boldly (a "1b" may have 1.67e9), but not by two; weights take at least two bytes each."""
    for model in load_catalogue().models:
        number, unit = re.fullmatch(r"([0-9.]+)([mb])", model.name.partition(":")[2]).groups()  # type: ignore[union-attr]
        said = float(number) * {"m": 1e6, "b": 1e9}[unit]
        assert 0.8 < model.parameters / said < 1.7, model
        assert 1.9 < model.download_bytes / model.parameters < 3.0, model


def test_names_are_unique_and_every_family_has_one_default() -> None:
    """A name finds one model only."""
    catalogue = load_catalogue()
    names = [model.name for model in catalogue.models]
    assert len(set(names)) == len(names) >= 25
    for family in {model.family for model in catalogue.models}:
        defaults = [model for model in catalogue.models if model.family == family and model.default]
        assert len(defaults) == 1, family


def test_every_name_can_be_parsed() -> None:
    """What the catalogue lists is what the parser takes."""
    for name in load_catalogue().names():
        assert parse(name).kind == ("demo" if name == "demo" else "hub")


def test_the_demo_is_pinned() -> None:
    """Both hashes are whole, and the member is a GGUF file of the announced size."""
    demo = load_catalogue().demo
    assert re.fullmatch(r"[0-9a-f]{64}", demo.wheel_sha256)
    assert re.fullmatch(r"[0-9a-f]{64}", demo.sha256)
    assert (demo.file_name, demo.size_bytes) == ("SmolLM2-135M-Instruct.Q4_1.gguf", 98_362_432)
