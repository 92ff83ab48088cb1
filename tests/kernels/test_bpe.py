"""Byte-pair kernels against the slow definition."""

import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.reference.bpe import merged

from fastslm.kernels import bpe

SPELLING = np.array([byte if 0x20 < byte < 0x7F else -1 for byte in range(0x7F)], np.int32)


def written(value: object) -> np.ndarray:
    """JSON as the library writes it, without the outermost bracket before, with more of the file after."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))[1:] + "]}"
    return np.frombuffer(text.encode(), np.uint8)


def new_vocabulary(source: np.ndarray, count: int) -> bpe.Vocabulary:
    return bpe.Vocabulary(np.empty(2 * source.size, np.uint8), bpe.new_words(count, 4 * count))


def tables(vocab: dict[str, int], pairs: list[tuple[str, str]]) -> tuple[bpe.Vocabulary, bpe.Merges]:
    source = written(vocab)
    words = new_vocabulary(source, len(vocab))
    at, count = bpe.read_vocabulary(source, 0, SPELLING, words)
    assert (bytes(source[at:]), count) == (b"}]}", len(vocab))
    symbols = np.array([vocab.get(chr(byte), -1) for byte in range(256)], np.int32)
    merges = bpe.new_merges(symbols, len(pairs))
    source = written(pairs)
    assert bytes(source[bpe.read_merges(source, 0, SPELLING, words, merges) :]) == b"]]}"
    return words, merges


def encoded(pieces: list[str], merges: bpe.Merges, *, whole: bpe.Vocabulary | None = None, room: int = 64) -> list[int]:
    """Ids of pieces, which are cut before each space; a 7 after each piece."""
    words = [word for piece in pieces for word in re.findall(" ?[^ ]+| ", piece)]
    stops = np.cumsum([len(re.findall(" ?[^ ]+| ", piece)) for piece in pieces], dtype=np.int64)
    data = np.frombuffer("".join(pieces).encode(), np.uint8)
    ends = np.cumsum([len(word.encode()) for word in words], dtype=np.int64)
    out = np.full(data.size + len(pieces), -5, np.int32)
    count = bpe.encode(
        bpe.Text(data, ends, stops, np.full(len(pieces), 7, np.int64)),
        merges,
        whole or bpe.Vocabulary(np.empty(0, np.uint8), bpe.new_words(0, 0)),
        bpe.new_words(room, 2 * room),
        bpe.new_scratch(data.size),
        out,
    )
    return out[:count].tolist()


@st.composite
def trained(draw):
    """A vocabulary over a few letters, and merges in any order that make each of its longer tokens."""
    tokens = ["a", "b", "c"]
    pairs = []
    for _ in range(draw(st.integers(0, 25))):
        pair = (draw(st.sampled_from(tokens)), draw(st.sampled_from(tokens)))
        if pair not in pairs:
            pairs.append(pair)
            tokens += [] if "".join(pair) in tokens else ["".join(pair)]
    numbers = draw(st.permutations(range(20, 20 + len(tokens))))
    return dict(zip(tokens, numbers, strict=True)), draw(st.permutations(pairs))


@settings(max_examples=300, deadline=None)
@given(trained(), st.lists(st.text("abc", min_size=1, max_size=60), min_size=1, max_size=12), st.integers(0, 3))
def test_words_are_merged_as_defined_whether_they_were_seen_or_not(model, words, room):
    """The table of words is full after ``room`` of them: the others are merged each time, with the same result."""
    vocab, pairs = model
    _, merges = tables(vocab, pairs)
    ranks = {pair: rank for rank, pair in enumerate(pairs)}
    expected = [vocab[token] for word in words for token in merged(word, ranks)]
    assert encoded([" ".join(words)], merges, room=room) == [*expected, 7]  # the space has no token here
    assert encoded([" ".join(words * 2)], merges, room=room) == [*expected, *expected, 7]


def test_a_word_of_a_hundred_thousand_letters_takes_no_square_of_time():
    """The slow definition would take an hour for the second word; the time limit of the test run is two minutes."""
    vocab = {"a": 1, "aa": 2, "aaaa": 3, "b": 4}
    _, merges = tables(vocab, [("a", "a"), ("aa", "aa")])
    assert encoded(["a" * 99], merges) == [*[3] * 24, 2, 1, 7]
    tokens = encoded([("a" * 98 + "b") * 3000], merges)
    assert sum({1: 1, 2: 2, 3: 4, 4: 1, 7: 0}[token] for token in tokens) == 99 * 3000


def test_a_pair_that_has_changed_waits_for_its_new_rank():
    """When ``bc`` is made, ``a`` before it has another neighbour, with which it is merged later, or never."""
    vocab = {"a": 1, "b": 2, "c": 3, "d": 4, "bc": 5, "ab": 6, "bcd": 7, "abc": 8}
    _, merges = tables(vocab, [("b", "c"), ("a", "b"), ("bc", "d"), ("a", "bc")])
    assert encoded(["abcd"], merges) == [1, 7, 7]
    assert encoded(["abc"], merges) == [8, 7]


def test_whole_words_come_before_merges_where_the_model_says_so():
    vocab = {"a": 1, "b": 2, "ab": 3, "ba": 4, "aba": 5}
    words, merges = tables(vocab, [("b", "a"), ("a", "b")])
    assert encoded(["aba", "ab"], merges) == [1, 4, 7, 3, 7]
    assert encoded(["aba", "abab"], merges, whole=words) == [5, 7, 1, 4, 2, 7]


def test_bytes_without_a_token_are_passed_over_and_what_is_left_is_merged():
    _, merges = tables({"a": 1, "b": 2, "ab": 3}, [("a", "b")])
    assert encoded(["axb", "x", ""], merges) == [3, 7, 7, 7]


def test_tokens_that_spell_no_bytes_are_counted_and_passed_over():
    """A special token may have any characters; quotes and backslashes are the only ones that JSON escapes."""
    vocab = {"a": 1, '"': 2, "\\": 3, '"\\': 4, "<｜end｜>": 5, "é": 6, "\n": 7, "": 8, " ": 9}
    words, merges = tables(vocab, [('"', "\\"), ("é", "a")][:1])
    assert words.words.number[0] == 4
    assert encoded(['a"\\a'], merges) == [1, 4, 1, 7]


@pytest.mark.parametrize("end", range(1, 40))
def test_a_model_that_is_cut_off_is_no_model(end):
    """The library writes what we read, and may write it otherwise one day: then the answer is no, not a crash."""
    source = written({"a": 1, "b\\": 2, '"': 3, "é": 4, "ab": 5})
    at, _ = bpe.read_vocabulary(source[:end], 0, SPELLING, new_vocabulary(source, 5))
    assert bytes(source[at:][:1]) == b"}" or at in (-1, end)
    words, merges = tables({"a": 1, "b": 2, "ab": 3}, [])
    source = written([("a", "b"), ("ab", "b")][:1])[:end]
    assert bpe.read_merges(source, 0, SPELLING, words, bpe.new_merges(merges.bytes, 9)) in (-1, source.size, 9)


@pytest.mark.parametrize(
    "text", ['"a" :1}', '"a":1,"a":2}', "a:1}", '["a"]}', '"a":9999999999}', '"a"', '"\\', '"\\u00']
)
def test_what_is_no_vocabulary_is_refused(text):
    source = np.frombuffer(text.encode(), np.uint8)
    at, _ = bpe.read_vocabulary(source, 0, SPELLING, new_vocabulary(source, 2))
    assert at < 0 or bytes(source[at:]) != b"}"
