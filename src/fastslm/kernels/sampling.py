"""Choose the next token from logits: penalties, top-k, top-p, min-p, temperature, draw; in this order.

It is llama.cpp's order: the filters judge the model's own distribution, so settings mean the same at every
temperature. Nothing is sorted, nothing is collected and nothing is allocated: a filter becomes a floor, a key that
all its tokens reach, and everything else is a sum over the tokens that reach a floor, read in blocks that the maxima
of the blocks let it pass over. Ties go to the lower token id. The plain Python functions (``.py_func``) give the
same results up to the rounding of sums; ``tests/reference/sampling.py`` is the slow definition.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastslm.kernels.jit import compiled, summed

BLOCK = 128
"""Logits of which one maximum is kept: enough for a fast sum, few enough that a block with one candidate is cheap."""

INFINITY_KEY = 0x7F800000
NO_TOKEN = -1
"""Returned in place of a token id when the logits hold NaN, infinity, or nothing but minus infinity."""

EVERY = (1 - INFINITY_KEY) << 32
"""The floor that every finite logit reaches."""

MOST_RATE = 1e30
"""Nothing but the best tokens is left at it; an infinite rate would make the best one's weight a NaN."""

_LOW = 0xFFFFFFFF
_SMALLEST = 0x00800000
"""Bits of the smallest float32 with all its places."""


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
        maxima: float32 [ceil(vocab_size / BLOCK)], greatest logit of each block.
        unread: float32, as many for the maxima: all infinite, so that none is passed over.
        masses: float64, same shape as ``maxima``, weight of the candidates of each block.
        counts: int32 [vocab_size], all zero between calls.
        rng: int64 [4], four 32-bit words of xoshiro128++.
    """

    maxima: npt.NDArray[np.float32]
    unread: npt.NDArray[np.float32]
    masses: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int32]
    rng: npt.NDArray[np.int64]


def new_scratch(vocab_size: int, seed: int) -> Scratch:
    """Memory for logits of this width, and a generator that depends on ``seed`` only."""
    blocks = -(-vocab_size // BLOCK)
    return Scratch(
        maxima=np.zeros(blocks, np.float32),
        unread=np.full(-(-blocks // BLOCK), np.inf, np.float32),
        masses=np.zeros(blocks, np.float64),
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

    What top-p lets pass is not searched for: a token is drawn, and counts when what is above it weighs less than
    top-p wants. If not, the floor rises to it, and the next draw is from what is left. So each draw is from a set
    that holds all candidates, and the first that counts is one of them with its own share of their probability.
    """
    if filters.repetition_penalty != 1.0 or filters.presence_penalty != 0.0 or filters.frequency_penalty != 0.0:
        penalize(logits, recent, filters, scratch.counts)
    top = scan(logits, scratch.maxima)
    if top == NO_TOKEN or filters.top_k == 1:
        return top
    best = logits[top]
    floor, limit = bounds(logits, best, filters, scratch)
    rate = np.float32(min(1.0 / filters.temperature, MOST_RATE))
    while True:
        total = mass(logits, floor, best, rate, scratch)
        key = _draw(logits, floor, best, rate, uniform(scratch.rng) * total, scratch.masses)
        if limit == np.inf or mass(logits, key + 1, best, np.float32(1.0), scratch) < limit:
            return _token(key)
        floor = key + 1


@compiled
def bounds(logits: npt.NDArray[np.float32], best: np.float32, filters: Filters, scratch: Scratch) -> tuple[int, float]:
    """What makes a candidate: the floor that its key reaches, and the limit that the mass above it is below.

    Top-p judges what top-k left, and min-p what both left. Takes the maxima that ``scan`` has filled in.
    """
    floor, limit, least = EVERY, np.inf, -np.inf
    if 0 < filters.top_k < logits.size:
        floor = kth_key(logits, filters.top_k, scratch)
    if filters.top_p < 1.0:
        total = mass(logits, floor, best, np.float32(1.0), scratch)
        limit = total * filters.top_p
        # All tokens below this share of the mass together weigh less than 1 - top_p: none is a candidate.
        least = np.float64(best) + math.log((1.0 - filters.top_p) * total / logits.size) - 1e-4
    if filters.min_p > 0.0:
        least = max(least, np.float64(best) + math.log(filters.min_p))
    return max(floor, _floor_at(least)), limit


