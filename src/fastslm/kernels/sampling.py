"""Choose the next token from logits: penalties, top-k, top-p, min-p, temperature, draw; in this order.

It is llama.cpp's order: the filters judge the model's own distribution, so settings mean the same at every
temperature. Nothing is sorted and nothing is allocated: block maxima say where candidates can be, and a
quickselect by count or by probability mass keeps the best. Ties go to the lower token id. The plain Python
functions (``.py_func``) give the same results; ``tests/reference/sampling.py`` is the slow definition.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastslm.kernels.jit import compiled

BLOCK = 64
"""Logits per block of the first scan: four AVX-512 registers, and few enough that a hit block is read in no time."""

INFINITY_KEY = 0x7F800000
NO_TOKEN = -1
"""Returned in place of a token id when the logits hold NaN, infinity, or nothing but minus infinity."""

_LOW = 0xFFFFFFFF


class Filters(NamedTuple):
    """What one choice obeys. Neutral: ``top_k`` 0, ``top_p`` 1, ``min_p`` 0, penalties 1, 0 and 0; temperature > 0."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float


class Scratch(NamedTuple):
    """Memory that is reused from token to token, and the state of the generator.

    Attributes:
        keys: int64 [vocab_size], candidates.
        maxima: int64 [ceil(vocab_size / BLOCK)], greatest key of each block of logits.
        ranking: int64, same shape, for the selection among blocks.
        counts: int32 [vocab_size], all zero between calls.
        rng: int64 [4], four 32-bit words of xoshiro128++.
    """

    keys: npt.NDArray[np.int64]
    maxima: npt.NDArray[np.int64]
    ranking: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int32]
    rng: npt.NDArray[np.int64]


