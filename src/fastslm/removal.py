"""Remove a model: its conversions, its lines in the registry and, when nobody shares them, its source files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fastslm.config import Settings
from fastslm.errors import ModelNotFound
from fastslm.store.entry import Entry
from fastslm.store.registry import Registry


@dataclass(frozen=True)
class Removed:
    """What a removal did.

    Attributes:
        entries: lines taken out of the registry.
        freed_bytes: room that was gained.
        kept_source: source files that stay because other tools may use them, or None.
    """

    entries: tuple[Entry, ...]
    freed_bytes: int
    kept_source: Path | None


def remove(name: str, *, precision: str | None = None, source: bool = False, settings: Settings) -> Removed:
    """Remove all conversions of a model, or those of one precision.

    Args:
        name: as in ``pull``; a model that was pulled from a path that is gone is still found.
        precision: None for all; then the source goes too, unless it lies in the shared hub cache.
        source: remove the source from the shared hub cache as well, also when only that is left of the model.
        settings: where things are.

    Raises:
        ModelNotFound: the registry has no such model, and its source is not asked for or not there.
        StoreError, FileSystemError: something could not be deleted; what remains is still registered.
    """
    from fastslm.store import models, staging

    registry = Registry(settings.registry_file)
    known = _entries(registry, name, settings)
    chosen = [e for e in known if precision is None or precision in (e.precision, e.resolved_precision)]
    if source and precision is None and not known:
        return _remove_kept(name, settings)
    if not chosen:
        asked = f"`{name}`" if precision is None else f"`{name}` in precision `{precision}`"
        raise _not_here(asked, name)
    freed, kept = staging.drop(settings.models_dir, chosen[0].name), None
    others = [e for e in registry.list() if e not in chosen]  # `auto` and `exact`, or two names, may be one folder
    still_used = {e.folder for e in others}
    for folder in {Path(e.folder) for e in chosen if e.folder and e.folder not in still_used}:
        freed += models.delete(folder, settings.models_dir)
    if len(chosen) == len(known):
        own = [e for e in chosen if e.snapshot not in {other.snapshot for other in others}]
        gained, kept = _remove_sources(own, settings, shared=source)
        freed += gained
    for entry in chosen:
        registry.remove(entry.name, entry.precision)
    return Removed(tuple(chosen), freed, kept)


def _not_here(asked: str, name: str) -> ModelNotFound:
    return ModelNotFound(f"{asked} is not on this machine", what="model", name=name)


def _remove_kept(name: str, settings: Settings) -> Removed:
    """Remove from the hub cache what an earlier removal left there."""
    from fastslm.hub import parse
    from fastslm.hub.forget import forget, kept_snapshot

    ref = parse(name, endpoint=settings.endpoint)
    kept = kept_snapshot(ref, settings)
    if kept is None:
        raise _not_here(f"`{ref.name}`", ref.name)
    return Removed((), forget(ref, *kept, settings), None)


def _entries(registry: Registry, name: str, settings: Settings) -> list[Entry]:
    """Entries by their recorded name first, because a local path may be gone; then by what the name means."""
    from fastslm.naming import reference

    entries = registry.list()
    exact = [e for e in entries if e.name == name]
    if exact:
        return exact
    meant = reference(name, settings).name
    return [e for e in entries if e.name == meant]


def _remove_sources(entries: list[Entry], settings: Settings, *, shared: bool) -> tuple[int, Path | None]:
    """Bytes freed, and a source that was kept."""
    from fastslm.hub.forget import forget, is_shared
    from fastslm.hub.refs import ModelRef
    from fastslm.naming import reference

    freed, kept = 0, None
    for path, commit in {(Path(e.snapshot), e.commit) for e in entries if e.snapshot}:
        name = entries[0].name
        ref = ModelRef("local", name, path=path) if name == str(path) else reference(name, settings)
        if is_shared(ref) and not shared and path.exists():
            kept = path
        else:
            freed += forget(ref, path, commit, settings)
    return freed, kept
