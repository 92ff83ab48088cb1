"""Quantise float32 rows to 4 or 8 bits in groups of 32 to 256, by the compiled searches of ``_native``.

Stock operators have ``weight = scale * (code - zero)``, as in ONNX Runtime's MatMulNBits and GatherBlockQuantized; 8
bits always use their default zero point 128, 4 bits have one per group. Ours have offsets or steps in their place.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from fastslm import _native
from fastslm.errors import ConversionFailed

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

GROUPS = (128, 64, 32)
"""Numbers of weights that may share a scale."""

STEPPED_GROUPS = (256, *GROUPS)
"""The same where parts of a group have steps."""

STEP_WEIGHTS = 32
"""Weights that share a step."""


def quantize8(rows: Floats, group: int = 32) -> tuple[Bytes, Floats]:
    """Round to the nearest of 255 steps between minus and plus the largest magnitude of each group.

    Args:
        rows: [rows, columns], columns a multiple of ``group``.

    Returns:
        Codes [rows, columns] and scales [rows, columns / group].

    Raises:
        ConversionFailed: a number is infinite or not a number.
    """
    codes, scales, _ = _quantized(rows, 8, group, None)
    return codes, scales


def quantize4(rows: Floats, importance: Floats | None = None, group: int = 32) -> tuple[Bytes, Floats, Bytes]:
    """Quantise to 4 bits with the least squared error that a search over grids finds.

    Args:
        rows: [rows, columns], columns a multiple of ``group``.
        importance: how much the squared error of each column counts, None for all the same.

    Returns:
        Codes [rows, columns / 2], two in a byte, the even column in the low half; scales [rows, columns / group]; zero
        points [rows, bytes], packed like the codes, with half a byte to spare if their number is odd.

    Raises:
        ConversionFailed: a number is infinite or not a number.
    """
    codes, scales, zeros = _quantized(rows, 4, group, importance)
    return codes, scales, pack_zeros(zeros)


def quantize4_offsets(rows: Floats, importance: Floats | None = None, group: int = 32) -> tuple[Bytes, Floats, Floats]:
    """Quantise to 4 bits with a free offset for each group: weight = scale * (code - 8) + offset.

    Takes an eighth off the squared error of ``quantize4``, and finds blocks of Q4_1 exactly.

    Args:
        rows, importance, group: as in ``quantize4``.

    Returns:
        Codes and scales as ``quantize4`` gives them; offsets [rows, columns / group].

    Raises:
        ConversionFailed: a number is infinite or not a number.
    """
    result = _native.quantize(rows, bits=4, group=group, importance=importance, offsets=True)
    if result is None:
        raise _not_finite(rows)
    codes, scales, offsets = result
    return codes, scales, offsets.astype(np.float32, copy=False) + np.float32(8) * scales


def quantize4_steps(
    rows: Floats, importance: Floats | None = None, group: int = 256
) -> tuple[Bytes, Floats, Bytes, npt.NDArray[np.int8]]:
    """Quantise to 4 bits with a whole step and base for each 32: weight = scale * (step * (code - 8) + base).

    Args:
        rows, importance, group: as in ``quantize4``; ``group`` may be 256 too.

    Returns:
        Codes and scales as ``quantize4`` gives them, the scales as float16 holds them; steps and bases
        [rows, columns / 32], with which the bracket is in a signed byte for every code.

    Raises:
        ConversionFailed: a number is infinite or not a number.
    """
    result = _native.quantize_steps(rows, group=group, importance=importance)
    if result is None:
        raise _not_finite(rows)
    return result


def pack4(codes: Bytes) -> Bytes:
    """Put neighbouring 4-bit codes of the last axis in one byte, the even one in the low half."""
    packed: Bytes = codes[..., 0::2] | (codes[..., 1::2] << np.uint8(4))
    return packed


def _quantized(rows: Floats, bits: Literal[4, 8], group: int, importance: Floats | None) -> tuple[Bytes, Floats, Bytes]:
    result = _native.quantize(rows, bits=bits, group=group, importance=importance)
    if result is None:
        raise _not_finite(rows)
    codes, scales, zeros = result
    return codes, scales, zeros.astype(np.uint8, copy=False)


def _not_finite(rows: Floats) -> ConversionFailed:
    bad = rows[~np.isfinite(rows)].flat[0]
    return ConversionFailed(f"a weight is `{bad}`, expected finite numbers", stage="reading weights")


def pack_zeros(zeros: Bytes) -> Bytes:
    """Zero points [rows, groups] packed like codes, with half a byte to spare if their number is odd."""
    return pack4(np.pad(zeros, ((0, 0), (0, zeros.shape[1] % 2))))
