"""Cutting text by hand-made rules; rules of tokenizers are compared with the library in tests/text."""

import numpy as np
import pytest

from fastslm.kernels import splitting

KNOWN = np.uint32(splitting.KNOWN)


def test_new_characters_are_collected_until_the_place_is_full():
    kinds = np.zeros(0x80, np.uint32)
    kinds[ord("b")] = KNOWN
    characters = np.frombuffer("aabaacd".encode("utf-32-le"), np.uint32)
    found = np.zeros(8, np.uint32)
    assert {*map(chr, found[: splitting.unknown(characters, kinds, found)])} == set("acd")
    assert splitting.unknown(characters, kinds, np.zeros(1, np.uint32)) == 1


def spaces_and_letters() -> splitting.Rules:
    """``" ?[^ ]+|x+"`` with one set for spaces, one for all other characters but the digit 1, and one for ``x``."""
    kinds = np.full(0x110000, KNOWN | np.uint32(2), np.uint32)
    kinds[ord(" ")], kinds[ord("1")], kinds[ord("x")] = KNOWN | np.uint32(1), KNOWN, KNOWN | np.uint32(6)
    return splitting.Rules(
        levels=np.array([[0, 2]], np.int32),
        alternatives=np.array([[0, 2, 0, 0], [2, 3, 0, 0]], np.int32),
        starts=np.array([3, 4], np.uint32),
        steps=np.array([[0, 0, 1], [1, 1, 1 << 30], [2, 1, 1 << 30]], np.int32),
        kinds=kinds,
    )


@pytest.mark.parametrize(
    ("pieces", "words"),
    [
        (["the dog"], [["the", " dog"]]),
        (["a", " b c"], [["a"], [" b", " c"]]),
        (["", "", "a"], [[], [], ["a"]]),
        (["a1 1b  c"], [["a", "1 1", "b", " ", " c"]]),
        (["é 你好 🙂"], [["é", " 你好", " 🙂"]]),
        (["   "], [["   "]]),
        ([], []),
    ],
)
def test_words_do_not_reach_from_piece_to_piece_and_gaps_are_words(pieces, words):
    characters = np.frombuffer("".join(pieces).encode("utf-32-le"), np.uint32)
    stops = np.cumsum([*map(len, pieces)], dtype=np.int64)
    ends = np.empty(characters.size, np.int64)
    count = splitting.cut(characters, stops, spaces_and_letters(), ends)
    expected = [word for piece in words for word in piece]
    assert ends[:count].tolist() == np.cumsum([len(word.encode()) for word in expected]).tolist()
    assert stops.tolist() == np.cumsum([*map(len, words)]).tolist()
