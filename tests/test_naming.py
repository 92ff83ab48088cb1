"""A word for a model means the nearest thing: an import, then what the grammar says, then what the registry knows."""

from __future__ import annotations

import pytest

from fastslm.config import Settings
from fastslm.errors import ModelNotFound, UsageError
from fastslm.hub.disk.imports import Import, import_folder
from fastslm.naming import reference
from fastslm.store.registry import Registry


def imported(settings: Settings, name: str) -> None:
    folder = import_folder(settings, name)
    folder.mkdir(parents=True)
    (folder / "m.gguf").write_bytes(b"x")
    Import(name, "elsewhere", {"m.gguf": ""}).write(folder)


def test_an_import_comes_before_the_catalogue(settings: Settings) -> None:
    """Whoever imported a model under this name means it."""
    assert reference("smollm2:135m", settings).kind == "hub"
    imported(settings, "smollm2:135m")
    ref = reference("smollm2:135m", settings)
    assert (ref.kind, ref.name) == ("local", "smollm2:135m")
    assert ref.path == import_folder(settings, "smollm2:135m") / "m.gguf"


def test_a_name_of_the_registry_that_the_grammar_does_not_know(settings: Settings) -> None:
    """A copy or a bundle may have any name."""
    with pytest.raises(ModelNotFound):
        reference("mine:v1", settings)
    Registry(settings.registry_file).begin("mine:v1")
    assert reference("mine:v1", settings).name == "mine:v1"
    assert reference("org/name", settings).kind == "hub"


def test_a_revision_belongs_to_a_repository(settings: Settings) -> None:
    """An import has none."""
    assert reference("org/name", settings, "v1").revision == "v1"
    imported(settings, "mine")
    with pytest.raises(UsageError, match="v1"):
        reference("mine", settings, "v1")


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"name": "mine", "origin": "", "files": {"../x": ""}}', '{"name": "mine"}']
)
def test_a_damaged_record_is_no_import(settings: Settings, text: str) -> None:
    """And never a way out of the folder."""
    imported(settings, "mine")
    (import_folder(settings, "mine") / "import.json").write_text(text)
    assert reference("mine", settings).kind == "hub"
