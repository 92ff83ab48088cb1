"""Tensors as a graph wants them, when the files hold them otherwise: transposed, fused, reordered, shifted.

Law: nothing is copied before it is read; a whole matrix is held in memory only while it is transposed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from threading import Lock

import numpy as np
import numpy.typing as npt

from fastslm.errors import UnsupportedModel
from fastslm.formats.source import Extent, TensorInfo, TensorSource

Floats = npt.NDArray[np.float32]
Run = tuple[int, int]


@dataclass(frozen=True)
class Tensor:
    """One tensor of a model, or some of its rows.

    Attributes:
        name, shape: as the files have it.
        transposed: the graph wants [columns, rows].
        runs: ranges of rows (after transposing) in the wanted order; empty for all as they lie.
        added: what is added to every number.
    """

    name: str
    shape: tuple[int, ...]
    transposed: bool = False
    runs: tuple[Run, ...] = ()
    added: float = 0.0

    @property
    def is_plain(self) -> bool:
        """Whether the graph wants it as it lies in the file."""
        return not (self.transposed or self.runs or self.added)

    @property
    def key(self) -> str:
        """Its name for the graph, different for different rows of one tensor."""
        if not self.runs or self.rows == self._all_rows:
            return self.name
        module, _, kind = self.name.rpartition(".")
        return f"{module}[{self.runs[0][0]}:{self.runs[-1][1]}].{kind}"

    @property
    def rows(self) -> int:
        """How many rows the graph sees."""
        return sum(stop - start for start, stop in self.runs) if self.runs else self._all_rows

    @property
    def wanted_shape(self) -> tuple[int, ...]:
        """The shape that the graph sees."""
        return (self.rows, *(self.shape[::-1] if self.transposed else self.shape)[1:])

    @property
    def _all_rows(self) -> int:
        return self.shape[-1] if self.transposed else self.shape[0]


class ArrangedTensors:
    """The tensors of a source under the keys of their description; those that nobody described stay as they are."""

    def __init__(self, source: TensorSource, described: Iterable[Tensor]) -> None:
        self._source = source
        self._arranged = {tensor.key: tensor for tensor in described if not tensor.is_plain}
        self._lock = Lock()
        self._turned: tuple[str, Floats] | None = None

    def __iter__(self) -> Iterator[str]:
        return iter({**dict.fromkeys(self._source), **self._arranged})

    def __contains__(self, name: object) -> bool:
        return name in self._arranged or name in self._source

    def info(self, name: str) -> TensorInfo:
        """Type and shape as the graph sees them; turned or shifted blocks are floats."""
        tensor = self._arranged.get(name)
        if tensor is None:
            return self._source.info(name)
        found = self._source.info(tensor.name)
        if tensor.transposed and found.column_order is not None:
            message = f"tensor `{tensor.name}` sorts its inputs (act-order), but is used transposed"
            raise UnsupportedModel(message, feature="act-order")
        kind = "F32" if tensor.transposed or tensor.added else found.dtype
        return TensorInfo(name, kind, tensor.wanted_shape, found.column_order)

    def read(self, name: str, start: int = 0, stop: int | None = None) -> Floats:
        """Rows as float32, see ``TensorSource``."""
        tensor = self._arranged.get(name)
        if tensor is None:
            return self._source.read(name, start, stop)
        parts = [self._plain_rows(tensor, *run) for run in _wanted_runs(tensor, start, stop)]
        values = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return values + np.float32(tensor.added) if tensor.added else values

    def blocks(self, name: str, start: int = 0, stop: int | None = None) -> npt.NDArray[np.uint8]:
        """Raw blocks of rows, see ``TensorSource``."""
        tensor = self._arranged.get(name)
        if tensor is None:
            return self._source.blocks(name, start, stop)
        return np.concatenate([self._source.blocks(tensor.name, *run) for run in _wanted_runs(tensor, start, stop)])

    def extents(self, name: str) -> tuple[Extent, ...]:
        """See ``TensorSource``."""
        tensor = self._arranged.get(name)
        return self._source.extents(name if tensor is None else tensor.name)

    def _plain_rows(self, tensor: Tensor, start: int, stop: int) -> Floats:
        if not tensor.transposed:
            return self._source.read(tensor.name, start, stop)
        return self._whole_turned(tensor.name)[start:stop]

    def _whole_turned(self, name: str) -> Floats:
        """The transposed matrix; the last one is kept, because its rows are asked for a few at a time."""
        with self._lock:
            if self._turned is None or self._turned[0] != name:
                self._turned = (name, np.ascontiguousarray(self._source.read(name).T))
            return self._turned[1]


def head_runs(heads: int, rows: int, parts: int) -> tuple[Run, ...]:
    """Rows of query, key and value that lie head by head, as runs that put all queries first, then keys, values.

    Args:
        heads: groups of ``parts`` pieces.
        rows: rows of one piece.
        parts: pieces of one group, 3 for query, key, value.
    """
    starts = [(head * parts + part) * rows for part in range(parts) for head in range(heads)]
    return tuple((start, start + rows) for start in starts)


def _wanted_runs(tensor: Tensor, start: int, stop: int | None) -> list[Run]:
    """The part of the runs that rows ``start:stop`` of the result are made of."""
    last = tensor.rows if stop is None else min(stop, tensor.rows)
    found, before = [], 0
    for first, end in tensor.runs or ((0, tensor.rows),):
        low, high = max(start - before, 0), min(last - before, end - first)
        if low < high:
            found.append((first + low, first + high))
        before += end - first
    return found or [(0, 0)]
