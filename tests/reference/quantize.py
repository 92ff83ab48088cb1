"""The quantiser's search, in numpy, grid by grid: slow, obvious, and the same numbers to the last bit."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

NEGLIGIBLE = np.float32(1e-30)
QUICK = (1.0, 0.93, 0.86)
THOROUGH = (1.04, 1.0, 0.965, 0.93, 0.895, 0.86, 0.82, 0.77)


def quantize4(rows: Floats, importance: Floats | None, group: int, *, thorough: bool) -> tuple[Floats, Floats, Floats]:
    """Codes [blocks, group], scales and zero points [blocks], all as floats; importance is per column."""
    blocks = rows.reshape(-1, group)
    weights = np.ones_like(blocks) if importance is None else np.tile(importance, len(rows)).reshape(-1, group)
    best = [_search(block, weight, thorough=thorough) for block, weight in zip(blocks, weights, strict=True)]
    codes = [_codes(block, steps, zero) + zero for block, (_, steps, zero, _) in zip(blocks, best, strict=True)]
    return np.array(codes), np.array([fit[3] for fit in best]), np.array([fit[2] for fit in best])


Fit = tuple[np.float32, np.float32, np.float32, np.float32]
"""Score, steps per unit, zero point, scale."""


def _search(block: Floats, weight: Floats, *, thorough: bool) -> Fit:
    best = (np.float32(-1), np.float32(0), np.float32(0), np.float32(0))
    for steps, zero in _spans(block, THOROUGH if thorough else QUICK):
        best = _better(best, _fit(block, weight, steps, zero))
    for _ in range(2 if thorough else 0):
        steps, middle = _inverse(best[3]), best[2]
        for shift in (0, -1, 1):
            zero = np.float32(min(max(middle + np.float32(shift), 0), 15))
            best = _better(best, _fit(block, weight, steps, zero))
    return best


def _spans(block: Floats, spans: tuple[float, ...]) -> Iterator[tuple[np.float32, np.float32]]:
    low, high = min(block.min(), np.float32(0)), max(block.max(), np.float32(0))
    middle, full = (low + high) * np.float32(0.5), np.float32(15) * _inverse(high - low)
    for span in spans:
        steps = full * (np.float32(1) / np.float32(span))
        zero = np.rint(np.float32(7.5) - middle * steps)
        yield steps, np.float32(min(max(zero, 0), 15))


def _fit(block: Floats, weight: Floats, steps: np.float32, zero: np.float32) -> Fit:
    along = norm = np.float32(0)
    for value, code, factor in zip(block, _codes(block, steps, zero), weight, strict=True):
        along += factor * code * value
        norm += factor * code * code
    scale = along * _inverse(norm)
    return along * scale, steps, zero, scale


def _codes(block: Floats, steps: np.float32, zero: np.float32) -> Floats:
    """Codes less the zero point."""
    return np.clip(np.rint(np.clip(block * steps, -16, 16)), -zero, np.float32(15) - zero)


def quantize4_offsets(rows: Floats, importance: Floats | None, group: int) -> tuple[Floats, Floats, Floats]:
    """The thorough search for weight = scale * code + offset: codes [blocks, group], scales and offsets [blocks]."""
    blocks = rows.reshape(-1, group)
    weights = np.ones_like(blocks) if importance is None else np.tile(importance, len(rows)).reshape(-1, group)
    lines = [_search_line(block, weight) for block, weight in zip(blocks, weights, strict=True)]
    codes = [_line_codes(block, scale, offset) for block, (scale, offset) in zip(blocks, lines, strict=True)]
    return np.array(codes), np.array([line[0] for line in lines]), np.array([line[1] for line in lines])


def _search_line(block: Floats, weight: Floats) -> tuple[np.float32, np.float32]:
    low, high = block.min(), block.max()
    middle, half = (low + high) * np.float32(0.5), (high - low) * np.float32(0.5)
    best, line = np.float32(-1), (np.float32(0), np.float32(0))
    for span in THOROUGH:
        wide = np.float32(span) * np.float32(2) / np.float32(15)
        score, found = _line_fit(block, weight, half * wide, middle - half * np.float32(span))
        best, line = (score, found) if score > best else (best, line)
    for _ in range(3):
        score, found = _line_fit(block, weight, *line)
        best, line = (score, found) if score > best else (best, line)
    return line


def _line_fit(
    block: Floats, weight: Floats, scale: np.float32, offset: np.float32
) -> tuple[np.float32, tuple[np.float32, np.float32]]:
    count = codes = squares = weights = along = np.float32(0)
    for value, code, factor in zip(block, _line_codes(block, scale, offset), weight, strict=True):
        count += factor
        codes += factor * code
        squares += factor * code * code
        weights += factor * value
        along += factor * code * value
    slope = (count * along - codes * weights) * _inverse(count * squares - codes * codes)
    kept = max(slope, np.float32(0))
    start = (weights - kept * codes) * _inverse(count)
    return start * weights + kept * along, (kept, start)


def _line_codes(block: Floats, scale: np.float32, offset: np.float32) -> Floats:
    return np.rint(np.clip((block - offset) * _inverse(scale), 0, 15))


def _inverse(value: np.float32) -> np.float32:
    return np.float32(1) / value if value > NEGLIGIBLE else np.float32(0)


def _better(best: Fit, other: Fit) -> Fit:
    return other if other[0] > best[0] else best
