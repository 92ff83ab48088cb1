"""What a user's word for a model means on this machine.

Imported names come first, then the grammar of ``hub.refs``, then what the registry knows beyond it.
"""

from __future__ import annotations

from pathlib import Path

from fastslm.config import Settings
from fastslm.errors import ModelNotFound, UsageError
from fastslm.hub import ModelRef, parse
from fastslm.hub.imports import find_import
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
    """What the grammar says; a name that it does not know may still be that of a model from a bundle."""
    try:
        return parse(name, endpoint=settings.endpoint)
    except (UsageError, ModelNotFound):
        known = (entry for entry in Registry(settings.registry_file).list() if entry.name == name)
        entry = next(known, None)
        if entry is None:
            raise
        return ModelRef("local", name, path=Path(entry.snapshot or entry.folder))
