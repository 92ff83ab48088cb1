"""Experts whose matrices lie in one tensor, as matrices by themselves: the files of gpt-oss, for who reads others too.

``experts.gate_up_proj`` is floats [experts, inputs, 2 * width]; or MXFP4, as ``_blocks`` [experts, 2 * width, inputs /
32, 16] and ``_scales`` [experts, 2 * width, inputs / 32]; with ``_bias`` [experts, 2 * width]. Gate and up alternate
along the width. They become ``experts.0.gate_proj.weight`` [width, inputs] and so on; ``down_proj`` likewise.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from threading import Lock
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fastslm.errors import FormatError
from fastslm.formats.floats import row_range
from fastslm.formats.mapping import let_go
from fastslm.formats.prequantized import mxfp4
from fastslm.formats.prequantized.settings import MXFP4_MODEL
from fastslm.formats.source import Extent, TensorInfo, TensorSource

MODEL_TYPE = MXFP4_MODEL
MAX_EXPERTS = 4096
PARTS = {"gate_up_proj": ("gate_proj", "up_proj"), "down_proj": ("down_proj",)}
"""What a stack is made of, in turns."""

_STACK = re.compile(rf"(?P<prefix>.*\.experts\.)(?P<module>{'|'.join(PARTS)})(?P<kind>|_blocks|_scales|_bias)")
_RANKS = {"": 3, "_blocks": 4, "_scales": 3, "_bias": 2}

Floats = npt.NDArray[np.float32]


class RawSource(TensorSource, Protocol):
    """Tensors whose numbers can be had as they lie in the file."""

    def raw(self, name: str, start: int = 0, stop: int | None = None) -> npt.NDArray[Any]:
        """Elements of rows of the first dimension, of their own type."""


@dataclass(frozen=True)
class _Part:
    """A matrix or a bias of one expert: every ``step``-th row of a stack from ``first`` on."""

    stack: str
    expert: int
    first: int
    step: int
    info: TensorInfo


class StackedExperts:
    """A source with its stacks taken apart; every other tensor is as it was."""

    def __init__(self, source: RawSource) -> None:
        """Check the shapes of all stacks. Raises FormatError naming one that is not as it should be."""
        self._source = source
        self._parts: dict[str, _Part] = {}
        self._others: list[str] = []
        for name in source:
            match = _STACK.fullmatch(name)
            if match is None:
                self._others.append(name)
            elif match["kind"] != "_scales":
                self._take_apart(name, match)
        self._lock = Lock()
        self._turned: tuple[tuple[str, int], Floats] | None = None

    def __iter__(self) -> Iterator[str]:
        yield from self._others
        yield from self._parts

    def __contains__(self, name: object) -> bool:
        return name in self._parts or (name in self._source and not _is_stack(name))

    def info(self, name: str) -> TensorInfo:
        """Type and shape. Raises FormatError when there is no such tensor."""
        return self._parts[name].info if name in self._parts else self._source.info(name)

    def read(self, name: str, start: int = 0, stop: int | None = None) -> Floats:
        """Rows as float32, see ``TensorSource``."""
        part = self._parts.get(name)
        if part is None:
            return self._source.read(name, start, stop)
        if part.info.is_quantized:
            return mxfp4.floats(self.blocks(name, start, stop))
        if len(part.info.shape) == 1:
            rows = self._source.read(part.stack, part.expert, part.expert + 1)[0]
        else:
            rows = self._matrix(part)
        chosen: Floats = rows[part.first :: part.step][start:stop]
        return chosen

    def blocks(self, name: str, start: int = 0, stop: int | None = None) -> npt.NDArray[np.uint8]:
        """Blocks of rows, see ``TensorSource``."""
        part = self._parts.get(name)
        if part is None or not part.info.is_quantized:
            return self._source.blocks(name if part is None else part.stack, start, stop)
        first, last = row_range(part.info.shape[0], start, stop)
        return mxfp4.joined(*(self._rows(part, stack, first, last) for stack in _both(part.stack)))

    def extents(self, name: str) -> tuple[Extent, ...]:
        """See ``TensorSource``: those of the expert where a stack lies in one piece."""
        part = self._parts.get(name)
        if part is None:
            return self._source.extents(name)
        stacks = _both(part.stack) if part.info.is_quantized else (part.stack,)
        return tuple(extent for stack in stacks for extent in self._extents(stack, part.expert))

    def _extents(self, stack: str, expert: int) -> tuple[Extent, ...]:
        found, count = self._source.extents(stack), self._source.info(stack).shape[0]
        size, left = divmod(sum(each.end - each.begin for each in found), count)
        if len(found) > 1 or left:
            return found
        begin = found[0].begin + expert * size
        return (Extent(found[0].path, begin, begin + size),)

    def _rows(self, part: _Part, stack: str, first: int, last: int) -> npt.NDArray[np.uint8]:
        """A copy of rows of a part; the rows between are let go with them."""
        raw = self._source.raw(stack, part.expert, part.expert + 1)[0, first * part.step : last * part.step]
        rows = np.array(raw[part.first :: part.step])
        let_go(raw)
        return rows

    def _matrix(self, part: _Part) -> Floats:
        """A matrix of a stack of floats, [rows, inputs]; the last one is kept, as its rows are asked for in pieces."""
        key = (part.stack, part.expert)
        with self._lock:
            if self._turned is None or self._turned[0] != key:
                matrix = self._source.read(part.stack, part.expert, part.expert + 1)[0]
                self._turned = (key, np.ascontiguousarray(matrix.T))
            return self._turned[1]

    def _take_apart(self, name: str, match: re.Match[str]) -> None:
        parts, kind = PARTS[match["module"]], match["kind"]
        dtype, rows, inputs = self._checked(name, kind, len(parts))
        for expert in range(self._source.info(name).shape[0]):
            for first, part in enumerate(parts):
                own = f"{match['prefix']}{expert}.{part}.{'bias' if kind == '_bias' else 'weight'}"
                shape = (rows // len(parts), *inputs)
                self._parts[own] = _Part(name, expert, first, len(parts), TensorInfo(own, dtype, shape))

    def _checked(self, name: str, kind: str, step: int) -> tuple[str, int, tuple[int, ...]]:
        """Element type, rows and inputs of a matrix or bias. Raises FormatError."""
        info = self._source.info(name)
        if len(info.shape) != _RANKS[kind] or not 1 <= info.shape[0] <= MAX_EXPERTS:
            expected = f"{_RANKS[kind]} dimensions, the first of 1 to {MAX_EXPERTS} experts"
            raise _wrong(info, expected)
        rows = info.shape[2] if kind == "" else info.shape[1]
        if rows % step:
            raise _wrong(info, f"a multiple of {step} rows")
        if kind != "_blocks":
            return info.dtype, rows, info.shape[1:2] if kind == "" else ()
        scales = self._source.info(_both(name)[1])
        if info.dtype != "U8" or info.shape[3] != mxfp4.BLOCK // 2:
            raise _wrong(info, f"U8 in blocks of {mxfp4.BLOCK // 2}")
        if (scales.dtype, scales.shape) != ("U8", info.shape[:3]):
            raise _wrong(scales, f"U8 of shape {list(info.shape[:3])}")
        return mxfp4.DTYPE, rows, (info.shape[2] * mxfp4.BLOCK,)


def _is_stack(name: object) -> bool:
    return isinstance(name, str) and _STACK.fullmatch(name) is not None


def _both(blocks: str) -> tuple[str, str]:
    """The tensors of codes and of scales."""
    return blocks, f"{blocks.removesuffix('_blocks')}_scales"


def _wrong(info: TensorInfo, expected: str) -> FormatError:
    found = f"type `{info.dtype}` and shape `{list(info.shape)}`"
    return FormatError(f"tensor `{info.name}` has {found}, expected {expected}", subject=info.name, found=info.shape)
