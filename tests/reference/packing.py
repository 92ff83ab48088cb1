"""The packed layout, one element at a time, as ``csrc/include/fastslm/packed.hpp`` describes it."""

from __future__ import annotations

import numpy as np


def pack(codes: np.ndarray, scales: np.ndarray, offsets: np.ndarray | None, bits: int) -> np.ndarray:
    """Bytes of a matrix with codes [rows, inputs] and scales, offsets [rows, groups]."""
    rows, inputs = codes.shape
    groups = scales.shape[1]
    group = inputs // groups
    code_bytes = group * (16 if bits == 4 else 32)
    unit = code_bytes + 64 + (64 if offsets is not None else 0)
    blocks = -(-rows // 32)
    packed = np.zeros((blocks, groups, unit), np.uint8)
    for row in range(rows):
        block, r = divmod(row, 32)
        for k in range(inputs):
            g, i = divmod(k, group)
            if bits == 8:
                packed[block, g, i // 4 * 128 + r * 4 + i % 4] = codes[row, k]
            else:
                byte = r // 16 * 8 * group + i // 8 * 64 + r % 16 * 4 + i % 4
                packed[block, g, byte] |= codes[row, k] << (0 if i % 8 < 4 else 4)
        for g in range(groups):
            at = code_bytes + 2 * r
            packed[block, g, at : at + 2] = np.float16(scales[row, g]).reshape(1).view(np.uint8)
            if offsets is not None:
                packed[block, g, at + 64 : at + 66] = np.float16(offsets[row, g]).reshape(1).view(np.uint8)
    return packed.reshape(-1)


def pack_steps(codes: np.ndarray, scales: np.ndarray, steps: np.ndarray, bases: np.ndarray) -> np.ndarray:
    """The same for 4 bits with steps and bases [rows, inputs / 32]."""
    (rows, inputs), groups = codes.shape, scales.shape[1]
    group, parts = inputs // groups, inputs // groups // 32
    plain = pack(codes, scales, None, 4).reshape(-(-rows // 32), groups, -1)
    end = plain.shape[2] + group + (parts + 1) // 2 * 32
    packed = np.zeros((*plain.shape[:2], -(-end // 64) * 64), np.uint8)
    packed[..., : plain.shape[2]] = plain
    for row in range(rows):
        block, r = divmod(row, 32)
        for part in range(groups * parts):
            g, s = divmod(part, parts)
            packed[block, g, plain.shape[2] + 32 * s + r] = bases[row, part].astype(np.int8).view(np.uint8)
            packed[block, g, plain.shape[2] + group + s // 2 * 32 + r] |= int(steps[row, part]) << s % 2 * 4
    return packed.reshape(-1)


def stepped(codes: np.ndarray, scales: np.ndarray, steps: np.ndarray, bases: np.ndarray) -> np.ndarray:
    """The numbers that a matrix with steps stands for, float64 [rows, inputs]."""
    step, base = (np.repeat(each.astype(np.float64), 32, axis=1) for each in (steps, bases))
    return np.repeat(scales.astype(np.float64), codes.shape[1] // scales.shape[1], axis=1) * (
        step * (codes - 8.0) + base
    )


def weights(
    codes: np.ndarray, scales: np.ndarray, offsets: np.ndarray | None, bits: int, *, scaled: bool = False
) -> np.ndarray:
    """The numbers that a packed matrix stands for, float64 [rows, inputs]; scaled offsets count in scales."""
    group = codes.shape[1] // scales.shape[1]
    scale = np.repeat(scales.astype(np.float16).astype(np.float64), group, axis=1)
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
