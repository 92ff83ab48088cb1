"""Packed modules as the matrices that they stand for, in blocks of our own that keep every number.

``x.qweight``, ``x.qzeros``, ``x.scales`` and ``x.g_idx`` become ``x.weight`` of type ``Q4Z32``, ``Q4Z64`` or
``Q4Z128``, [outputs, inputs]. A block of so many weights has the scale as float32, the zero point, then the codes, two
in a byte, the even one in the low half. Groups of inputs that are no neighbours (act-order) become neighbours: the
columns are sorted by group, and ``TensorInfo.column_order`` says which input each belongs to.
"""

from __future__ import annotations

from collections.abc import Iterator
from threading import Lock
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fastslm.errors import FormatError, UnsupportedModel
from fastslm.formats.floats import row_range
from fastslm.formats.prequantized.layouts import (
    AWQ_ORDER,
    IN_ORDER,
    PER_WORD,
    Bytes,
    Matrix,
    awq_codes,
    gptq_codes,
    in_column_order,
    zero_points,
)
from fastslm.formats.prequantized.settings import BLOCK, WHOLE_ROW, Settings
from fastslm.formats.source import Extent, TensorInfo, TensorSource

DTYPE = "Q4Z"
BLOCKS = (128, 64, BLOCK)
"""How many weights a block may have; the largest that divides groups and rows is taken."""

CODES = ".qweight"
PARTS = (CODES, ".qzeros", ".scales", ".g_idx")


class RawSource(TensorSource, Protocol):
    """Tensors whose numbers can be had as they lie in the file."""

    def raw(self, name: str) -> npt.NDArray[Any]:
        """All elements of a tensor, of its own type."""


