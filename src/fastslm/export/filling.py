"""Fill the weights file in the order in which tensors arrive, and go on where a killed conversion stopped.

A graph is built twice: first to learn which matrices go where, with vectors of zeros; then, when every tensor is
converted, with the vectors themselves. Law: what an earlier process noted is used only if the bytes that it wrote
are still there, and if those that it read were the right ones.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fastslm.export.encoding import check_finite
from fastslm.export.matrices import Filling, MatrixWriter
from fastslm.export.weights import Region, WeightsFile
from fastslm.formats.mapping import digest_of, map_file
from fastslm.formats.source import Extent, TensorSource
from fastslm.store.ledger import Finished, Ledger, key_of

Vector = npt.NDArray[np.float32]


class Arrivals(Protocol):
    """Which bytes of the source can be read."""

    def rank(self, extents: Sequence[Extent]) -> tuple[int, ...]:
        """Bytes of a lower rank arrive earlier."""

    def is_here(self, extents: Sequence[Extent]) -> bool:
        """Whether reading them would not have to wait."""

    def is_proven(self, extents: Sequence[Extent]) -> bool:
        """Whether they were compared with the hash of their file."""

    def stays(self, extents: Sequence[Extent]) -> bool:
        """Whether they can be read once more when they were converted."""

    def is_gone(self, extents: Sequence[Extent]) -> bool:
        """Whether they cannot be read at all, because an earlier process has noted what came of them."""

    def digest(self, extents: Sequence[Extent]) -> str:
        """SHA-256 of bytes that are here."""

    def wait(self) -> None:
        """Until more is here. Raises what makes waiting useless."""

    def planned(self, wanted: Mapping[str, Sequence[Extent]], taken: Mapping[str, Sequence[Extent]]) -> None:
        """Told by key what will be read, before anything is, and what an earlier process read, where that is gone and
        was not proven.
        """

    def converted(self, key: str) -> None:
        """Told when something has been read and what came of it is noted."""


class AtHand:
    """Everything was here, and checked, before."""

    def rank(self, extents: Sequence[Extent]) -> tuple[int, ...]:
        """All the same: the order of the graph is kept."""
        return ()

    def is_here(self, extents: Sequence[Extent]) -> bool:
        """Always."""
        return True

    def is_proven(self, extents: Sequence[Extent]) -> bool:
        """Always."""
        return True

    def stays(self, extents: Sequence[Extent]) -> bool:
        """Always."""
        return True

    def is_gone(self, extents: Sequence[Extent]) -> bool:
        """Never."""
        return False

    def digest(self, extents: Sequence[Extent]) -> str:
        """See ``Arrivals``."""
        return digest_of(map_file(each.path)[each.begin : each.end] for each in extents)

    def wait(self) -> None:
        """Nobody has to."""

    def planned(self, wanted: Mapping[str, Sequence[Extent]], taken: Mapping[str, Sequence[Extent]]) -> None:
        """Nobody asked."""

    def converted(self, key: str) -> None:
        """Nobody asked."""


@dataclass(frozen=True)
class Course:
    """How a conversion is gone about: where it notes what is finished, and what it has to wait for."""

    ledger: Ledger | None = None
    arrivals: Arrivals = field(default_factory=AtHand)
    counted: Callable[[int, int], None] = lambda total, reused: None


@dataclass(frozen=True)
class Item:
    """Tensors that are converted together.

    Attributes:
        names: as ``source`` has them, which may arrange the rows of what the files have.
        extents: where the files have them.
        filling: None for a vector.
    """

    names: tuple[str, ...]
    extents: tuple[Extent, ...]
    filling: Filling | None
    source: TensorSource

    @property
    def key(self) -> str:
        """What it is noted under."""
        return key_of(self.names[0], in_file=self.filling is not None)

    @property
    def places(self) -> tuple[tuple[int, int], ...]:
        """Offsets and lengths in the weights file."""
        regions = self.filling.regions if self.filling else ()
        return tuple((region.offset, region.size_bytes) for region in regions)


@dataclass(frozen=True)
class Recorder(MatrixWriter):
    """Gives everything its place and remembers what is to be done."""

    items: dict[str, Item] = field(default_factory=dict)

    def fill(self, filling: Filling) -> None:
        """To be done later."""
        self._add(filling.names, filling)

    def vector(self, *names: str) -> Vector:
        """Zeros, for the time being."""
        for name in names:
            self._add((name,), None)
        return np.concatenate([np.zeros(self.source.info(name).shape, np.float32) for name in names])

    def _add(self, names: tuple[str, ...], filling: Filling | None) -> None:
        extents = tuple(extent for name in names for extent in self.source.extents(name))
        item = Item(names, extents, filling, self.source)
        self.items[item.key] = item


@dataclass(frozen=True)
class Placed(MatrixWriter):
    """Gives everything the place that it has been given before, when all is converted."""

    values: Mapping[str, Vector] = field(default_factory=dict)

    def fill(self, filling: Filling) -> None:
        """It is done."""

    def vector(self, *names: str) -> Vector:
        """The numbers of tensors, one after the other."""
        return np.concatenate([self.values[name] for name in names])


class Reserving(WeightsFile):
    """Gives out the regions of another weights file, and writes nothing."""

    def __init__(self, weights: WeightsFile) -> None:
        self.path = weights.path
        self._weights = weights

    def reserve(self, size_bytes: int) -> Region:
        """See ``WeightsFile``."""
        return self._weights.reserve(size_bytes)

    def write(self, region: Region, start: int, array: npt.NDArray[Any]) -> None:
        """Nothing is kept."""


class Filler:
    """Converts what a ``Recorder`` has recorded."""

    def __init__(self, recorder: Recorder, course: Course) -> None:
        self._plan = recorder
        self._writer = MatrixWriter(
            recorder.source, recorder.weights, recorder.precision, recorder.pool, recorder.report, recorder.importance
        )
        self._ledger, self._arrivals = course.ledger, course.arrivals
        self._unsigned: list[Item] = []
        self.values: dict[str, Vector] = {}
        self.reused = 0

    def run(self) -> None:
        """Convert every tensor, as it arrives. Raises as ``MatrixWriter``, and what ``Arrivals.wait`` raises."""
        items = sorted(self._plan.items.values(), key=lambda item: self._arrivals.rank(item.extents))
        noted = self._noted(items)
        ready = [item for item in items if item.key in noted and noted[item.key].proven]
        for item in ready:
            self._take(item, noted[item.key])
        done = {item.key for item in ready}
        rest = [item for item in items if item.key not in done]
        gone = [item for item in rest if item.key in noted and self._arrivals.is_gone(item.extents)]
        taken = {item.key: item.extents for item in gone}
        rest = [item for item in rest if item.key not in taken]
        self._arrivals.planned({item.key: item.extents for item in rest}, taken)
        for item in gone:
            self._take(item, noted[item.key])
        sealing: list[Future[None]] = []
        for item in self._as_they_arrive(rest):
            if item.key in noted and self._is_of_these_bytes(noted[item.key], item):
                self._take(item, noted[item.key])
            else:
                sealing.append(self._convert(item))
        for each in sealing:
            each.result()

    def placed(self) -> Placed:
        """For the graph itself, when everything is converted."""
        plan = self._plan
        return Placed(plan.source, plan.weights, plan.precision, plan.pool, plan.report, plan.importance, self.values)

    def _as_they_arrive(self, items: Sequence[Item]) -> Iterator[Item]:
        waiting = dict(enumerate(items))
        while waiting:
            found = next((i for i, item in waiting.items() if self._arrivals.is_here(item.extents)), None)
            if found is not None:
                yield waiting.pop(found)
            elif self._unsigned:  # time to note what was read, for a process that may come after this one
                self._sign(self._unsigned.pop())
            else:
                self._arrivals.wait()

    def _noted(self, items: Sequence[Item]) -> dict[str, Finished]:
        """What the ledger has of these items in these places, if the bytes are as it says."""
        if self._ledger is None:
            return {}
        pairs = [(item, found) for item in items if (found := self._ledger.find(item.key)) is not None]
        sound = self._plan.pool.map(self._is_sound, pairs)
        return {item.key: found for (item, found), good in zip(pairs, sound, strict=True) if good}

    def _is_sound(self, pair: tuple[Item, Finished]) -> bool:
        item, found = pair
        assert self._ledger is not None  # only then there are pairs
        if (found.names, found.extents) != (item.names, item.places):
            return False
        return item.key in self._ledger.trusted or self._checksum(item, found.values) == found.checksum

    def _is_of_these_bytes(self, found: Finished, item: Item) -> bool:
        trusted = self._ledger is not None and item.key in self._ledger.trusted
        return trusted or (found.source != "" and found.source == self._arrivals.digest(item.extents))

    def _take(self, item: Item, found: Finished) -> None:
        if item.filling is None:
            numbers = np.frombuffer(base64.b64decode(found.values), np.float32)
            self.values[item.names[0]] = numbers.reshape(item.source.info(item.names[0]).shape)
        assert self._ledger is not None  # it noted this
        self._ledger.accept(item.key)
        self.reused += len(item.names) if item.key in self._ledger.inherited else 0
        self._arrivals.converted(item.key)
        for name in item.names:
            self._plan.report(name)

    def _convert(self, item: Item) -> Future[None]:
        """Convert now; the result is noted a little later, while the next item is being converted."""
        proven, values = self._arrivals.is_proven(item.extents), b""
        if item.filling is None:
            values = self._read(item).tobytes()
        else:
            self._writer.fill(item.filling)
        if not proven and self._arrivals.stays(item.extents):
            self._unsigned.append(item)
        return self._plan.pool.submit(self._seal, item, base64.b64encode(values).decode(), proven)

    def _read(self, item: Item) -> Vector:
        (name,) = item.names
        vector = item.source.read(name)
        check_finite(name, vector)
        self.values[name] = vector
        self._plan.report(name)
        return vector

    def _seal(self, item: Item, values: str, proven: bool) -> None:
        if self._ledger is not None:
            checksum = self._checksum(item, values)
            self._ledger.note(Finished(item.names, item.places, checksum, proven, values=values))
        self._arrivals.converted(item.key)

    def _sign(self, item: Item) -> None:
        found = self._ledger.find(item.key) if self._ledger is not None else None
        if self._ledger is not None and found is not None and not found.proven and not found.source:
            self._ledger.note(replace(found, source=self._arrivals.digest(item.extents)))

    def _checksum(self, item: Item, values: str) -> int:
        if item.filling is None:
            return zlib.crc32(values.encode())
        return self._plan.weights.checksum(item.filling.regions)
