"""What a user's word for a model means on this machine: imported names first, then the grammar of ``hub.refs``."""

from __future__ import annotations

from fastslm.config import Settings
from fastslm.errors import UsageError
from fastslm.hub import ModelRef, parse
from fastslm.hub.imports import find_import


def reference(name: str, settings: Settings, revision: str | None = None) -> ModelRef:
    """The model that a name means; ``revision`` is what was asked for beside it.

    Raises:
        UsageError, ModelNotFound: the text cannot be a model's name, or cannot take a revision.
    """
    ref = find_import(settings, name.strip()) or parse(name, endpoint=settings.endpoint)
    if not revision or revision == ref.revision:
        return ref
    if ref.kind != "hub" or ref.revision:
        message = f"`{name}` cannot take the revision `{revision}` as well"
        raise UsageError(message, name="revision", value=revision)
    return parse(f"{ref.name}@{revision}", endpoint=settings.endpoint)
