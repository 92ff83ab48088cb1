"""Plain elements of model files, little endian, and floats turned into float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

ITEM_TYPES: dict[str, str] = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
"""Element type to the numpy type its bytes are seen through; bfloat16 is the upper half of a float32."""

WHOLE_TYPES: dict[str, str] = {
    **{"I8": "<i1", "I16": "<i2", "I32": "<i4", "I64": "<i8"},
    **{"U8": "<u1", "U16": "<u2", "U32": "<u4", "U64": "<u8", "BOOL": "<u1"},
}
"""The same for whole numbers."""


def to_float32(raw: npt.NDArray[Any], dtype: str) -> npt.NDArray[np.float32]:
    """Convert elements seen through ``ITEM_TYPES[dtype]``; float32 is copied out of the memory map."""
    if dtype == "BF16":
        wide = raw.astype(np.uint32)
        wide <<= 16
        return wide.view(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # a float64 out of range becomes infinite, NaN stays NaN
        return np.array(raw, dtype=np.float32)


def row_range(rows: int, start: int, stop: int | None) -> tuple[int, int]:
    """Bounds of ``start:stop`` within ``rows``, by the rules of Python slices."""
    first, last, _ = slice(start, stop).indices(rows)
    return first, max(first, last)