@compiled
def _order(bits: int) -> int:
    """The bits of a float32 as an integer that compares as the float does; subnormal numbers are zeros."""
    magnitude = bits & 0x7FFFFFFF
    if magnitude < _SMALLEST:
        return 0
    return magnitude if bits >= 0 else -magnitude


@compiled
def _value(order: int) -> np.float32:
    """The least float32 of an order, whether the processor takes subnormal numbers for zeros or not."""
    if 0 < order < _SMALLEST:
        order = _SMALLEST
    elif -_SMALLEST < order <= 0:
        order = 1 - _SMALLEST
    bits = order if order >= 0 else -order - 0x80000000
    value: np.float32 = np.int32(bits).view(np.float32)
    return value


@compiled
def _key(bits: int, token: int) -> int:
    """The order of a logit above and the id, counted down, below: keys are distinct, and greater is better."""
    return (_order(bits) << 32) | (_LOW - token)


@compiled
def _token(key: int) -> int:
    return _LOW - (key & _LOW)


@compiled
def _floor_at(least: float) -> int:
    """The floor that exactly the logits of at least ``least`` reach."""
    if least < -3.4e38:
        return EVERY
    nearest = np.float32(least)
    order = _order(np.int64(nearest.view(np.int32)))
    return (order if np.float64(nearest) >= least else order + 1) << 32


@compiled
def scan(logits: npt.NDArray[np.float32], maxima: npt.NDArray[np.float32]) -> int:
    """Fill the block maxima; the id of the greatest logit, the lower one among equals, or ``NO_TOKEN``."""
    bits = logits.view(np.int32)
    lowest, highest = np.int32(0), np.int32(-INFINITY_KEY - 1)
    for block in range(maxima.size):
        least, greatest = _extremes(bits[block * BLOCK : min((block + 1) * BLOCK, bits.size)])
        maxima[block] = np.int32(_rising(greatest)).view(np.float32)
        lowest, highest = min(lowest, least), max(highest, greatest)
    # A NaN is above infinity or below minus infinity.
    if lowest < -INFINITY_KEY - 1 or highest >= INFINITY_KEY or highest == -INFINITY_KEY - 1:
        return NO_TOKEN
    best = np.int32(_rising(highest)).view(np.float32)
    block = 0
    while maxima[block] != best:
        block += 1
    token = block * BLOCK
    while logits[token] != best:
        token += 1
    return token


@compiled
def _extremes(bits: npt.NDArray[np.int32]) -> tuple[np.int32, np.int32]:
    """Least and greatest as integers, which vector instructions compare without a licence to forget about NaN."""
    least, greatest = np.int32(0x7FFFFFFF), np.int32(-0x7FFFFFFF - 1)
    for i in range(bits.size):
        value = _rising(bits[i])
        least = min(least, value)
        greatest = max(greatest, value)
    return least, greatest


@compiled
def _rising(bits: np.int32) -> np.int32:
    """The bits of a float32 as an integer that rises with it, and back again; minus zero is below zero."""
    value: np.int32 = np.int32(bits ^ np.int32((bits >> np.int32(31)) & np.int32(0x7FFFFFFF)))
    return value


