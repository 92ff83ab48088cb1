"""Byte-pair encoding of words: bytes to token ids by merges, which are read from a model.

Law: the pair of the lowest rank is merged first, the leftmost of equals (Sennrich et al. 2016), until none is left. A
word that was seen before is copied, not merged again.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastslm.kernels.jit import compiled

MOST_PROBES = 32
"""Places looked at before a word counts as new: chosen texts cannot make the search long."""

_HASH = -7046029254386353131
_FNV, _FNV_START = 1099511628211, 1469598103934665603
_LOW = 0xFFFFFFFF
_LAST_ID = 0x7FFFFFFF
_QUOTE, _ESCAPE, _COLON, _COMMA, _ZERO = 0x22, 0x5C, 0x3A, 0x2C, 0x30
_BEGUN, _ENDED, _CLOSED = 0x5B, 0x5D, 0x7D
_NONE = 0x7FFFFFFFFFFFFFFF


Bytes = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.int32]
Places = npt.NDArray[np.int64]


class Merges(NamedTuple):
    """Pairs of tokens and what they become, as a hash table.

    Attributes:
        bytes: int32 [256], the token of each byte, -1 for bytes that are passed over.
        pairs: int64 [power of two], left token above, right token below; -1 where there is none.
        results: int64, the rank above, the token that a pair becomes below.
    """

    bytes: Numbers
    pairs: Places
    results: Places


class Words(NamedTuple):
    """Words and their tokens, as a hash table; the bytes of the words and their tokens are elsewhere.

    Attributes:
        slots: int32 [power of two], number of a word, or -1.
        spans: int64 [words, 4], where a word starts and how many bytes it has, then the same of its tokens.
        number: int64 [1], words that there are.
    """

    slots: Numbers
    spans: Places
    number: Places


class Scratch(NamedTuple):
    """Memory for the longest word: ``symbols`` and links int32 [bytes], ``heap`` int64 [3 * bytes]."""

    symbols: Numbers
    before: Numbers
    after: Numbers
    heap: Places


class Text(NamedTuple):
    """Words of text in one row, after some of which a token is given.

    Attributes:
        data: uint8, the text in UTF-8.
        ends: int64 [words], where each word ends.
        stops: int64 [pieces], at which word each piece ends.
        tokens: int64 [pieces], what follows it, or -1.
    """

    data: Bytes
    ends: Places
    stops: Places
    tokens: Places


class Vocabulary(NamedTuple):
    """Words that are tokens: their bytes, and the table over them, where the tokens stand for their places."""

    data: Bytes
    words: Words


def new_merges(symbols: Numbers, count: int) -> Merges:
    """An empty table for so many merges of the tokens of bytes."""
    size = 1 << max(16, 3 * count // 2).bit_length()
    return Merges(symbols, np.full(size, -1, np.int64), np.zeros(size, np.int64))


def new_words(most: int, places: int) -> Words:
    """A table for at most so many words, with at least so many places for them."""
    size = 1 << max(4, places - 1).bit_length()
    return Words(np.full(size, -1, np.int32), np.empty((most, 4), np.int64), np.zeros(1, np.int64))


def new_scratch(size: int) -> Scratch:
    """Memory for words of up to ``size`` bytes."""
    symbols, before, after = (np.empty(size, np.int32) for _ in range(3))
    return Scratch(symbols, before, after, np.empty(3 * size, np.int64))


@compiled
def read_vocabulary(source: Bytes, at: int, spelling: Numbers, words: Vocabulary) -> tuple[int, int]:
    """Fill ``words`` from the inside of a JSON object, ``"token":id,…``, written without spaces.

    Tokens with a character that stands for no byte are passed over: no text is spelled so.

    Args:
        spelling: the byte that each of the first characters stands for, or -1.

    Returns:
        the place of the closing bracket, or -1 when it is not such an object, or the table has no room; and how many
        tokens there are.
    """
    used, count = np.int64(0), np.int64(0)
    slots, spans, _ = words.words
    while at < source.size and source[at] != _CLOSED:
        if count > 0:
            at += 1
        at, size = _read_string(source, at, spelling, words.data, used)
        if at < 0 or at >= source.size or source[at] != _COLON:
            return -1, count
        at += 1
        token, digits = np.int64(0), at
        while at < source.size and _ZERO <= source[at] <= _ZERO + 9 and at - digits < 10:
            token = 10 * token + source[at] - _ZERO
            at += 1
        if size > 0:
            word, slot = _find(words.data, used, size, _hash(words.data, used, size), words.data, slots, spans)
            if word >= 0 or slot < 0 or token > _LAST_ID:
                return -1, count
            _remember(words.words, slot, used, size, token, 1)
            used += size
        count += 1
    return at, count


@compiled
def read_merges(source: Bytes, at: int, spelling: Numbers, words: Vocabulary, merges: Merges) -> int:
    """Fill ``merges`` from the inside of a JSON list, ``["left","right"],…`` in the order of ranks.

    Returns:
        the place of the closing bracket, or -1 when it is not such a list.
    """
    last = words.words.number[0] - 1
    used = words.words.spans[last, 0] + words.words.spans[last, 1] if last >= 0 else np.int64(0)
    rank = np.int64(0)
    while at < source.size and source[at] != _ENDED:
        if rank > 0:
            at += 1
        if at >= source.size or source[at] != _BEGUN:
            return -1
        at, left = _read_string(source, at + 1, spelling, words.data, used)
        if at < 0 or at >= source.size or source[at] != _COMMA:
            return -1
        at, right = _read_string(source, at + 1, spelling, words.data, used + max(0, left))
        if at < 0 or at >= source.size or source[at] != _ENDED:
            return -1
        at += 1
        if left > 0 and right > 0:
            one, other = _token(words, used, left), _token(words, used + left, right)
            both = _token(words, used, left + right)
            if one < 0 or other < 0 or both < 0 or rank + 1 >= merges.pairs.size:
                return -1
            pair = (one << 32) | other
            place = _place(pair, merges)
            merges.pairs[place], merges.results[place] = pair, (rank << 32) | both
        rank += 1
    return at


@compiled
def _read_string(source: Bytes, at: int, spelling: Numbers, data: Bytes, into: int) -> tuple[int, int]:
    """Write the bytes that a JSON string spells; the place after it, or -1, and their number, -1 if it spells none.

    It spells less bytes than it has itself, so that ``data`` as long as ``source`` is long enough.
    """
    size, spelled = 0, True
    if at >= source.size or source[at] != _QUOTE:
        return -1, -1
    at += 1
    while at < source.size and source[at] != _QUOTE:
        character = np.int64(source[at])
        if character == _ESCAPE and at + 1 < source.size:
            at += 1
            character = np.int64(source[at])
            spelled &= character == _QUOTE or character == _ESCAPE  # others are no characters of a byte
        elif character & 0xE0 == 0xC0 and at + 1 < source.size:
            at += 1
            character = ((character & 0x1F) << 6) | (source[at] & 0x3F)
        elif character >= 0x80:
            spelled = False
        at += 1
        spelled &= character < spelling.size and spelling[character] >= 0 and into + size < data.size
        if spelled:
            data[into + size] = spelling[character]
            size += 1
    return (at + 1 if at < source.size else -1), (size if spelled else -1)


@compiled
def _token(words: Vocabulary, start: int, size: int) -> int:
    """The token with these bytes of ``words.data``, or -1."""
    data, (slots, spans, _) = words
    word, _ = _find(data, start, size, _hash(data, start, size), data, slots, spans)
    token: int = spans[word, 2] if word >= 0 else np.int64(-1)
    return token


@compiled
def encode(text: Text, merges: Merges, vocabulary: Vocabulary, seen: Words, scratch: Scratch, out: Numbers) -> int:
    """Write the token ids of ``text`` to ``out``, which has room for one each byte and piece; how many there are.

    ``seen`` is empty before and worthless after.
    """
    data, ends, stops, tokens = text
    slots, spans, _ = seen
    start, count, next_ = np.int64(0), 0, np.int64(0)
    for piece in range(stops.size):
        for number in range(next_, stops[piece]):
            size = ends[number] - start
            mark = _hash(data, start, size)
            word, slot = _find(data, start, size, mark, data, slots, spans)
            if word >= 0:
                source, made = spans[word, 2], spans[word, 3]
                for i in range(made):
                    out[count + i] = out[source + i]
            else:
                made = _new_word(data, start, size, mark, merges, vocabulary, scratch, out[count:])
                if slot >= 0:
                    _remember(seen, slot, start, size, count, made)
            count += made
            start = ends[number]
        next_ = stops[piece]
        if tokens[piece] >= 0:
            out[count] = tokens[piece]
            count += 1
    return count


@compiled
def _new_word(
    data: Bytes,
    start: int,
    size: int,
    mark: int,
    merges: Merges,
    vocabulary: Vocabulary,
    scratch: Scratch,
    out: Numbers,
) -> int:
    """Write the tokens of a word that was not seen before; how many they are."""
    words = vocabulary.words
    word, _ = _find(data, start, size, mark, vocabulary.data, words.slots, words.spans)
    if word >= 0:
        out[0] = words.spans[word, 2]
        return 1
    symbols = 0
    for i in range(start, start + size):
        if merges.bytes[data[i]] >= 0:
            scratch.symbols[symbols] = merges.bytes[data[i]]
            symbols += 1
    return _merge(symbols, merges, scratch, out)


@compiled
def _hash(data: Bytes, start: int, size: int) -> int:
    """FNV-1a over the bytes, then mixed."""
    value = np.int64(_FNV_START)
    for i in range(start, start + size):
        value = (value ^ np.int64(data[i])) * np.int64(_FNV)
    mixed: int = value ^ (value >> 29)
    return mixed


@compiled
def _find(data: Bytes, start: int, size: int, mark: int, base: Bytes, slots: Numbers, spans: Places) -> tuple[int, int]:
    """Number of the word with these bytes, or -1 and the slot for it, which is -1 where none is near."""
    mask = np.int64(slots.size - 1)
    for probe in range(MOST_PROBES):
        slot = (mark + probe) & mask
        word = np.int64(slots[slot])
        if word < 0:
            return -1, slot
        if spans[word, 1] == size:
            other, i = spans[word, 0], np.int64(0)
            while i < size and base[other + i] == data[start + i]:
                i += 1
            if i == size:
                return word, slot
    return -1, -1


@compiled
def _remember(words: Words, slot: int, start: int, size: int, first: int, count: int) -> None:
    """Put a word into its slot while there is room."""
    slots, spans, number = words
    if number[0] < spans.shape[0]:
        slots[slot] = number[0]
        spans[number[0], 0], spans[number[0], 1] = start, size
        spans[number[0], 2], spans[number[0], 3] = first, count
        number[0] += 1


@compiled
def _place(pair: int, merges: Merges) -> int:
    """Where a pair is, or would be."""
    mask = np.int64(merges.pairs.size - 1)
    place: int = ((pair * np.int64(_HASH)) >> 20) & mask
    while merges.pairs[place] != -1 and merges.pairs[place] != pair:
        place = (place + 1) & mask
    return place


@compiled
def _result(left: np.int32, right: np.int32, merges: Merges) -> int:
    """Rank and token of a pair, or ``_NONE``."""
    pair = (np.int64(left) << 32) | np.int64(right)
    place = _place(pair, merges)
    found: int = merges.results[place] if merges.pairs[place] == pair else _NONE
    return found


@compiled
def _merge(size: int, merges: Merges, scratch: Scratch, out: Numbers) -> int:
    """Merge the symbols while any pair can be, and write what is left; how many they are.

    The pairs wait in a heap by rank and place; one whose symbols have changed meanwhile is passed over.
    """
    symbols, before, after, heap = scratch
    waiting = np.int64(0)
    for i in range(size):
        before[i], after[i] = i - 1, i + 1
        if i + 1 < size:
            waiting = _push_pair(i, i + 1, waiting, merges, scratch)
    while waiting > 0:
        top = heap[0]
        waiting -= 1
        _sink(heap, heap[waiting], waiting)
        left = top & _LOW
        right = np.int64(after[left])
        if symbols[left] < 0 or right >= size:
            continue
        result = _result(symbols[left], symbols[right], merges)
        if result == _NONE or result >> 32 != top >> 32:
            continue
        symbols[left], symbols[right] = result & _LOW, -1
        after[left] = after[right]
        if after[left] < size:
            before[after[left]] = left
            waiting = _push_pair(left, np.int64(after[left]), waiting, merges, scratch)
        if before[left] >= 0:
            waiting = _push_pair(np.int64(before[left]), left, waiting, merges, scratch)
    count, i = 0, np.int64(0)
    while i < size:
        out[count] = symbols[i]
        count += 1
        i = np.int64(after[i])
    return count


@compiled
def _push_pair(left: int, right: int, waiting: int, merges: Merges, scratch: Scratch) -> int:
    """Let a pair wait if it can be merged; how many wait now."""
    result = _result(scratch.symbols[left], scratch.symbols[right], merges)
    if result == _NONE:
        return waiting
    heap, item, place = scratch.heap, (result >> 32 << 32) | left, waiting
    while place > 0 and heap[(place - 1) >> 1] > item:
        heap[place] = heap[(place - 1) >> 1]
        place = (place - 1) >> 1
    heap[place] = item
    return waiting + 1


@compiled
def _sink(heap: Places, item: int, size: int) -> None:
    """Put an item in place of the top of a heap that has lost its last one."""
    place = np.int64(0)
    while 2 * place + 1 < size:
        child = 2 * place + 1
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= item:
            break
        heap[place] = heap[child]
        place = child
    heap[place] = item
