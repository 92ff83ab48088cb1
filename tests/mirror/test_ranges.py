"""Range headers as clients and strangers write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastslm.mirror.ranges import Span, Unsatisfiable, asked_span, is_unchanged

SIZE = 1000


@pytest.mark.parametrize(
    ("text", "begin", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=990-", 990, 1000),
        ("bytes=990-99999999999", 990, 1000),
        ("bytes=-10", 990, 1000),
        ("bytes=-5000", 0, 1000),
        (" BYTES = 1 - 2 ", 1, 3),
    ],
)
def test_a_range_is_understood(text: str, begin: int, end: int) -> None:
    """Every form that the standard has for one range."""
    assert asked_span({"range": text}, SIZE, "e") == Span(begin, end, SIZE, partial=True)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "bytes=",
        "bytes=-",
        "bytes=5-4",
        "bytes=0-1,5-6",
        "lines=1-2",
        "bytes=a-b",
        "bytes=\u0661-2",
        "bytes=" + "9" * 99,
    ],
)
def test_what_cannot_be_read_is_no_range(text: str) -> None:
    """The whole file is always a right answer."""
    assert asked_span({"range": text}, SIZE, "e") == Span(0, SIZE, SIZE, partial=False)


@pytest.mark.parametrize("text", ["bytes=1000-", "bytes=5000-6000", "bytes=-0"])
def test_a_range_behind_the_end_is_refused(text: str) -> None:
    """A client that resumes at the wrong place learns the size instead of getting nothing."""
    with pytest.raises(Unsatisfiable):
        asked_span({"range": text}, SIZE, "e")


def test_if_range_protects_against_mixing_two_versions() -> None:
    """A resumed download of a changed file begins again."""
    assert asked_span({"range": "bytes=5-", "if-range": '"e"'}, SIZE, "e").partial
    assert not asked_span({"range": "bytes=5-", "if-range": '"other"'}, SIZE, "e").partial
    assert not asked_span({"range": "bytes=5-", "if-range": 'W/"e"'}, SIZE, "e").partial


def test_nothing_is_sent_twice_to_who_has_it() -> None:
    """If-None-Match, with its lists, weak tags and star."""
    assert is_unchanged({"if-none-match": '"x", W/"e"'}, "e")
    assert is_unchanged({"if-none-match": "*"}, "e")
    assert not is_unchanged({"if-none-match": '"x"'}, "e")
    assert not is_unchanged({}, "e")


@given(st.text(max_size=40) | st.from_regex(r"bytes=\d{0,5}-\d{0,5}"), st.integers(0, 3000))
def test_a_span_never_leaves_the_file(text: str, size: int) -> None:
    """Whatever the header says."""
    try:
        span = asked_span({"range": text}, size, "e")
    except Unsatisfiable:
        return
    assert 0 <= span.begin <= span.end <= size
    assert span.partial == (span.partial and span.begin < span.end)
