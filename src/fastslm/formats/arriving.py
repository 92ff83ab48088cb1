"""Model files that are read while they arrive: whoever asks for bytes waits until they are here.

Headers are read from an outline (a file of full length whose weights are a hole), everything else from the file
itself. Law: what was read before its file was verified is told apart from what was read afterwards; a file that turns
out to be another than its outline, or is repaired after it was read, is doubted, and nothing read of it may be used.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fastslm.errors import Cancelled, FileMissing, FormatError
from fastslm.formats.mapping import ModelFile, digest_of, map_file
from fastslm.formats.source import Extent

POLL_S = 0.5


Range = tuple[int, int]
"""Where bytes begin and end."""


class Doubted(FormatError):
    """Bytes that were read are not those of the file."""


@dataclass
class Coming:
    """A file on its way.

    Attributes:
        places: where it is while it arrives, and afterwards.
        size: in bytes.
        ready: how much of its beginning is here.
        verified: it is complete, and its hash is right.
        doubted: it is being repaired: nothing counts but its verification.
        wanted: keys of what is still to be made of it.
        passes: what was used of it is given back to the disk.
        gone: ranges that an earlier process gave back.
        spent: ranges of what was converted, not yet given back.
    """

    places: tuple[Path, ...]
    size: int
    ready: int = 0
    verified: bool = False
    doubted: bool = False
    wanted: set[str] = field(default_factory=set)
    mapped: npt.NDArray[np.uint8] | None = None
    passes: bool = False
    gone: tuple[Range, ...] = ()
    spent: list[tuple[Range, ...]] = field(default_factory=list)


class ArrivingFiles:
    """Files by the place of their outline; every other file is simply here. Methods may be called from any thread."""

    def __init__(self, coming: Mapping[Path, Coming]) -> None:
        self._coming = coming
        self._order = {path: number for number, path in enumerate(coming)}
        self._headers: dict[Path, npt.NDArray[np.uint8]] = {}
        self._keys: dict[str, Sequence[Extent]] = {}
        self._change = threading.Condition()
        self._end: Exception | None = None
        self.is_shaken = False
        self._vain_looks = 0
        self.is_planned = False

    # What the download says.

    def arrived(self, path: Path, ready: int) -> None:
        """So much of a file's beginning is here."""
        with self._change:
            if ready > self._coming[path].ready:
                self._coming[path].ready = ready
                self._news()

    def doubt(self, path: Path) -> None:
        """What was read of a file may be wrong: whoever reads begins again, and waits for the whole file."""
        with self._change:
            if not self._coming[path].doubted:
                self._coming[path].doubted = True
                self._coming[path].gone = ()
                self._coming[path].spent.clear()
                self.is_shaken = True
                self._change.notify_all()

    def verified(self, path: Path) -> list[str]:
        """A file is complete and right. Returns the keys of what was made of verified files alone."""
        with self._change:
            self._coming[path].verified = True
            self._news()
            if self.is_shaken:  # what was made may have been made of other bytes
                return []
        return [key for key, extents in list(self._keys.items()) if self.is_proven(extents)]

    def stop(self, reason: Exception) -> None:
        """Whoever waits, or asks for bytes, gets this instead."""
        with self._change:
            self._end = self._end or reason
            self._change.notify_all()

    # What the conversion asks.

    def open(self, path: Path) -> ModelFile:
        """For ``open_model``. Raises as ``map_file``."""
        if path not in self._coming:
            return ModelFile(path)
        file = _ArrivingFile(path, self)
        self._headers[path] = file.outline[: _header_bytes(path)]
        return file

    def rank(self, extents: Sequence[Extent]) -> tuple[int, ...]:
        """See ``export.filling.Arrivals``: files come one after another, each from its beginning."""
        return max(((self._order.get(each.path, -1), each.end) for each in extents), default=(-1, 0))

    def is_here(self, extents: Sequence[Extent]) -> bool:
        """See ``Arrivals``."""
        return all(self._is_here(each) for each in extents)

    def is_proven(self, extents: Sequence[Extent]) -> bool:
        """See ``Arrivals``."""
        return all(each.path not in self._coming or self._coming[each.path].verified for each in extents)

    def stays(self, extents: Sequence[Extent]) -> bool:
        """See ``Arrivals``."""
        return not any(each.path in self._coming and self._coming[each.path].passes for each in extents)

    def is_gone(self, extents: Sequence[Extent]) -> bool:
        """See ``Arrivals``."""
        return bool(extents) and all(
            each.path in self._coming and _covered(each, self._coming[each.path].gone) for each in extents
        )

    def digest(self, extents: Sequence[Extent]) -> str:
        """See ``Arrivals``."""
        return digest_of(self.part(each) for each in extents)

    def wait(self) -> None:
        """Until something has changed, or for a moment. Raises what the reading was stopped for."""
        with self._change:
            self.check()
            self._vain_looks += 1
            self._change.wait(POLL_S)
            self.check()

    def planned(self, wanted: Mapping[str, Sequence[Extent]], taken: Mapping[str, Sequence[Extent]]) -> None:
        """See ``Arrivals``."""
        with self._change:
            self._keys, self.is_shaken = {**wanted, **taken}, False
            for coming in self._coming.values():
                coming.wanted.clear()
            for key, extents in wanted.items():
                for each in extents:
                    if each.path in self._coming:
                        self._coming[each.path].wanted.add(key)
            self.is_planned = True
            self._change.notify_all()

    def converted(self, key: str) -> None:
        """See ``Arrivals``."""
        with self._change:
            for each in self._coming.values():
                each.wanted.discard(key)
            self._note_spent(key)
            self._change.notify_all()

    def _note_spent(self, key: str) -> None:
        """What only this was made of is not needed any more; what lies in two files stays as long as these do."""
        extents = self._keys.get(key, ())
        paths = {each.path for each in extents}
        coming = self._coming.get(*paths) if len(paths) == 1 else None
        if coming is not None and coming.passes and not coming.doubted:
            others = [each for other in coming.wanted for each in self._keys[other]]
            free = [each for each in extents if not any(_overlap(each, other) for other in others)]
            coming.spent.append(tuple((each.begin, each.end) for each in free))

    # What becomes of the files.

    def let_pass(self, path: Path) -> bool:
        """Whether a file may be given back piece by piece: not if something of it that is gone is needed again. Then
        it is fetched whole, and what was made of it is doubted.
        """
        with self._change:
            coming = self._coming[path]
            needed = [each for key in coming.wanted for each in self._keys[key] if each.path == path]
            coming.passes = not coming.doubted and not any(_touched(each, coming.gone) for each in needed)
        if not coming.passes:
            self.doubt(path)
        return coming.passes

    def spent(self, path: Path, hashed_bytes: int, worth_bytes: int) -> list[Range]:
        """Ranges that were converted and noted, told once, if they are so many bytes of what the hash went over."""
        with self._change:
            spent = self._coming[path].spent
            told = [ranges for ranges in spent if all(end <= hashed_bytes for _, end in ranges)]
            flat = [each for ranges in told for each in ranges]
            if sum(end - begin for begin, end in flat) < worth_bytes:
                return []
            self._coming[path].spent = [ranges for ranges in spent if ranges not in told]
        return flat

    def limit(self, path: Path, window_bytes: int) -> int:
        """How far a file may be fetched, so that no more than this waits to be converted."""
        with self._change:
            coming = self._coming[path]
            waiting = [self._keys[key] for key in coming.wanted if self.is_here(self._keys[key])]
            behind = sum(each.end - each.begin for extents in waiting for each in extents)
            return coming.ready + max(0, window_bytes - behind)

    def is_needed(self, path: Path) -> bool:
        """Whether something is to be made of a file, or was made of it and is not proven."""
        with self._change:
            return not self.is_planned or any(each.path == path for keys in self._keys.values() for each in keys)

    def is_used_up(self, path: Path) -> bool:
        """Whether everything that is made of a file is made."""
        with self._change:
            return self.is_planned and not self._coming[path].wanted

    @property
    def paths(self) -> tuple[Path, ...]:
        """The places of the files that arrive."""
        return tuple(self._coming)

    @property
    def all_read_is_proven(self) -> bool:
        """Whether every file that was looked into is verified and is what it seemed, so that what was found is true."""
        if self.is_shaken or not all(self._coming[path].verified for path in self._headers):
            return False
        try:
            for path in self._headers:
                self.compare(path)
        except (Doubted, Cancelled):
            return False
        return True

    def settle(self) -> None:
        """Every file is verified: what was read before is dealt with, and what is read from now on is true."""
        with self._change:
            self.is_shaken = False

    def part(self, extent: Extent) -> npt.NDArray[np.uint8]:
        """Bytes of a file, once they are here. Raises Doubted, and what the reading was stopped for."""
        found = self._coming.get(extent.path)
        if found is None:
            return map_file(extent.path)[extent.begin : extent.end]
        while not self._is_here(extent):
            self.wait()
        with self._change:
            self.check()
            return self._mapped(found)[extent.begin : extent.end]

    @staticmethod
    def _mapped(coming: Coming) -> npt.NDArray[np.uint8]:
        if coming.mapped is None:
            coming.mapped = _map(coming)
        return coming.mapped

    def compare(self, path: Path) -> None:
        """A verified file's header must be its outline's, if that was looked at. Raises Doubted."""
        header = self._headers.get(path)
        if header is None:
            return
        with self._change:  # not by `part`, which also fails for what became of other bytes
            found = self._mapped(self._coming[path]) if path in self._coming else map_file(path)
        if not np.array_equal(found[: len(header)], header):
            raise Doubted(f"the header of `{path.name}` is not the one that was looked at before")

    @property
    def is_starving(self) -> bool:
        """Whether nothing can be done with what is here: it was looked at twice since the last news."""
        return self._vain_looks > 1

    def _news(self) -> None:
        self._vain_looks = 0
        self._change.notify_all()

    def _is_here(self, extent: Extent) -> bool:
        found = self._coming.get(extent.path)
        return found is None or found.verified or (found.ready >= extent.end and not found.doubted)

    def check(self) -> None:
        """Raise what the reading was stopped for, or Doubted when it must begin again."""
        if self.is_shaken:
            raise Doubted("a file was repaired after it was read")
        self.check_end()

    def check_end(self) -> None:
        """Raise what the reading was stopped for."""
        if self._end is not None:
            raise self._end


