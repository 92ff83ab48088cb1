"""What stored codes mean, one number at a time."""

from __future__ import annotations

import numpy as np


def unpack4(packed: np.ndarray) -> np.ndarray:
    """Bytes [rows, n] to codes [rows, 2 n], the low half of a byte first."""
    codes = np.zeros((packed.shape[0], 2 * packed.shape[1]), np.int64)
    for row in range(packed.shape[0]):
        for column in range(packed.shape[1]):
            codes[row, 2 * column] = int(packed[row, column]) % 16
            codes[row, 2 * column + 1] = int(packed[row, column]) // 16
    return codes


def dequantize(
    codes: np.ndarray, scales: np.ndarray, zeros: np.ndarray | int, offsets: np.ndarray | float = 0.0
) -> np.ndarray:
    """scale * (code - zero) + offset of each block of 32, in float64."""
    columns = codes.shape[1]
    spread = [
        np.repeat(np.broadcast_to(each, scales.shape), 32, axis=1)[:, :columns] for each in (scales, zeros, offsets)
    ]
    return spread[0].astype(np.float64) * (codes - spread[1].astype(np.int64)) + spread[2]