def new_scratch(vocab_size: int, seed: int) -> Scratch:
    """Memory for logits of this width, and a generator that depends on ``seed`` only."""
    blocks = -(-vocab_size // BLOCK)
    return Scratch(
        keys=np.zeros(vocab_size, np.int64),
        maxima=np.zeros(blocks, np.int64),
        ranking=np.zeros(blocks, np.int64),
        counts=np.zeros(vocab_size, np.int32),
        rng=_seeded(seed),
    )


def _seeded(seed: int) -> npt.NDArray[np.int64]:
    """Four words by SplitMix64 (Steele, Lea, Flood 2014), as the authors of xoshiro advise."""
    mask = (1 << 64) - 1
    words = []
    for step in range(1, 3):
        z = (seed + step * 0x9E3779B97F4A7C15) & mask
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        z ^= z >> 31
        words += [z & _LOW, z >> 32]
    return np.array(words, np.int64)


@compiled
def uniform(rng: npt.NDArray[np.int64]) -> float:
    """Next number of [0, 1), 53 random bits. xoshiro128++ 1.0 (Blackman, Vigna 2019) in 64-bit arithmetic."""
    high, low = _next_word(rng) >> 5, _next_word(rng) >> 6
    return (high * 67108864.0 + low) / 9007199254740992.0


@compiled
def _next_word(rng: npt.NDArray[np.int64]) -> int:
    total = (rng[0] + rng[3]) & _LOW
    result: int = (((total << 7) & _LOW | (total >> 25)) + rng[0]) & _LOW
    shifted = (rng[1] << 9) & _LOW
    rng[2] ^= rng[0]
    rng[3] ^= rng[1]
    rng[1] ^= rng[2]
    rng[0] ^= rng[3]
    rng[2] ^= shifted
    rng[3] = (rng[3] << 11) & _LOW | (rng[3] >> 21)
    return result


@compiled
def penalize(
    logits: npt.NDArray[np.float32],
    recent: npt.NDArray[np.int64],
    filters: Filters,
    counts: npt.NDArray[np.int32],
) -> None:
    """Lower the logits of the ``recent`` token ids in place, each id once, as llama.cpp does.

    A logit is divided by the repetition penalty when positive and multiplied when negative (Keskar et al. 2019),
    then loses ``presence_penalty`` and, per occurrence, ``frequency_penalty``. Ids outside the logits are skipped.
    """
    for token in recent:
        if 0 <= token < logits.size:
            counts[token] += 1
    for token in recent:
        if 0 <= token < logits.size and counts[token] > 0:
            value = logits[token]
            if value > 0:
                value /= filters.repetition_penalty
            else:
                value *= filters.repetition_penalty
            logits[token] = value - (filters.presence_penalty + filters.frequency_penalty * counts[token])
            counts[token] = 0


@compiled
def sample(logits: npt.NDArray[np.float32], recent: npt.NDArray[np.int64], filters: Filters, scratch: Scratch) -> int:
    """Token id drawn from ``logits`` [vocab_size] after penalties and filters, or ``NO_TOKEN``.

    The logits are changed in place by the penalties. ``recent`` holds the ids that the penalties look at.
    """
    if filters.repetition_penalty != 1.0 or filters.presence_penalty != 0.0 or filters.frequency_penalty != 0.0:
        penalize(logits, recent, filters, scratch.counts)
    count = candidates(logits, filters, scratch)
    if count == 0:
        return NO_TOKEN
    return _draw(logits, scratch.keys[:count], filters.temperature, scratch.rng)


@compiled
def candidates(logits: npt.NDArray[np.float32], filters: Filters, scratch: Scratch) -> int:
    """Leave the keys of the tokens that pass top-k, top-p and min-p in front of ``scratch.keys``; their number.

    The order among them is arbitrary but depends on the arguments only. Zero for logits that are not numbers.
    """
    top = _scan(logits, scratch.maxima)
    if top == NO_TOKEN:
        return 0
    best = np.float64(logits[top])
    least = best + math.log(filters.min_p) if filters.min_p > 0.0 else -np.inf
    if 0 < filters.top_k < logits.size:
        floor = _kth_maximum(scratch.maxima, filters.top_k, scratch.ranking)
        count = _gather(logits, scratch.maxima, floor, scratch.keys)
        if count > filters.top_k:
            _select(scratch.keys[:count], filters.top_k)
            count = filters.top_k
        if filters.top_p < 1.0:
            mass = _mass(logits, scratch.keys[:count], best) * filters.top_p
            count = _nucleus(logits, scratch.keys[:count], best, mass)
        return _keep_at_least(logits, scratch.keys[:count], least)
    total = 0.0
    if filters.top_p < 1.0:
        total = _total_mass(logits, best)
        # All tokens below this share of the mass together weigh less than 1 - top_p: none is in the nucleus.
        least = max(least, best + math.log((1.0 - filters.top_p) * total / logits.size) - 1e-6)
    count = _gather(logits, scratch.maxima, _floor_key(least), scratch.keys)
    count = _keep_at_least(logits, scratch.keys[:count], least)
    if filters.top_p < 1.0:
        count = _nucleus(logits, scratch.keys[:count], best, total * filters.top_p)
    return count


@compiled
def _order(bits: int) -> int:
    """The bits of a float32 as an integer that compares as the float does; both zeros are equal."""
    return bits if bits >= 0 else -(bits & 0x7FFFFFFF)


@compiled
def _token(key: int) -> int:
    """A key is the ordered bits above and the id, counted down, below: keys are distinct, and greater is better."""
    return _LOW - (key & _LOW)


@compiled
def _order32(bits: np.int32) -> np.int32:
    """``_order`` without a branch and in 32 bits, for vector instructions."""
    sign = bits >> np.int32(31)
    value: np.int32 = ((bits & np.int32(0x7FFFFFFF)) ^ sign) - sign
    return value


@compiled
def _scan(logits: npt.NDArray[np.float32], maxima: npt.NDArray[np.int64]) -> int:
    """Fill the block maxima; the id of the greatest logit, or ``NO_TOKEN``.

    Works on integers, which are compared by vector instructions without a licence to forget about NaN; the inner
    loop over whole blocks has a constant length for the same reason. Ten times faster than the plain loop.
    """
    bits = logits.view(np.int32)
    whole = bits.size // BLOCK
    lowest = np.int32(0)
    for block in range(whole):
        base = block * BLOCK
        greatest = np.int32(-0x7FFFFFFF)
        smallest = np.int32(0x7FFFFFFF)
        for i in range(BLOCK):
            value = _order32(bits[base + i])
            greatest = max(greatest, value)
            smallest = min(smallest, value)
        maxima[block] = greatest
        lowest = min(lowest, smallest)
    if whole < maxima.size:
        maxima[whole] = -0x7FFFFFFF
        for token in range(whole * BLOCK, bits.size):
            value = _order32(bits[token])
            maxima[whole] = max(maxima[whole], np.int64(value))
            lowest = min(lowest, value)
    return _best_token(bits, maxima, lowest)


@compiled
def _best_token(bits: npt.NDArray[np.int32], maxima: npt.NDArray[np.int64], lowest: int) -> int:
    top = 0
    for block in range(maxima.size):
        if maxima[block] > maxima[top]:
            top = block
    order = maxima[top]
    if lowest < -INFINITY_KEY or order >= INFINITY_KEY or order == -INFINITY_KEY:
        return NO_TOKEN
    token = top * BLOCK
    while _order32(bits[token]) != order:
        token += 1
    return token


@compiled
def _floor_key(least: float) -> int:
    """An ordered key not above any float32 that is at least ``least``."""
    return _order(np.int64(np.float32(least).view(np.int32))) - 1


@compiled
def _kth_maximum(maxima: npt.NDArray[np.int64], k: int, ranking: npt.NDArray[np.int64]) -> int:
    """The ``k``-th greatest block maximum: at least ``k`` logits reach it."""
    if k >= maxima.size:
        return -INFINITY_KEY
    for block in range(maxima.size):  # loops, because numpy's own copy and minimum take seconds to compile
        ranking[block] = maxima[block]
    _select(ranking, k)
    least = INFINITY_KEY
    for key in ranking[:k]:
        least = min(least, key)
    return least


@compiled
def _gather(
    logits: npt.NDArray[np.float32], maxima: npt.NDArray[np.int64], floor: int, keys: npt.NDArray[np.int64]
) -> int:
    """Collect the keys of all logits that reach ``floor`` (minus infinity never does); their number."""
    bits = logits.view(np.int32)
    floor = max(floor, 1 - INFINITY_KEY)
    count = 0
    for block in range(maxima.size):
        if maxima[block] < floor:
            continue
        for token in range(block * BLOCK, min(logits.size, (block + 1) * BLOCK)):
            order = _order(np.int64(bits[token]))
            if order >= floor:
                keys[count] = (order << 32) | (_LOW - token)
                count += 1
    return count


@compiled
def _partition(keys: npt.NDArray[np.int64], start: int, stop: int) -> int:
    """Order ``keys[start:stop]`` around one of them, greater ones first; where it ended up."""
    first, middle, last = keys[start], keys[(start + stop) // 2], keys[stop - 1]
    pivot = max(min(first, middle), min(max(first, middle), last))
    left, right = start, stop - 1
    while True:
        while keys[left] > pivot:
            left += 1
        while keys[right] < pivot:
            right -= 1
        if left >= right:
            return right
        keys[left], keys[right] = keys[right], keys[left]
        if keys[left] == pivot:
            right -= 1
        else:
            left += 1


@compiled
def _select(keys: npt.NDArray[np.int64], k: int) -> None:
    """Move the ``k`` greatest keys to the front, in no particular order (quickselect, Hoare 1961)."""
    start, stop = 0, keys.size
    while stop - start > 1:
        place = _partition(keys, start, stop)
        if place == k or place == k - 1:
            return
        if place > k:
            stop = place
        else:
            start = place + 1


@compiled
def _nucleus(logits: npt.NDArray[np.float32], keys: npt.NDArray[np.int64], best: float, mass: float) -> int:
    """Move the fewest greatest keys that together reach ``mass`` to the front; their number (Holtzman et al. 2019).

    A quickselect that weighs what it counts: one side of each partition is decided for good.
    """
    start, stop = 0, keys.size
    while start < stop:
        place = _partition(keys, start, stop)
        above = _mass(logits, keys[start:place], best)
        if above >= mass:
            stop = place
            continue
        above += math.exp(np.float64(logits[_token(keys[place])]) - best)
        if above >= mass:
            return place + 1
        mass -= above
        start = place + 1
    return start


@compiled
def _mass(logits: npt.NDArray[np.float32], keys: npt.NDArray[np.int64], best: float) -> float:
    total = 0.0
    for key in keys:
        total += math.exp(np.float64(logits[_token(key)]) - best)
    return total


@compiled
def _total_mass(logits: npt.NDArray[np.float32], best: float) -> float:
    total = 0.0
    for value in logits:
        total += math.exp(np.float64(value) - best)
    return total


@compiled
def _keep_at_least(logits: npt.NDArray[np.float32], keys: npt.NDArray[np.int64], least: float) -> int:
    count = 0
    for key in keys:
        if np.float64(logits[_token(key)]) >= least:
            keys[count] = key
            count += 1
    return count


@compiled
def _draw(
    logits: npt.NDArray[np.float32], keys: npt.NDArray[np.int64], temperature: float, rng: npt.NDArray[np.int64]
) -> int:
    """One of the candidates, with probability proportional to exp(logit / temperature)."""
    best = -np.inf
    for key in keys:
        best = max(best, np.float64(logits[_token(key)]))
    total = 0.0
    for key in keys:
        total += math.exp((np.float64(logits[_token(key)]) - best) / temperature)
    left = uniform(rng) * total
    chosen = keys[0]
    for key in keys:
        chosen = key
        left -= math.exp((np.float64(logits[_token(key)]) - best) / temperature)
        if left < 0.0:
            break
    return _token(chosen)
