"""The packed layout, one element at a time, as ``csrc/include/fastslm/packed.hpp`` describes it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def pack(
    codes: np.ndarray, scales: np.ndarray, offsets: np.ndarray | None, bits: int, steps: Steps | None = None
) -> np.ndarray:
    """Bytes of a matrix with codes [rows, inputs] and scales, offsets [rows, groups]."""
    rows, inputs = codes.shape
    groups = scales.shape[1]
    group = inputs // groups
    code_bytes = group * (16 if bits == 4 else 32)
    unit = code_bytes + 64 + (64 if offsets is not None else 0)
    if steps is not None:
        unit = -(-(unit + group + -(-group // 64) * 32) // 64) * 64
    blocks = -(-rows // 32)
    packed = np.zeros((blocks, groups, unit), np.uint8)
    for row in range(rows):
        block, r = divmod(row, 32)
        for k in range(inputs):
            g, i = divmod(k, group)
            if bits == 8:
                packed[block, g, i // 4 * 128 + r * 4 + i % 4] = codes[row, k]
            else:
                byte = i // 8 * 128 + r * 4 + i % 4
                packed[block, g, byte] |= codes[row, k] << (0 if i % 8 < 4 else 4)
        for g in range(groups):
            at = code_bytes + 2 * r
            packed[block, g, at : at + 2] = np.float16(scales[row, g]).reshape(1).view(np.uint8)
            if offsets is not None:
                packed[block, g, at + 64 : at + 66] = np.float16(offsets[row, g]).reshape(1).view(np.uint8)
        for part in range(inputs // 32 if steps is not None else 0):
            (g, s), step = divmod(part, group // 32), int(steps.steps[row, part])
            lowest = int(steps.bases[row, part]) - 8 * step + 128
            packed[block, g, code_bytes + 64 + s * 32 + r] = lowest
            packed[block, g, code_bytes + 64 + group + s // 2 * 32 + r] |= step << (s % 2 * 4)
    return packed.reshape(-1)


@dataclass(frozen=True)
class Steps:
    """Steps and bases [rows, inputs / 32] of 4-bit codes."""

    steps: np.ndarray
    bases: np.ndarray

    @staticmethod
    def random(rng: np.random.Generator, rows: int, inputs: int) -> Steps:
        """Any that the format allows, the ends of their ranges among them."""
        steps = rng.integers(0, 16, (rows, inputs // 32))
        bases = rng.integers(-128 + 8 * steps, 128 - 7 * steps)
        bases[::3] = -128 + 8 * steps[::3]
        return Steps(steps.astype(np.uint8), bases.astype(np.int8))

    def whole(self, codes: np.ndarray) -> np.ndarray:
        """What the scale multiplies."""
        step, base = (np.repeat(each.astype(np.float64), 32, axis=1) for each in (self.steps, self.bases))
        return step * (codes.astype(np.float64) - 8) + base


def weights(
    codes: np.ndarray,
    scales: np.ndarray,
    offsets: np.ndarray | None,
    bits: int,
    *,
    scaled: bool = False,
    steps: Steps | None = None,
) -> np.ndarray:
    """The numbers that a packed matrix stands for, float64 [rows, inputs]; scaled offsets count in scales."""
    group = codes.shape[1] // scales.shape[1]
    scale = np.repeat(scales.astype(np.float16).astype(np.float64), group, axis=1)
    if steps is not None:
        return scale * steps.whole(codes)
    if offsets is None:
        return scale * (codes.astype(np.float64) - (8 if bits == 4 else 128))
    offset = np.repeat(offsets.astype(np.float16).astype(np.float64), group, axis=1)
    return scale * codes + offset * (scale if scaled else 1)


def quantized(x: np.ndarray, group: int) -> np.ndarray:
    """Activations [rows, inputs] rounded to 255 steps per row and group, float64."""
    groups = x.reshape(len(x), -1, group).astype(np.float64)
    scale = np.abs(groups).max(axis=2, keepdims=True) / 127
    safe = np.where(scale == 0, 1, scale)
    return (np.rint(groups / safe) * scale).reshape(x.shape)


def quantized_twice(x: np.ndarray, group: int) -> np.ndarray:
    """Activations as two passes see them: rounded, and what that leaves rounded once more."""
    first = quantized(x, group)
    return first + quantized(x - first, group)
