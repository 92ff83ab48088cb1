"""The registry as the steps of a pull write it: every step is recorded, and so is every failure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from fastslm.api.names import Notice, ignore, meant
from fastslm.config import Settings
from fastslm.errors import Cancelled, NotFoundError
from fastslm.store.entry import CANCELLED, Entry
from fastslm.store.registry import Registry

if TYPE_CHECKING:
    from fastslm.engine.quality.options import Checks
    from fastslm.export.options import ConvertOptions
    from fastslm.hub import Fetched


def find_entry(name: str, precision: str, settings: Settings, notice: Notice = ignore) -> Entry | None:
    """The registry's best answer to a name: the precision asked for, else one that turned out to be it; or None."""
    ref = meant(name, None, settings)
    with open_registry(settings, notice) as registry:
        asked = registry.get(ref.name, precision)
        if asked is not None and asked.usable:
            return asked
        if precision == "auto":
            return registry.find(ref.name) or asked
        same = [e for e in registry.list() if e.name == ref.name and e.usable and e.resolved_precision == precision]
        return same[0] if same else asked


@contextmanager
def open_registry(settings: Settings, notice: Notice) -> Iterator[Registry]:
    """The registry; what it has to say reaches the user however the work ends."""
    registry = Registry(settings.registry_file)
    try:
        yield registry
    finally:
        for text in registry.notices:
            notice(text)


@contextmanager
def recorded(registry: Registry, entry: Entry, stage: str | Callable[[BaseException], str]) -> Iterator[None]:
    """Write the failure of a stage into the registry, whatever it is. A name that never existed leaves no entry."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, NotFoundError) and not entry.snapshot and not entry.folder:
            registry.remove(entry.name, entry.precision)
        else:
            stopped = isinstance(error, Cancelled) or not isinstance(error, Exception)
            cause = CANCELLED if stopped else str(error) or type(error).__name__
            registry.fail(entry, stage=stage if isinstance(stage, str) else stage(error), cause=cause)
        raise


def downloaded(registry: Registry, entry: Entry, fetched: Fetched, *, discarded: bool = False) -> Entry:
    """Record that the source files are here, or all that is wanted of them."""
    commit = fetched.commit or fingerprint(fetched.path)
    size = sum(path.stat().st_size for path in _files(fetched) if path.exists())
    facts: dict[str, str | int | Path] = {"commit": commit, "snapshot": fetched.path, "size_bytes": size}
    if not discarded:
        facts["discarded"] = ""
    return registry.advance(entry, "downloaded", **facts)


def of_no_source(name: str, commit: str, options: ConvertOptions, checks: Checks, settings: Settings) -> Entry | None:
    """The conversion that is wanted, if it is here and the weights that it was made of were not kept."""
    from fastslm.engine.usable import is_same

    entry = Registry(settings.registry_file).get(name, options.precision)
    known = entry is not None and entry.discarded and entry.commit == commit and entry.folder
    return entry if known and entry is not None and is_same(Path(entry.folder), options, checks) else None


def discard(fetched: Fetched, settings: Settings) -> None:
    """Remove what a model's conversion was made of, as far as nobody else needs it. Raises FileSystemError."""
    from fastslm.hub.forget import forget_weights

    forget_weights(fetched.ref.repo, fetched.commit, fetched.files, settings)


def ready_again(registry: Registry, entry: Entry) -> Entry:
    """A downloaded model is ``ready`` when a conversion of these very files is there already."""
    from fastslm.engine.usable import is_sound
    from fastslm.store import models

    if not entry.folder or not is_sound(Path(entry.folder), commit=entry.commit):
        return entry
    return registry.advance(entry, "ready", size_bytes=models.size_bytes(Path(entry.folder)))


def _files(fetched: Fetched) -> list[Path]:
    if fetched.path.is_file():
        return [fetched.path]
    return [fetched.path / name for name in fetched.files]


def fingerprint(path: Path) -> str:
    """SHA-256 over names, sizes and times of a local model's files: changes when they do, costs no reading."""
    files = [path] if path.is_file() else sorted(p for p in path.iterdir() if p.is_file())
    digest = sha256()
    for file in files:
        status = file.stat()
        digest.update(f"{file.name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()
