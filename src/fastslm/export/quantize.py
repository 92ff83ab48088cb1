"""Quantise float32 rows to 4 or 8 bits in blocks of 32, in numpy, fast enough to need no compiled code.

In both formats ``weight = scale * (code - zero)``, as in ONNX Runtime's MatMulNBits and GatherBlockQuantized; 8 bits
always use their default zero point 128, 4 bits have one per block. The arithmetic runs on the transposed blocks,
[32, blocks], because there every reduction over a block is a sum of long rows.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

BLOCK = 32
"""Weights per scale."""

SPANS = (np.float32(1.0), np.float32(0.93), np.float32(0.86))
"""Parts of a block's range that the 16 codes of 4 bits may span; the best of them is taken.

Measured on the weights of a real model: 0.77 times the squared error of the symmetric format (Q4_0 of llama.cpp);
five spans instead of three gain another 0.7 %.
"""

NEGLIGIBLE = np.float32(1e-30)
"""A block whose largest weight is below this is stored as zeros (its scale could not be inverted)."""


def quantize8(rows: Floats) -> tuple[Bytes, Floats]:
    """Round to the nearest of 255 steps between minus and plus the largest magnitude of each block.

    Args:
        rows: [rows, columns], columns a multiple of 32.

    Returns:
        Codes [rows, columns] and scales [rows, columns / 32].
    """
    blocks = rows.reshape(-1, BLOCK).T.copy()
    scales = np.abs(blocks).max(axis=0) / np.float32(127)
    np.multiply(blocks, _inverse(scales), out=blocks)
    np.rint(blocks, out=blocks)
    np.add(blocks, np.float32(128), out=blocks)
    codes = blocks.astype(np.uint8).T
    return np.ascontiguousarray(codes).reshape(rows.shape), scales.reshape(len(rows), -1)


def quantize4(rows: Floats) -> tuple[Bytes, Floats, Bytes]:
    """Quantise to 4 bits with the least squared error that a short search finds.

    For each of ``SPANS`` the middle part of a block's range is laid on the codes 0 … 15. With q = code - zero the scale
    that fits best is <w, q> / <q, q>, and the error that it leaves is <w, w> - <w, q>² / <q, q>: the span with the
    greatest <w, q>² / <q, q> wins (the idea of ``make_qx_quants`` in llama.cpp).

    Args:
        rows: [rows, columns], columns a multiple of 32.

    Returns:
        Codes [rows, columns / 2], two in a byte, the even column in the low half; scales [rows, columns / 32]; zero
        points [rows, bytes], packed like the codes, with half a byte to spare if their number is odd.
    """
    blocks = rows.reshape(-1, BLOCK).T.copy()
    low, high = np.minimum(blocks.min(axis=0), 0), np.maximum(blocks.max(axis=0), 0)
    middle, steps = (low + high) / 2, np.float32(15) * _inverse(high - low)
    steps_of_best, scales, best = np.zeros_like(steps), np.zeros_like(steps), np.full_like(steps, -1)
    codes, product = np.empty_like(blocks), np.empty_like(blocks)
    for span in SPANS:
        _round_to_grid(blocks, steps / span, middle, codes)
        along = np.multiply(blocks, codes, out=product).sum(axis=0)
        norm = np.maximum(np.multiply(codes, codes, out=product).sum(axis=0), 1)
        score = along * (along / norm)
        better = score > best
        for kept, new in ((best, score), (steps_of_best, steps / span), (scales, along / norm)):
            np.copyto(kept, new, where=better)
    zeros = _round_to_grid(blocks, steps_of_best, middle, codes)
    packed = pack4((codes + zeros).astype(np.uint8).T)
    shape = (len(rows), -1)
    return packed.reshape(shape), scales.reshape(shape), pack_zeros(zeros.astype(np.uint8).reshape(shape))


def pack4(codes: Bytes) -> Bytes:
    """Put neighbouring 4-bit codes of the last axis in one byte, the even one in the low half."""
    packed: Bytes = codes[..., 0::2] | (codes[..., 1::2] << np.uint8(4))
    return packed


def _inverse(values: Floats) -> Floats:
    """1 / value, and 0 where the value is negligible; values are at least 0."""
    result = np.zeros_like(values)
    np.divide(np.float32(1), values, out=result, where=values > NEGLIGIBLE)
    return result


def _round_to_grid(blocks: Floats, steps: Floats, middle: Floats, codes: Floats) -> Floats:
    """Fill in codes minus zero point, for ``steps`` codes per unit around ``middle``; returns the zero points."""
    zeros: Floats = np.clip(np.rint(np.float32(7.5) - middle * steps), 0, 15)
    np.multiply(blocks, steps, out=codes)
    np.rint(codes, out=codes)
    np.maximum(codes, -zeros, out=codes)
    np.minimum(codes, np.float32(15) - zeros, out=codes)
    return zeros


def pack_zeros(zeros: Bytes) -> Bytes:
    """Zero points [rows, blocks] packed like codes, with half a byte to spare if their number is odd."""
    return pack4(np.pad(zeros, ((0, 0), (0, zeros.shape[1] % 2))))
