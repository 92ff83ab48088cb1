"""MXFP4 (OCP Microscaling Formats 1.0): 32 numbers of 4 bits (E2M1) that share a power of two (E8M0).

A block has the 17 bytes of ggml's ``block_mxfp4``: the exponent, then 16 bytes of which byte j holds the numbers j (low
half) and j + 16. Twice a number is whole, -12 to 12, so a block is 32 signed bytes times a scale, without rounding.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

DTYPE = "MXFP4"
BLOCK = 32
NO_NUMBER = 255
"""The exponent of a block that holds no numbers."""

Bytes = npt.NDArray[np.uint8]

_POSITIVE = (0, 1, 2, 3, 4, 6, 8, 12)
_DOUBLED = np.array([*_POSITIVE, *(-number for number in _POSITIVE)], np.int8)


def joined(codes: Bytes, exponents: Bytes) -> Bytes:
    """Blocks [rows, n, 17] of what gpt-oss keeps apart.

    Args:
        codes: [rows, n, 16], of which byte j holds the numbers 2j (low half) and 2j + 1.
        exponents: [rows, n].
    """
    in_order = np.stack([codes & np.uint8(15), codes >> np.uint8(4)], axis=-1).reshape(*codes.shape[:2], BLOCK)
    packed = in_order[..., : BLOCK // 2] | (in_order[..., BLOCK // 2 :] << np.uint8(4))
    return np.concatenate([exponents[..., None], packed], axis=-1)


def doubled(blocks: Bytes) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Twice the numbers of blocks, [rows, n * 32], and half their scales, [rows, n]; those of zeros are 0."""
    exponents, packed = blocks[..., 0], blocks[..., 1:]
    numbers = _DOUBLED.take(np.concatenate([packed & np.uint8(15), packed >> np.uint8(4)], axis=-1))
    scales = np.ldexp(np.float32(1), exponents.astype(np.int32) - 128)
    scales[~numbers.any(axis=-1)] = 0
    scales[exponents == NO_NUMBER] = np.nan
    return numbers.reshape(len(blocks), -1), scales


def floats(blocks: Bytes) -> npt.NDArray[np.float32]:
    """The numbers of blocks, [rows, n * 32]."""
    numbers, scales = doubled(blocks)
    with np.errstate(over="ignore", invalid="ignore"):
        return numbers.astype(np.float32) * np.repeat(scales, BLOCK, axis=1)
