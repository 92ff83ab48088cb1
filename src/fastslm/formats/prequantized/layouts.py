"""The two ways to pack 4-bit weights in 32-bit words, turned into rows of output channels. Nothing is rounded.

GPTQ   qweight [inputs / 8, outputs]    a word holds 8 inputs of one output, the first in the lowest bits
       qzeros  [groups, outputs / 8]    a word holds 8 outputs, the first in the lowest bits
AWQ    qweight [inputs, outputs / 8]    a word holds 8 outputs in the order 0 2 4 6 1 3 5 7
       qzeros  [groups, outputs / 8]    likewise

weight = (code - zero) * scale, with scales [groups, outputs]
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint32]
Bytes = npt.NDArray[np.uint8]

PER_WORD = 8
IN_ORDER = (0, 1, 2, 3, 4, 5, 6, 7)
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
"""Output that each half byte of a word belongs to, from the lowest bits on."""


@dataclass(frozen=True)
class Matrix:
    """One matrix, row by row.

    Attributes:
        codes: [outputs, inputs / 2], two in a byte, the even input in the low half.
        scales: float32 [outputs, groups].
        zeros: [outputs, groups], not packed.
    """

    codes: Bytes
    scales: npt.NDArray[np.float32]
    zeros: Bytes


def gptq_codes(qweight: Words) -> Bytes:
    """Codes of GPTQ: the words only change places, for their bytes lie as wanted."""
    return np.ascontiguousarray(qweight.T).view("<u4").view(np.uint8)


def in_column_order(codes: Bytes, order: npt.NDArray[np.int64]) -> Bytes:
    """Codes [outputs, inputs / 2] with their inputs in another order."""
    inputs = np.stack([codes & np.uint8(15), codes >> np.uint8(4)], axis=-1).reshape(len(codes), -1)[:, order]
    packed: Bytes = inputs[:, 0::2] | (inputs[:, 1::2] << np.uint8(4))
    return packed


def awq_codes(qweight: Words) -> Bytes:
    """Codes of AWQ, one output of each word at a time."""
    inputs, words = qweight.shape
    codes = np.empty((words, PER_WORD, inputs // 2), np.uint8)
    for place, output in enumerate(AWQ_ORDER):
        rows = _half_bytes(qweight, place).T
        codes[:, output] = rows[:, 0::2] | (rows[:, 1::2] << np.uint8(4))
    return codes.reshape(words * PER_WORD, inputs // 2)


def zero_points(qzeros: Words, order: tuple[int, ...]) -> Bytes:
    """Zero points as they are stored, [outputs, groups]."""
    groups, words = qzeros.shape
    zeros = np.empty((words, PER_WORD, groups), np.uint8)
    for place, output in enumerate(order):
        zeros[:, output] = _half_bytes(qzeros, place).T
    return zeros.reshape(words * PER_WORD, groups)


def _half_bytes(words: Words, place: int) -> Bytes:
    found: Bytes = ((words >> np.uint32(4 * place)) & np.uint32(15)).astype(np.uint8)
    return found