class _ArrivingFile(ModelFile):
    """One file: its header is the outline's."""

    def __init__(self, path: Path, files: ArrivingFiles) -> None:
        super().__init__(path)
        self._path, self._files = path, files

    def part(self, begin: int, end: int) -> npt.NDArray[np.uint8]:
        """See ``ModelFile``."""
        return self._files.part(Extent(self._path, begin, end))


def _touched(extent: Extent, ranges: Sequence[Range]) -> bool:
    return any(begin < extent.end and extent.begin < end for begin, end in ranges)


def _covered(extent: Extent, ranges: Sequence[Range]) -> bool:
    return any(begin <= extent.begin and extent.end <= end for begin, end in ranges)


def _overlap(one: Extent, other: Extent) -> bool:
    return one.path == other.path and _touched(one, [(other.begin, other.end)])


def _header_bytes(path: Path) -> int:
    """How much of an outline is more than a hole."""
    if path.suffix == ".safetensors":
        return 8 + int.from_bytes(map_file(path)[:8].tobytes(), "little")
    from fastslm.formats.gguf.header import GgufHeader

    return GgufHeader(path).header_bytes


def _map(coming: Coming) -> npt.NDArray[np.uint8]:
    """The file wherever it is; it keeps its bytes when it is moved."""
    for place in coming.places:
        try:
            mapped = map_file(place)
        except FileMissing:
            continue
        if len(mapped) != coming.size:
            raise Doubted(f"`{place.name}` has {len(mapped)} bytes, expected {coming.size}")
        return mapped
    raise Cancelled(f"`{coming.places[-1].name}` is gone")
