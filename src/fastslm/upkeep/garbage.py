"""What nobody needs any more: found first, removed only when it still is garbage at that moment.

Nothing young is garbage: between a file's appearance and its mention in a snapshot or the registry lies a moment in
which another process is at work. Partial downloads are a user's unfinished business and go on demand only.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fastslm.config import Settings
from fastslm.errors import FastSLMError
from fastslm.hub import cache
from fastslm.hub.disk.inventory import blobs, pointers, repositories, target
from fastslm.hub.disk.partials import partials
from fastslm.hub.layout import RepoLayout, file_errors
from fastslm.hub.look import outline
from fastslm.store import models, staging
from fastslm.store.atomic import process_is_alive
from fastslm.store.manifest import MANIFEST_NAME
from fastslm.store.registry import Registry
from fastslm.upkeep.repair import ASIDE

YOUNG_S = 600.0
SCRATCH = (".link", ".copy", ".text", ".mode")
"""Suffixes of the helpers that change the hub cache; each lives for an instant."""

_TEMPORARY = re.compile(r"\..+\.(\d{1,10})\.tmp")


@dataclass(frozen=True)
class Item:
    """One thing to remove; ``lock`` is held by whoever works beside it, if anybody can."""

    path: Path
    bytes: int
    reason: str
    lock: Path | None = None


class _Busy(FastSLMError):
    """Somebody works there right now."""


def collect(settings: Settings, *, with_partials: bool = False) -> tuple[Item, ...]:
    """Everything that may go. Raises StoreError when the registry cannot be read."""
    found = [*_leftovers(settings), *_unknown_conversions(settings)]
    for layout in repositories(settings.hub_cache):
        found += [*_orphans(layout), *_scratch(layout)]
    found += [*_stagings(settings, unfinished=with_partials), *_outlines(settings)]
    if with_partials:
        found += _partials(settings)
    return tuple(sorted(found, key=lambda item: item.path))


def remove(items: Sequence[Item], settings: Settings, removed: Callable[[Item], None]) -> tuple[FastSLMError, ...]:
    """Remove what of ``items`` is still garbage; ``removed`` is told of each.

    Returns:
        What could not be removed, one error for each.
    """
    still = {item.path for item in collect(settings, with_partials=True)}
    problems: list[FastSLMError] = []
    for item in items:
        if item.path not in still:
            continue
        try:
            with cache.locked([item.lock] if item.lock is not None else [], _refuse), file_errors("remove", item.path):
                _remove(item.path, settings)
        except _Busy:
            continue
        except FastSLMError as error:
            problems.append(error)
        else:
            removed(item)
    return tuple(problems)


def _refuse() -> None:
    raise _Busy("another process is at work")


def _remove(path: Path, settings: Settings) -> None:
    if path.parent.parent == settings.models_dir and not path.name.startswith("."):
        models.delete(path, settings.models_dir)
    elif path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _leftovers(settings: Settings) -> Iterator[Item]:
    for path in models.leftovers(settings.models_dir):
        if models.rescued(path) is None:
            yield Item(path, models.size_bytes(path), "a process that was making it has ended")
    for folder in (settings.home, settings.downloads_dir, *settings.downloads_dir.glob("*")):
        for path in folder.glob(".*.tmp"):
            match = _TEMPORARY.fullmatch(path.name)
            if match and path.is_file() and not process_is_alive(int(match[1])):
                yield Item(path, path.stat().st_size, "a process that was writing it has ended")
        for path in folder.glob(".part-*"):
            if _is_old(path):
                yield Item(path, models.size_bytes(path), "left by an interrupted download", lock=folder / ".lock")


def _unknown_conversions(settings: Settings) -> Iterator[Item]:
    """Conversions that no entry names; none while a damaged registry lies aside, which may name them all."""
    registry = Registry(settings.registry_file)
    known = {Path(entry.folder).resolve() for entry in registry.list() if entry.folder}
    if any(settings.home.glob(f"{settings.registry_file.name}.damaged-*")):
        return
    for folder in settings.models_dir.glob("[!.]*/[!.]*"):
        if folder.is_dir() and folder.resolve() not in known and _is_old(folder / MANIFEST_NAME, folder):
            yield Item(folder, models.size_bytes(folder), "no registered model uses it")


def _stagings(settings: Settings, *, unfinished: bool) -> Iterator[Item]:
    """Conversions that did not end and that nobody will go on with; with ``unfinished`` also the others."""
    entries = Registry(settings.registry_file).list()
    waiting = {each.name for each in entries if each.at_work or each.resumable or each.stage == "conversion"}
    for folder in staging.stagings(settings.models_dir):
        is_awaited = staging.subject_of(folder).get("name") in waiting
        if _is_old(folder / staging.LEDGER, folder) and (unfinished or not is_awaited):
            lock = models.lock_path(staging.place_of(folder))
            yield Item(folder, models.size_bytes(folder), "left by an interrupted conversion", lock=lock)


def _outlines(settings: Settings) -> Iterator[Item]:
    """Headers of models that are not being converted any more."""
    for folder in settings.models_dir.glob(f"*/.*{outline.SUFFIX}"):
        if folder.is_dir() and _is_old(folder) and not any(folder.parent.glob(f".*{staging.SUFFIX}")):
            yield Item(folder, models.size_bytes(folder), "left by an interrupted conversion")


def _orphans(layout: RepoLayout) -> Iterator[Item]:
    used = {target(pointer).resolve() for _, _, pointer in pointers(layout)}
    reason = f"no snapshot of `{layout.repo}` shows it"
    aside = (layout.folder / "blobs").glob(f"*{ASIDE}")
    for blob in [*blobs(layout), *aside]:
        if blob.resolve() not in used and _is_old(blob):
            yield Item(blob, blob.stat().st_size, reason, lock=layout.own_lock)


def _scratch(layout: RepoLayout) -> Iterator[Item]:
    for path in layout.partials.glob("*"):
        if (path.suffix in SCRATCH or path.name.startswith(".links-")) and _is_old(path):
            yield Item(path, path.lstat().st_size, "left by an interrupted download", lock=layout.own_lock)


def _partials(settings: Settings) -> Iterator[Item]:
    for each in partials(settings):
        for path in (each.file, each.journal):
            if path.exists():
                size = each.disk_bytes if path == each.file else 0
                yield Item(path, size, f"an unfinished download of `{each.owner}`", lock=each.lock)


def _is_old(*paths: Path) -> bool:
    """Whether the first of these that exists has not been touched for a while."""
    for path in paths:
        with suppress(OSError):
            return time.time() - path.lstat().st_mtime > YOUNG_S
    return False
