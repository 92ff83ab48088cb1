"""The search for steps, one weight after the other, in float32: slow, obvious, and the same numbers to the last bit.

All groups are treated at once, so every number below is an array over the groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

NEGLIGIBLE = np.float32(1e-30)
PART = 32


@dataclass
class Stairs:
    """What is known of a scale: for each part step, base, two sums and a score, and the score of all parts."""

    scale: Floats
    parts: list[list[Floats]] = field(default_factory=list)

    @property
    def score(self) -> Floats:
        total = np.zeros_like(self.scale)
        for part in self.parts:
            total = total + part[4]
        return total


def quantize4_steps(
    rows: Floats, importance: Floats | None, group: int, *, thorough: bool
) -> tuple[Floats, Floats, Floats, Floats]:
    """Codes [groups, group], scales [groups], steps and bases [groups, group / 32], all as floats."""
    weights = rows.reshape(-1, group).T
    counts = np.ones_like(weights) if importance is None else np.tile(importance, len(rows)).reshape(-1, group).T
    parts = [(weights[i : i + PART], counts[i : i + PART]) for i in range(0, group, PART)]
    scales, steps, shifts, refits = ((1.0, 1.06), (-3, -2, -1, 0, 1), (-0.3, 0, 0.3), 2) if thorough else QUICK
    least = _least_scale([w for w, _ in parts])
    best = None
    for factor in scales:
        scale = _as_half(least * np.float32(factor))
        best = _better(best, Stairs(scale, [_search(w, h, scale, steps, shifts) for w, h in parts]))
    assert best is not None
    for _ in range(refits):
        best = _better(best, _refit(parts, best))
    stairs = zip(parts, best.parts, strict=True)
    codes = [_codes(w, best.scale, part[1], part[0]) + 8 for (w, _), part in stairs]
    found = (np.stack([part[i] for part in best.parts], axis=1) for i in (0, 1))
    return np.concatenate(codes).T, best.scale, *found


QUICK = ((1.05,), (-2, -1, 0), (0,), 1)


def _least_scale(parts: Sequence[Floats]) -> Floats:
    least = np.zeros_like(parts[0][0])
    for w in parts:
        low, high = w.min(axis=0), w.max(axis=0)
        for end in (low * np.float32(-1 / 128), high * np.float32(1 / 127), (high - low) * np.float32(1 / 225)):
            least = np.maximum(least, end)
    return least


def _search(w: Floats, h: Floats, scale: Floats, steps: Sequence[float], shifts: Sequence[float]) -> list[Floats]:
    low, high, units = w.min(axis=0), w.max(axis=0), _inverse(scale)
    near = np.rint(np.minimum((high - low) * units * np.float32(1 / 15), np.float32(15)))
    middle = (low + high) * units * np.float32(0.5)
    best = _stair(w, h, scale, near * 0, near * 0)
    best[4] = np.full_like(scale, -1)
    for more in steps:
        step = np.clip(near + np.float32(more), 0, 15)
        for shift in shifts:
            base = _within(middle + step * (np.float32(0.5) + np.float32(shift)), step)
            best = _better_part(best, _stair(w, h, scale, step, base))
    return _better_part(best, _stair(w, h, scale, best[0], best[1]))


def _stair(w: Floats, h: Floats, scale: Floats, step: Floats, base: Floats) -> list[Floats]:
    """Step, base, <w, v>, <v, v> and score."""
    two, zero = np.float32(2), np.zeros_like(scale)
    codes, squares, along, count, weights = zero, zero, zero, zero, zero
    for value, code, factor in zip(w, _codes(w, scale, base, step), h, strict=True):
        codes = codes + factor * code
        squares = squares + factor * code * code
        along = along + factor * code * value
        count = count + factor
        weights = weights + factor * value
    base = _within((weights * _inverse(scale) - step * codes) * _inverse(count), step)
    total = step * along + base * weights
    norm = step * step * squares + base * (two * step * codes + base * count)
    return [step, base, total, norm, scale * (two * total - scale * norm)]


def _refit(parts: Sequence[tuple[Floats, Floats]], best: Stairs) -> Stairs:
    along, norm = np.zeros_like(best.scale), np.zeros_like(best.scale)
    for part in best.parts:
        along, norm = along + part[2], norm + part[3]
    scale = _as_half(along * _inverse(norm))
    stairs = zip(parts, best.parts, strict=True)
    return Stairs(scale, [_stair(w, h, scale, part[0], part[1]) for (w, h), part in stairs])


def _codes(w: Floats, scale: Floats, base: Floats, step: Floats) -> Floats:
    """Codes less 8."""
    return np.rint(np.clip(w * (_inverse(scale) * _inverse(step)) - base * _inverse(step), -8, 7))


def _within(base: Floats, step: Floats) -> Floats:
    near = np.rint(np.clip(base, -128, 127))
    return np.minimum(np.maximum(near, 8 * step - 128), 127 - 7 * step)


def _as_half(value: Floats) -> Floats:
    return np.maximum(value.astype(np.float16), np.float16(2.0**-24)).astype(np.float32)


def _better(best: Stairs | None, other: Stairs) -> Stairs:
    if best is None:
        return other
    better = other.score > best.score
    parts = zip(best.parts, other.parts, strict=True)
    both = [[np.where(better, new, old) for old, new in zip(*pair, strict=True)] for pair in parts]
    return Stairs(np.where(better, other.scale, best.scale), both)


def _better_part(best: list[Floats], other: list[Floats]) -> list[Floats]:
    better = other[4] > best[4]
    return [np.where(better, new, old) for old, new in zip(best, other, strict=True)]


def _inverse(value: Floats) -> Floats:
    good = value > NEGLIGIBLE
    return np.where(good, np.float32(1) / np.where(good, value, np.float32(1)), np.float32(0))
