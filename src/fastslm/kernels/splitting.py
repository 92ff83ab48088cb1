"""Where text is cut into words, by rules that are given as arrays.

Law: a rule cuts a piece of text as a regular expression of its kind does: leftmost match, alternatives in order, greedy
with backtracking. What lies between matches is a piece too.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastslm.kernels.jit import compiled

KNOWN = 1 << 31
"""The bit of ``kinds`` that says that the other bits are right."""

MOST_STEPS = 16
"""Steps of one alternative."""

NO_STEP = -1
"""In place of the least count: the step takes nothing, and fails where a character of its set follows."""

Characters = npt.NDArray[np.uint32]
Numbers = npt.NDArray[np.int32]
Places = npt.NDArray[np.int64]


class Rules(NamedTuple):
    """How text is cut: the rule of each level cuts the pieces that the level above left.

    Attributes:
        levels: int32 [levels, 2], first and end of a level's alternatives.
        alternatives: int32 [n, 4], first and end of the steps; first and end of the alternatives, of which one may
            follow. None matches empty text.
        starts: uint32 [n], a bit for each set that a match may begin with.
        steps: int32 [n, 3], number of a set of characters, least and most that are taken of it; or ``NO_STEP``.
        kinds: uint32 [0x110000], for each character a bit for each set that it is in.
    """

    levels: Numbers
    alternatives: Numbers
    starts: Characters
    steps: Numbers
    kinds: Characters


@compiled
def unknown(characters: Characters, kinds: Characters, found: Characters) -> int:
    """Collect characters without a kind in ``found``, until it is full; how many there are. Some may come twice."""
    count, last = 0, np.uint32(0xFFFFFFFF)
    for character in characters:
        if kinds[character] == 0 and character != last and count < found.size:
            found[count] = last = character
            count += 1
    return count


@compiled
def cut(characters: Characters, stops: Places, rules: Rules, ends: Places) -> int:
    """Cut pieces of text, whose characters all have a kind, into words; how many there are.

    Args:
        characters: code points of all pieces in one row.
        stops: where each piece ends; afterwards, at which word.
        ends: place for one number each character: where a word ends, in bytes of UTF-8.
    """
    at, byte, count = np.int64(0), np.int64(0), 0
    levels = rules.levels.shape[0]
    bounds = np.empty(levels + 1, np.int64)
    taken = np.empty(MOST_STEPS, np.int64)
    for piece in range(stops.size):
        bounds[:] = at
        bounds[0] = stops[piece]
        while at < bounds[0]:
            for level in range(levels):
                if bounds[level + 1] <= at:
                    bounds[level + 1] = _piece_end(characters, at, bounds[level], level, rules, taken)
            while at < bounds[levels]:
                byte += _width(characters[at])
                at += 1
            ends[count] = byte
            count += 1
        stops[piece] = count
    return count


@compiled
def _width(character: np.uint32) -> int:
    """Bytes of a character in UTF-8."""
    width: int = 1 + (character >= 0x80) + (character >= 0x800) + (character >= 0x10000)
    return width


@compiled
def _piece_end(characters: Characters, start: int, stop: int, level: int, rules: Rules, taken: Places) -> int:
    """Where the piece at ``start`` ends: a match, or what lies before the next match."""
    levels, alternatives, starts, steps, kinds = rules
    first, last = levels[level, 0], levels[level, 1]
    for begin in range(start, stop):
        kind = kinds[characters[begin]]
        for one in range(first, last):
            if not kind & starts[one]:
                continue
            end = _match(characters, begin, stop, alternatives[one, 0], alternatives[one, 1], steps, kinds, taken)
            if end < 0:
                continue
            if begin > start:
                return begin
            for more in range(alternatives[one, 2], alternatives[one, 3]):
                longer = _match(
                    characters, end, stop, alternatives[more, 0], alternatives[more, 1], steps, kinds, taken
                )
                if longer >= 0:
                    return longer
            return end
    return stop


@compiled
def _match(
    characters: Characters,
    start: int,
    stop: int,
    first: int,
    last: int,
    steps: Numbers,
    kinds: Characters,
    taken: Places,
) -> int:
    """Where a match of some steps ends, or -1: each takes what it can, and gives back while the next ones fail."""
    step, at = first, start
    while step < last:
        bit, least = np.uint32(1) << np.uint32(steps[step, 0]), steps[step, 1]
        end = min(stop, at + steps[step, 2])
        now = at
        while now < end and kinds[characters[now]] & bit:
            now += 1
        if now - at >= least and (least >= 0 or now == at):
            taken[step - first] = now - at
            at = now
            step += 1
            continue
        step -= 1
        while step >= first and taken[step - first] <= max(0, steps[step, 1]):
            at -= taken[step - first]
            step -= 1
        if step < first:
            return -1
        taken[step - first] -= 1
        at -= 1
        step += 1
    return at
