"""Row orders of llama.cpp's converter: where the rows of Hugging Face's order lie in a GGUF file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]


class RowOrder(Protocol):
    """A permutation inside groups of ``group_rows`` rows, which divide the tensor."""

    @property
    def group_rows(self) -> int:
        """Rows of one group."""

    def places(self, rows: Rows) -> Rows:
        """The file's rows that hold these rows of Hugging Face's order."""


@dataclass(frozen=True)
class InterleavedHeads:
    """Query and key rows of architecture ``llama`` and its relatives.

    The converter reshapes ``[heads, 2, head_dim / 2]`` and swaps the last two axes: row ``half * head_dim / 2 + pair``
    of a head moves to ``2 * pair + half``.
    """

    head_dim: int

    @property
    def group_rows(self) -> int:
        """See ``RowOrder``."""
        return self.head_dim

    def places(self, rows: Rows) -> Rows:
        """See ``RowOrder``."""
        head, inside = rows // self.head_dim, rows % self.head_dim
        half, pair = inside // (self.head_dim // 2), inside % (self.head_dim // 2)
        return head * self.head_dim + 2 * pair + half


@dataclass(frozen=True)
class SortedHeads:
    """The fused query, key and value of ``gptneox``: from head by head to all queries, all keys, all values."""

    heads: int
    head_dim: int

    @property
    def group_rows(self) -> int:
        """See ``RowOrder``."""
        return 3 * self.heads * self.head_dim

    def places(self, rows: Rows) -> Rows:
        """See ``RowOrder``."""
        head, part, inside = rows // (3 * self.head_dim), rows // self.head_dim % 3, rows % self.head_dim
        return (part * self.heads + head) * self.head_dim + inside
