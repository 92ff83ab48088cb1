"""Stop strings: found wherever tokens cut them, and nothing that might begin one is shown too early."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastslm.engine.stop import StopMatcher
from fastslm.errors import UsageError

texts = st.text("ab\n.", max_size=30)
stops = st.lists(st.text("ab\n.", min_size=1, max_size=5), max_size=4)


def run(pieces, strings):
    matcher = StopMatcher(strings)
    shown = [matcher.push(piece) for piece in pieces]
    return [*shown, matcher.flush()], matcher.stopped


def cut_slowly(text, strings):
    """The definition: read character by character; the first stop string to be complete ends the text."""
    for end in range(len(text) + 1):
        complete = [s for s in strings if text[:end].endswith(s)]
        if complete:
            return text[: end - max(map(len, complete))], True
    return text, False


@given(st.lists(texts, max_size=8), stops)
def test_the_cut_does_not_depend_on_the_pieces(pieces, strings):
    shown, stopped = run(pieces, strings)
    assert ("".join(shown), stopped) == cut_slowly("".join(pieces), strings)


@given(st.lists(texts, max_size=8), stops)
def test_text_is_held_back_only_while_it_may_begin_a_stop_string(pieces, strings):
    matcher = StopMatcher(strings)
    seen = shown = ""
    for piece in pieces:
        seen += piece
        shown += matcher.push(piece)
        if not matcher.stopped:
            held = seen[len(shown) :]
            assert seen.startswith(shown)
            assert held == "" or any(s.startswith(held) and s != held for s in strings)


def test_a_stop_string_over_three_tokens():
    assert run(["Hello", " <", "/st", "op>", " and more"], ["</stop>"]) == (["Hello", " ", "", "", "", ""], True)


def test_a_stop_string_that_is_the_whole_text():
    assert run(["EN", "D"], ["END"]) == (["", "", ""], True)


def test_a_false_beginning_is_given_back():
    assert run(["a", "ab", "c"], ["aab!"]) == (["", "", "aabc", ""], False)
    assert run(["x", "</st"], ["</stop>"]) == (["x", "", "</st"], False)


def test_the_longest_of_those_that_end_together_wins():
    assert "".join(run(["one\n\nUser:"], ["User:", "\n\nUser:"])[0]) == "one"


def test_an_empty_stop_string_is_refused():
    with pytest.raises(UsageError, match="a stop string is empty"):
        StopMatcher(["a", ""])
