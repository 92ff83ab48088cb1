"""Downloads that are not complete: the files with holes that the engine leaves, and where they belong."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fastslm.config import Settings
from fastslm.hub.disk.inventory import repositories


@dataclass(frozen=True)
class Partial:
    """One unfinished file.

    Attributes:
        owner: repository, or the folder's name for a file from an address.
        file, journal: what there is; one of them may be missing.
        size_bytes: length of the file, holes included.
        done_bytes: of these, received and in good order, by the journal.
        disk_bytes: room that it takes.
        lock: held while somebody works on it.
    """

    owner: str
    file: Path
    journal: Path
    size_bytes: int
    done_bytes: int
    disk_bytes: int
    lock: Path

    def belongs_to(self, name: str) -> bool:
        """Whether it is part of a model, by its canonical name: a repository (file, revision), or an address."""
        repo = "/".join(name.partition("@")[0].split("/")[:2])
        return self.owner in (repo, hashlib.sha256(name.encode()).hexdigest()[:16])


def partials(settings: Settings) -> Iterator[Partial]:
    """Every unfinished download of ours."""
    for layout in repositories(settings.hub_cache):
        yield from _in_folder(layout.repo, layout.partials, layout.own_lock)
    for folder in sorted(settings.downloads_dir.glob("*")):
        for place in (folder, folder / ".part"):
            yield from _in_folder(folder.name, place, folder / ".lock")


def _in_folder(owner: str, folder: Path, lock: Path) -> Iterator[Partial]:
    from fastslm._native import unfinished_bytes

    stems = {path.with_suffix("") for kind in ("*.partial", "*.journal") for path in folder.glob(kind)}
    for stem in sorted(stems):
        file, journal = (stem.with_name(f"{stem.name}.{kind}") for kind in ("partial", "journal"))
        size, disk = _sizes(file)
        done = (unfinished_bytes(str(file), str(journal)) or (0, 0))[1]
        yield Partial(owner, file, journal, size, done, disk + _sizes(journal)[1], lock)


def _sizes(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_size, min(found.st_size, getattr(found, "st_blocks", found.st_size) * 512)
