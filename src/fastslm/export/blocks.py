"""Take over the numbers of simple block formats as they are: only their order in memory changes.

Formats as in ggml's ``ggml-common.h``; each holds 32 weights, scales are float16, little-endian:

    Q8_0   d, 32 signed bytes q            weight = d * q
    Q4_0   d, 16 bytes of two codes q      weight = d * (q - 8)
    Q4_1   d, m, 16 bytes of two codes q   weight = d * q + m = d * (q - 8) + (m + 8 * d)
    MXFP4  see ``formats.prequantized.mxfp4``: signed bytes times a power of two

In ggml byte j holds the weights j (low half) and j + 16 (high half); ONNX Runtime wants 2j and 2j + 1. ``Q4Z32``,
``Q4Z64`` and ``Q4Z128`` are the blocks of ``formats.prequantized``, for GPTQ and AWQ, of so many weights: d as float32,
z, bytes of two codes in that order; weight = d * (q - z).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastslm.export.quantize import Bytes, Floats, pack4, pack_zeros
from fastslm.formats.prequantized import mxfp4


def import_q8_0(blocks: Bytes) -> tuple[Bytes, Floats]:
    """Codes with zero point 128, [rows, columns], and scales [rows, columns / 32] of blocks [rows, n, 34]."""
    codes = blocks[..., 2:] ^ np.uint8(0x80)
    return codes.reshape(len(blocks), -1), _half(blocks, 0)


def import_q4_0(blocks: Bytes) -> tuple[Bytes, Floats]:
    """Packed codes with zero point 8, [rows, columns / 2], and scales [rows, columns / 32] of blocks [rows, n, 18]."""
    return _reorder(blocks[..., 2:]), _half(blocks, 0)


def import_q4_1(blocks: Bytes) -> tuple[Bytes, Floats, Floats]:
    """Packed codes with zero point 8, scales, and offsets ``m + 8 * d`` of blocks [rows, n, 20]."""
    scales, minima = _half(blocks, 0), _half(blocks, 2)
    return _reorder(blocks[..., 4:]), scales, minima + np.float32(8) * scales


def import_q4z(blocks: Bytes) -> tuple[Bytes, Floats, Bytes]:
    """Packed codes, scales, and zero points packed like the codes, of blocks [rows, n, 5 + half the group]."""
    scales: Floats = np.ascontiguousarray(blocks[..., :4]).view("<f4")[..., 0].astype(np.float32)
    return np.ascontiguousarray(blocks[..., 5:]).reshape(len(blocks), -1), scales, pack_zeros(blocks[..., 4])


def import_mxfp4(blocks: Bytes) -> tuple[Bytes, Floats]:
    """Codes with zero point 128, [rows, columns], and scales [rows, columns / 32] of blocks [rows, n, 17]."""
    numbers, scales = mxfp4.doubled(blocks)
    return numbers.view(np.uint8) ^ np.uint8(0x80), scales


def _half(blocks: Bytes, at: int) -> Floats:
    raw: npt.NDArray[np.float16] = np.ascontiguousarray(blocks[..., at : at + 2]).view("<f2")[..., 0]
    return raw.astype(np.float32)


def _reorder(codes: Bytes) -> Bytes:
    in_order = np.concatenate([codes & np.uint8(0x0F), codes >> 4], axis=-1)
    return pack4(in_order).reshape(len(codes), -1)