@compiled
def kth_key(logits: npt.NDArray[np.float32], k: int, scratch: Scratch) -> int:
    """The floor that the ``k`` greatest logits reach and no other.

    Bisects the orders of all floats, first among the block maxima: at least ``k`` logits reach the k-th of those.
    """
    low = 1 - INFINITY_KEY
    if k < scratch.maxima.size:
        low, _ = _kth_order(scratch.maxima, scratch.unread, k, low)
    order, left = _kth_order(logits, scratch.maxima, k, low)
    if left == 0:
        return order << 32
    for token in range(logits.size):
        if scratch.maxima[token // BLOCK] >= _value(order) and _order(np.int64(logits.view(np.int32)[token])) == order:
            left -= 1
            if left == 0:
                return (order << 32) | (_LOW - token)
    return order << 32


@compiled
def _kth_order(values: npt.NDArray[np.float32], maxima: npt.NDArray[np.float32], k: int, low: int) -> tuple[int, int]:
    """Order of the ``k``-th greatest value, from ``low`` on, and how many of this order are among the k; 0 for all."""
    high, above = INFINITY_KEY, 0
    while high - low > 1:
        middle = (low + high) // 2
        count = _count(values, maxima, _value(middle))
        if count == k:
            return middle, 0
        if count > k:
            low = middle
        else:
            high, above = middle, count
    return low, k - above


@compiled
def _count(values: npt.NDArray[np.float32], maxima: npt.NDArray[np.float32], least: np.float32) -> int:
    """How many values are at least ``least``."""
    count = 0
    for block in range(maxima.size):
        if maxima[block] >= least:
            count += _count_part(values[block * BLOCK : min((block + 1) * BLOCK, values.size)], least)
    return count


@compiled
def _count_part(values: npt.NDArray[np.float32], least: np.float32) -> int:
    count = 0
    for i in range(values.size):
        count += 1 if values[i] >= least else 0
    return count


@compiled
def mass(logits: npt.NDArray[np.float32], floor: int, best: np.float32, rate: np.float32, scratch: Scratch) -> float:
    """Sum of exp((logit - best) * rate) over the tokens whose keys reach ``floor``; block by block in ``masses``.

    Of the floor's own order only the ids up to the floor's token count: below that border a logit must reach the
    floor's value, from there on the next greater one.
    """
    least, next_ = _value(floor >> 32), _value((floor >> 32) + 1)
    border = _token(floor) + 1
    total = 0.0
    for block in range(scratch.maxima.size):
        scratch.masses[block] = 0.0
        if scratch.maxima[block] >= least:
            start, stop = block * BLOCK, min((block + 1) * BLOCK, logits.size)
            middle = min(max(border, start), stop)
            if start < middle:
                scratch.masses[block] += np.float64(_mass_part(logits[start:middle], least, best, rate))
            if middle < stop:
                scratch.masses[block] += np.float64(_mass_part(logits[middle:stop], next_, best, rate))
            total += scratch.masses[block]
    return total


@summed
def _mass_part(values: npt.NDArray[np.float32], least: np.float32, best: np.float32, rate: np.float32) -> np.float32:
    total: np.float32 = np.float32(0.0)
    for i in range(values.size):
        weight = _exp((values[i] - best) * rate)
        total += weight if values[i] >= least else np.float32(0.0)
    return total


@compiled
def _exp(x: np.float32) -> np.float32:
    """The exponential of a number up to 0, to two units in the last place; exp(-87) for all below.

    Cephes' expf (Moshier 1992), without a branch so that eight are computed at once: 2**n from the exponent's bits,
    and a polynomial for the rest, n being rounded by adding a number so great that it leaves no place for fractions.
    """
    x = x if x > np.float32(-87.0) else np.float32(-87.0)
    shifted = x * np.float32(1.44269504) + np.float32(12582912.0)
    n = shifted - np.float32(12582912.0)
    r = (x - n * np.float32(0.693359375)) + n * np.float32(2.12194440e-4)
    p = np.float32(1.9875691500e-4)
    p = p * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + np.float32(5.0000001201e-1)
    p = p * r * r + r + np.float32(1.0)
    power = np.int32((np.float32(shifted).view(np.int32) - 0x4B400000 + 127) << 23)
    value: np.float32 = p * power.view(np.float32)
    return value


@compiled
def _draw(
    logits: npt.NDArray[np.float32],
    floor: int,
    best: np.float32,
    rate: np.float32,
    place: float,
    masses: npt.NDArray[np.float64],
) -> int:
    """Key of the token at ``place`` when the candidates lie one behind the other, each as long as its weight."""
    chosen = 0
    for block in range(masses.size):
        if masses[block] > 0.0:
            chosen = block
            if place < masses[block]:
                break
            place -= masses[block]
    bits = logits.view(np.int32)
    drawn = floor
    for token in range(chosen * BLOCK, min((chosen + 1) * BLOCK, logits.size)):
        key = _key(np.int64(bits[token]), token)
        if key >= floor:
            drawn = key
            place -= np.float64(_exp((logits[token] - best) * rate))
            if place < 0.0:
                break
    return drawn