class PrequantizedTensors:
    """A source with its packed modules put together; every other tensor is as it was."""

    def __init__(self, source: RawSource, settings: Settings) -> None:
        """Check the shapes of all modules.

        Raises:
            FormatError: a part of a module is missing, or has a wrong shape or type.
        """
        self._source = source
        self._settings = settings
        modules = [name.removesuffix(CODES) for name in source if name.endswith(CODES)]
        self._infos = {f"{module}.weight": self._info(module) for module in modules}
        hidden = {module + part for module in modules for part in PARTS}
        self._names = [*(name for name in source if name not in hidden), *self._infos]
        self._lock = Lock()
        self._last: tuple[str, Matrix] | None = None

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._infos or name in self._names

    def info(self, name: str) -> TensorInfo:
        """Type and shape. Raises FormatError when there is no such tensor."""
        return self._infos[name] if name in self._infos else self._source.info(name)

    def read(self, name: str, start: int = 0, stop: int | None = None) -> npt.NDArray[np.float32]:
        """Rows as float32, see ``TensorSource``."""
        if name not in self._infos:
            return self._source.read(name, start, stop)
        matrix, rows = self._matrix(name), self._rows(name, start, stop)
        codes = matrix.codes[rows]
        values = np.stack([codes & np.uint8(15), codes >> np.uint8(4)], axis=-1).reshape(
            len(codes), self._infos[name].shape[1]
        )
        groups = self._groups(name, 1)
        zeros, scales = matrix.zeros[rows][:, groups], matrix.scales[rows][:, groups]
        return (values.astype(np.float32) - zeros.astype(np.float32)) * scales

    def blocks(self, name: str, start: int = 0, stop: int | None = None) -> Bytes:
        """Blocks of rows, see ``TensorSource``."""
        if name not in self._infos:
            return self._source.blocks(name, start, stop)
        matrix, rows = self._matrix(name), self._rows(name, start, stop)
        block = self._block(self._infos[name].shape[1])
        groups, codes = self._groups(name, block), matrix.codes[rows]
        scales = np.ascontiguousarray(matrix.scales[rows][:, groups])[..., None].view(np.uint8)
        zeros = matrix.zeros[rows][:, groups][..., None]
        packed = codes.reshape(*scales.shape[:2], block // 2)
        return np.concatenate([scales, zeros, packed], axis=-1)

    def extents(self, name: str) -> tuple[Extent, ...]:
        """See ``TensorSource``."""
        if name not in self._infos:
            return self._source.extents(name)
        parts = (name.removesuffix(".weight") + part for part in PARTS)
        return tuple(extent for part in parts if part in self._source for extent in self._source.extents(part))

    def _rows(self, name: str, start: int, stop: int | None) -> slice:
        return slice(*row_range(self._infos[name].shape[0], start, stop))

    def _groups(self, name: str, step: int) -> npt.NDArray[np.int64]:
        """Group of every ``step``-th weight of a row."""
        return self._neighbours(self._infos[name].shape[1])[::step]

    def _neighbours(self, inputs: int) -> npt.NDArray[np.int64]:
        """Group of every input where groups are of neighbours."""
        return np.arange(inputs) // self._group_size(inputs)

    def _block(self, inputs: int) -> int:
        return next(size for size in BLOCKS if inputs % size == 0 and self._group_size(inputs) % size == 0)

    def _group_size(self, inputs: int) -> int:
        return inputs if self._settings.group_size == WHOLE_ROW else self._settings.group_size

    def _matrix(self, name: str) -> Matrix:
        """The module's matrix; the last one is kept, because its rows are asked for a few at a time."""
        with self._lock:
            if self._last is None or self._last[0] != name:
                self._last = (name, self._put_together(name.removesuffix(".weight")))
            return self._last[1]

    def _put_together(self, module: str) -> Matrix:
        self._check_neighbours(module)
        words, zeros = (self._source.raw(module + part).view("<u4") for part in (CODES, ".qzeros"))
        scales = np.ascontiguousarray(self._source.read(f"{module}.scales").T)
        if self._settings.method == "awq":
            return Matrix(awq_codes(words), scales, zero_points(zeros, AWQ_ORDER))
        points = zero_points(zeros, IN_ORDER) + np.uint8(self._settings.added)
        if (points > 15).any():
            message = f"`{module}.qzeros` holds the zero point `16`, expected at most 15"
            raise UnsupportedModel(message, feature="zero point 16")
        order = self._infos[f"{module}.weight"].column_order
        codes = gptq_codes(words)
        return Matrix(codes if order is None else in_column_order(codes, np.array(order)), scales, points)

    def _check_neighbours(self, module: str) -> None:
        """Where the configuration promises groups of neighbours."""
        name = f"{module}.g_idx"
        if self._settings.sorts_inputs or name not in self._source:
            return
        if not np.array_equal(self._source.raw(name), self._groups(f"{module}.weight", 1)):
            message = f"`{name}` mixes the groups, although the configuration says `desc_act: false`"
            raise UnsupportedModel(message, feature="act-order")

    def _column_order(self, module: str, inputs: int) -> tuple[int, ...] | None:
        """Inputs sorted by their group, None where the groups are of neighbours as they lie."""
        name = f"{module}.g_idx"
        if name not in self._source:
            return None
        self._require(name, (inputs,), self._source.info(name).shape)
        if not self._settings.sorts_inputs:
            return None
        groups, neighbours = self._source.raw(name), self._neighbours(inputs)
        if np.array_equal(groups, neighbours):
            return None
        order = np.argsort(groups, kind="stable")
        if not np.array_equal(groups[order], neighbours):
            message = f"`{name}` does not put {self._group_size(inputs)} inputs in each of {neighbours[-1] + 1} groups"
            raise FormatError(message, subject=name, expected=self._group_size(inputs))
        return tuple(order.tolist())

    def _info(self, module: str) -> TensorInfo:
        shape = self._words(f"{module}{CODES}")
        outputs, inputs = shape[1], shape[0] * PER_WORD
        if self._settings.method == "awq":
            outputs, inputs = shape[1] * PER_WORD, shape[0]
        if inputs % BLOCK or outputs % PER_WORD or not inputs:
            expected = f"expected multiples of {BLOCK} and {PER_WORD}"
            raise FormatError(f"`{module}` has {inputs} inputs and {outputs} outputs, {expected}", subject=module)
        groups = -(-inputs // self._group_size(inputs))
        self._require(f"{module}.qzeros", (groups, outputs // PER_WORD), self._words(f"{module}.qzeros"))
        self._require(f"{module}.scales", (groups, outputs), self._source.info(f"{module}.scales").shape)
        dtype = f"{DTYPE}{self._block(inputs)}"
        return TensorInfo(f"{module}.weight", dtype, (outputs, inputs), self._column_order(module, inputs))

    def _words(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor of words. Raises FormatError."""
        found = self._source.info(name)
        if found.dtype != "I32" or len(found.shape) != 2:
            message = f"tensor `{name}` has type `{found.dtype}` and shape `{list(found.shape)}`, expected I32 in two"
            raise FormatError(f"{message} dimensions", subject=name, expected="I32", found=found.dtype)
        return found.shape

    def _require(self, name: str, expected: tuple[int, ...], found: tuple[int, ...]) -> None:
        if found != expected:
            message = f"tensor `{name}` has shape `{list(found)}`, expected {list(expected)}"
            raise FormatError(message, subject=name, expected=expected, found=found)
