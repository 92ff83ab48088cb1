"""Write the matrices of a model into the weights file, a few rows at a time, on several threads.

Law: memory is bounded by ``CHUNK_WEIGHTS`` per thread, whatever the size of a tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np
import numpy.typing as npt

from fastslm.errors import FormatError, UnsupportedModel
from fastslm.export.encoding import (
    Encoding,
    check_finite,
    choose_encoding,
    encode_rows,
    last_layer_of,
    role_of,
)
from fastslm.export.weights import Region, WeightsFile
from fastslm.formats.source import TensorInfo, TensorSource

CHUNK_WEIGHTS = 128 * 1024
"""Weights per task: small enough that the quantiser's temporaries stay in the CPU's cache."""

IGNORED_SUFFIXES = (
    "rotary_emb.inv_freq",
    *("lm_head.weight", "embed_out.weight"),
    *(".attn.bias", ".attn.masked_bias", ".attention.bias", ".attention.masked_bias"),
)
"""Tensors that may be there unread: rotary tables, copies of a tied embedding, masks of older transformers."""


@dataclass(frozen=True)
class WantedTensor:
    """A tensor that a family needs, and the shape it must have."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class StoredMatrix:
    """A matrix [rows, columns] in the weights file, named like its first tensor; planes as ``Encoding`` orders them."""

    name: str
    encoding: Encoding
    rows: int
    columns: int
    planes: tuple[Region, ...]


@dataclass(frozen=True)
class Filling:
    """Regions of the weights file and what fills them.

    Attributes:
        names: the tensors that are read.
        regions: where their numbers go; nothing else is written.
        tasks: what is to be done, in any order and at the same time.
    """

    names: tuple[str, ...]
    regions: tuple[Region, ...]
    tasks: Callable[[], Iterable[Callable[[], None]]]


@dataclass(frozen=True)
class MatrixWriter:
    """Reads, encodes and writes tensors.

    Attributes:
        source: the model's tensors, checked by ``check_tensors``.
        weights: where they go.
        precision: one of ``encoding.POLICIES``, or ``exact``.
        pool: runs the tasks.
        report: told the name of every tensor that is done.
        importance: by tensor, how much the squared error of each column counts when it is quantised.
    """

    source: TensorSource
    weights: WeightsFile
    precision: str
    pool: ThreadPoolExecutor
    report: Callable[[str], None]
    importance: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)

    @cached_property
    def last_layer(self) -> int:
        """Number of the model's last layer."""
        return last_layer_of(self.source)

    def encoding(self, name: str, *, is_embedding: bool = False) -> Encoding:
        """What this tensor is stored as."""
        role = role_of(name, self.last_layer, is_table=is_embedding)
        return choose_encoding(self.precision, self.source.info(name), role)

    def kind(self, name: str) -> tuple[Encoding, tuple[int, ...] | None]:
        """What matrices must have in common to be one operator: their encoding and the order of their inputs."""
        return self.encoding(name), self.source.info(name).column_order

    def store(self, *names: str, is_embedding: bool = False) -> StoredMatrix:
        """Write tensors of the same width and encoding below each other as one matrix.

        Raises:
            ConversionFailed: a tensor holds NaN or infinity.
            UnsupportedModel: they want their inputs in different orders.
        """
        infos = [self.source.info(name) for name in names]
        common_order(infos)
        columns, rows = infos[0].shape[1], sum(info.shape[0] for info in infos)
        encoding = self.encoding(names[0], is_embedding=is_embedding)
        planes = tuple(self.weights.reserve(rows * size) for size in encoding.row_bytes(columns))
        stored = StoredMatrix(names[0], encoding, rows, columns, planes)
        self.fill(Filling(names, planes, partial(self._tasks, stored, infos)))
        return stored

    def fill(self, filling: Filling) -> None:
        """Do the work on the pool's threads. Raises what the first task that fails raises."""
        _finish([self.pool.submit(task) for task in filling.tasks()])
        for name in filling.names:
            self.report(name)

    def vector(self, *names: str) -> npt.NDArray[np.float32]:
        """Norm weights or biases, one after the other.

        Raises:
            ConversionFailed: a tensor holds NaN or infinity.
        """
        parts = [self.source.read(name) for name in names]
        for name, part in zip(names, parts, strict=True):
            check_finite(name, part)
            self.report(name)
        return np.concatenate(parts)

    def _tasks(self, stored: StoredMatrix, infos: Sequence[TensorInfo]) -> Iterator[Callable[[], None]]:
        first = 0
        for info in infos:
            yield from (partial(self._write, info, stored, first, rows) for rows in _chunks(*info.shape))
            first += info.shape[0]

    def _write(self, info: TensorInfo, stored: StoredMatrix, first: int, rows: slice) -> None:
        planes = encode_rows(self.source, info, stored.encoding, rows, self.importance.get(info.name))
        sizes = stored.encoding.row_bytes(stored.columns)
        for region, size, plane in zip(stored.planes, sizes, planes, strict=True):
            self.weights.write(region, (first + rows.start) * size, plane)


def common_order(infos: Sequence[TensorInfo]) -> tuple[int, ...] | None:
    """The order in which matrices want the inputs that they share. Raises UnsupportedModel when there are several."""
    orders = {info.column_order for info in infos}
    if len(orders) > 1:
        names = " and ".join(f"`{info.name}`" for info in infos)
        raise UnsupportedModel(f"{names} sort their inputs differently (act-order)", feature="act-order")
    return orders.pop()


def check_tensors(source: TensorSource, wanted: Iterable[WantedTensor], ignored: tuple[str, ...] = ()) -> int:
    """Compare the tensors of a model with what its family needs, before anything is written.

    ``wanted`` is consumed only up to the first tensor that is missing, so it may claim to be endless. Tensors whose
    names begin as ``ignored`` says may be there unread.

    Returns:
        How many tensors will be read.

    Raises:
        FormatError: one is missing, or has another shape.
        UnsupportedModel: the model has a tensor that its family does not know, so the graph would be wrong.
    """
    known = set()
    for tensor in wanted:
        if tensor.name not in source:
            raise FormatError(f"tensor `{tensor.name}` is missing", subject=tensor.name, expected=tensor.shape)
        found = source.info(tensor.name).shape
        if found != tensor.shape:
            message = f"tensor `{tensor.name}` has shape `{list(found)}`, expected {list(tensor.shape)}"
            raise FormatError(message, subject=tensor.name, expected=tensor.shape, found=found)
        known.add(tensor.name)
    for name in source:
        needless = name in known or name.endswith(IGNORED_SUFFIXES) or name.startswith(ignored)
        if not needless and _counts(source, name):
            raise UnsupportedModel(f"tensor `{name}` has no place in this architecture", feature=name)
    return len(known)


def _counts(source: TensorSource, name: str) -> bool:
    """Whether a tensor changes anything: quantised models often carry a bias of zeros for layers that have none."""
    is_bias = name.endswith(".bias") and len(source.info(name).shape) == 1
    return not is_bias or bool(source.read(name).any())


def _chunks(rows: int, columns: int) -> Iterator[slice]:
    step = max(1, CHUNK_WEIGHTS // columns)
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def _finish(tasks: Sequence[Future[None]]) -> None:
    """Wait for all tasks, or stop at the first that fails and raise what it raised."""
    try:
        done, _ = wait(tasks, return_when=FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
    for task in done:
        task.result()
