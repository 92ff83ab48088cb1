"""The keys and values of one sequence: full-size buffers of which the system commits what is written.

Law: the first ``len(ids)`` positions hold exactly the keys and values of ``ids``; what lies behind is nothing.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from fastslm.errors import DoesNotFit
from fastslm.ops import CacheFormat, cache_row_bytes


@dataclass(frozen=True)
class CacheShape:
    """Size of a KV cache: a key and a value buffer ``[1, num_kv_heads, capacity, row]`` for each layer.

    A row is ``head_dim`` floats; with ``format`` it is the bytes of that format instead, as our attention takes them.
    ``states`` are the layers that keep something else of each position, and how many heads of it: they have a key
    buffer of that many, and none for values.
    """

    num_layers: int
    num_kv_heads: int
    capacity: int
    head_dim: int
    format: CacheFormat | None = None
    states: tuple[tuple[int, int], ...] = ()

    @property
    def buffers(self) -> dict[str, tuple[int, int, int, int]]:
        """Shape of every buffer; its name is the layer's number and what it holds, as in ``3.value``."""
        row = cache_row_bytes(self.format, self.head_dim) if self.format else self.head_dim
        states, found = dict(self.states), {}
        for layer in range(self.num_layers):
            for part in ("key",) if layer in states else ("key", "value"):
                heads = states.get(layer, self.num_kv_heads)
                found[f"{layer}.{part}"] = (1, heads, self.capacity, row)
        return found

    @property
    def dtype(self) -> type[np.uint8 | np.float32]:
        """Type of its elements."""
        return np.uint8 if self.format else np.float32


class KVCache:
    """Buffers and the token ids they hold.

    Attributes:
        shape: sizes.
        ids: token ids whose keys and values are valid, in order.
        buffers: by name, see ``CacheShape``.
    """

    def __init__(self, shape: CacheShape) -> None:
        """Reserve the address space; memory is used as tokens come.

        Raises:
            DoesNotFit: the system refuses even that.
        """
        self.shape = shape
        self.ids: list[int] = []
        self.buffers = {name: _lazy_zeros(size, shape.dtype) for name, size in shape.buffers.items()}

    @property
    def capacity(self) -> int:
        """Most positions."""
        return self.shape.capacity

    def __len__(self) -> int:
        return len(self.ids)

    def extend(self, ids: Sequence[int]) -> None:
        """Declare the positions behind the last as filled with these tokens."""
        self.ids.extend(ids)

    def truncate(self, length: int) -> None:
        """Forget all positions from ``length`` on; they are overwritten later."""
        del self.ids[length:]

    def common_prefix(self, ids: Sequence[int]) -> int:
        """Number of leading tokens that this cache shares with ``ids``."""
        shorter = min(len(self.ids), len(ids))
        different = (i for i in range(shorter) if self.ids[i] != ids[i])
        return next(different, shorter)


def _lazy_zeros(shape: tuple[int, ...], dtype: type[np.uint8 | np.float32]) -> npt.NDArray[Any]:
    """Zeros that cost no memory before they are written.

    numpy asks for huge pages, with which the first token of a long-context model would commit 2 MB for each head
    and layer; a private map of our own does not.
    """
    size = prod(shape) * np.dtype(dtype).itemsize
    try:
        if not hasattr(mmap, "MAP_PRIVATE"):
            return np.zeros(shape, dtype)
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, MemoryError, ValueError, OverflowError) as error:
        message = f"a KV cache buffer of {size} bytes cannot be reserved: {error}"
        raise DoesNotFit(message, resource="memory", needed=size) from error
    return np.frombuffer(memory, dtype).reshape(shape)
