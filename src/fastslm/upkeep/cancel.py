"""Give up a download: stop whoever is at it, and remove what it left."""

from __future__ import annotations

import time
from dataclasses import dataclass

from fastslm.config import Settings
from fastslm.errors import FastSLMError, ModelNotFound, StoreError
from fastslm.hub import ModelRef, cache
from fastslm.hub.disk.partials import Partial, partials
from fastslm.hub.layout import file_errors
from fastslm.store import staging
from fastslm.store.cancel import asking
from fastslm.store.entry import Entry
from fastslm.store.registry import Registry

PATIENCE_S = 20.0
_GLANCE_S = 0.05


@dataclass(frozen=True)
class GivenUp:
    """What a cancellation did.

    Attributes:
        stopped: processes that were at work and have stopped.
        freed_bytes: room of the unfinished files that were removed.
        kept_bytes: room of those that stay for a later pull.
    """

    stopped: int
    freed_bytes: int
    kept_bytes: int


def cancel(ref: ModelRef, settings: Settings, *, keep: bool = False, patience_s: float = PATIENCE_S) -> GivenUp:
    """Stop every pull of a model; its unfinished files go, unless ``keep``. What was usable stays usable.

    Raises:
        ModelNotFound: nobody is downloading it, and nothing unfinished is here.
        StoreError: a process does not stop.
        FileSystemError: something could not be removed.
    """
    registry = Registry(settings.registry_file)
    entries = _unfinished(registry, ref.name)
    if not entries and not _partials_of(ref, settings):
        raise ModelNotFound(f"`{ref.name}` has no unfinished download", what="download", name=ref.name)
    running = {each.pid for each in entries if each.at_work}
    if running:
        with asking(ref.name, settings):
            _await_end(registry, ref.name, time.monotonic() + patience_s)
    left = _partials_of(ref, settings)
    size = sum(each.disk_bytes for each in left)
    if keep:
        return GivenUp(len(running), 0, size)
    for each in left:
        _remove(each)
    size += staging.drop(settings.models_dir, ref.name)
    for entry in _unfinished(registry, ref.name):
        registry.drop_work(entry)
    return GivenUp(len(running), size, 0)


def _unfinished(registry: Registry, name: str) -> list[Entry]:
    return [each for each in registry.list() if each.name == name and (each.at_work or each.resumable)]


def _partials_of(ref: ModelRef, settings: Settings) -> list[Partial]:
    return [each for each in partials(settings) if each.belongs_to(ref.name)]


def _await_end(registry: Registry, name: str, deadline: float) -> None:
    while True:
        busy = [each for each in registry.list() if each.name == name and each.at_work]
        if not busy:
            return
        if time.monotonic() > deadline:
            message = f"process {busy[0].pid} still works on `{name}`"
            raise StoreError(message, path=str(registry.path))
        time.sleep(_GLANCE_S)


def _remove(partial: Partial) -> None:
    with cache.locked([partial.lock], _refuse), file_errors("remove", partial.file):
        partial.file.unlink(missing_ok=True)
        partial.journal.unlink(missing_ok=True)


def _refuse() -> None:
    raise FastSLMError("another process is at work on the same files, perhaps for another revision")
