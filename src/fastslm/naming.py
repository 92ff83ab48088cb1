"""What a user's word for a model means on this machine.

Imported names come first, then the grammar of ``hub.refs``, then what the registry knows beyond it.
"""

from __future__ import annotations

from pathlib import Path

from fastslm.config import Settings
from fastslm.errors import ModelNotFound, UsageError
from fastslm.hub import ModelRef, parse
from fastslm.hub.disk.imports import find_import
from fastslm.store.registry import Registry


def reference(name: str, settings: Settings, revision: str | None = None) -> ModelRef:
    """The model that a name means; ``revision`` is what was asked for beside it.

    Raises:
        UsageError, ModelNotFound: the text cannot be a model's name, or cannot take a revision.
    """
    ref = find_import(settings, name.strip()) or _parsed(name.strip(), settings)
    if not revision or revision == ref.revision:
        return ref
    if ref.kind != "hub" or ref.revision:
        message = f"`{name}` cannot take the revision `{revision}` as well"
        raise UsageError(message, name="revision", value=revision)
    return parse(f"{ref.name}@{revision}", endpoint=settings.endpoint)


def _parsed(name: str, settings: Settings) -> ModelRef:
    """What the grammar says, unless the registry knows a model by just this name (a copy, a bundle)."""
    try:
        ref: ModelRef | None = parse(name, endpoint=settings.endpoint)
    except (UsageError, ModelNotFound):
        ref = None
    if ref is not None and ref.name == name:
        return ref
    entry = next((each for each in Registry(settings.registry_file).list() if each.name == name), None)
    if entry is not None:
        return ModelRef("local", name, path=Path(entry.snapshot or entry.folder))
    return ref or parse(name, endpoint=settings.endpoint)
