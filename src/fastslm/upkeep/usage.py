"""What takes room on the disk. A file that is reached by several names (a blob, a hard link) counts once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fastslm.config import Settings
from fastslm.hub.address import read_record
from fastslm.hub.disk.imports import imports
from fastslm.hub.disk.inventory import repositories
from fastslm.hub.disk.partials import partials
from fastslm.store import models

Kind = Literal["hub cache", "converted", "download", "partial", "leftover"]


@dataclass(frozen=True)
class Row:
    """One thing that takes room: what it is, whose, where, how many bytes."""

    kind: Kind
    name: str
    path: Path
    bytes: int


@dataclass(frozen=True)
class Usage:
    """All rows, largest first in each kind, and what the disk of the models has left."""

    rows: tuple[Row, ...]
    free_bytes: int

    @property
    def total_bytes(self) -> int:
        """Bytes of all rows."""
        return sum(row.bytes for row in self.rows)


def usage(settings: Settings) -> Usage:
    """Measure everything. What vanishes meanwhile is not counted."""
    counter = _Counter()
    rows = [*_partial(settings, counter), *_leftover(settings, counter)]  # before the folders they lie in
    rows += [*_hub(settings, counter), *_downloads(settings, counter), *_converted(settings, counter)]
    kinds: tuple[Kind, ...] = ("converted", "hub cache", "download", "partial", "leftover")
    ordered = sorted(rows, key=lambda row: (kinds.index(row.kind), -row.bytes, row.name))
    here = next(place for place in (settings.home, *settings.home.parents) if place.exists())
    return Usage(tuple(row for row in ordered if row.bytes), shutil.disk_usage(here).free)


class _Counter:
    """Adds up files, each inode once."""

    def __init__(self) -> None:
        self._seen: set[tuple[int, int]] = set()

    def files(self, paths: Iterable[Path]) -> int:
        return sum(self._one(path) for path in paths)

    def tree(self, folder: Path) -> int:
        return self.files(Path(root, name) for root, _, names in os.walk(folder) for name in names)

    def _one(self, path: Path) -> int:
        try:
            found = path.lstat()
        except OSError:
            return 0
        key = (found.st_dev, found.st_ino)
        if key in self._seen or path.is_symlink():
            return 0
        self._seen.add(key)
        return min(found.st_size, getattr(found, "st_blocks", found.st_size) * 512)


def _hub(settings: Settings, counter: _Counter) -> Iterator[Row]:
    for layout in repositories(settings.hub_cache):
        yield Row("hub cache", layout.repo, layout.folder, counter.tree(layout.folder))


def _converted(settings: Settings, counter: _Counter) -> Iterator[Row]:
    for folder in sorted(path for path in settings.models_dir.glob("[!.]*/*") if path.is_dir()):
        yield Row("converted", f"{folder.parent.name}/{folder.name}", folder, counter.tree(folder))


def _downloads(settings: Settings, counter: _Counter) -> Iterator[Row]:
    names = {folder: record.name for folder, record in imports(settings)}
    for folder in sorted(path for path in settings.downloads_dir.glob("*") if path.is_dir()):
        source = read_record(folder)
        name = names.get(folder) or (source.name if source is not None else folder.name)
        yield Row("download", name, folder, counter.tree(folder))


def _partial(settings: Settings, counter: _Counter) -> Iterator[Row]:
    for each in partials(settings):
        yield Row("partial", each.owner, each.file, counter.files((each.file, each.journal)))


def _leftover(settings: Settings, counter: _Counter) -> Iterator[Row]:
    for path in models.leftovers(settings.models_dir):
        yield Row("leftover", path.name, path, counter.tree(path))
