"""Questions in the background: answered in order, given up in time, and never a reason to wait at the exit."""

from __future__ import annotations

import threading
import time

import pytest

from fastslm.hub.parallel import NoAnswer, in_parallel, with_deadline


def test_answers_come_in_the_order_of_the_items() -> None:
    """Whoever answers first; an error is raised where its answer is read."""

    def ask(item: int) -> int:
        time.sleep(0.02 / (item + 1))
        if item == 3:
            raise ValueError("three")
        return item * item

    seen = []
    for item, answer in in_parallel(ask, range(8), 4):
        if item == 3:
            with pytest.raises(ValueError, match="three"):
                answer.result(5)
        else:
            seen.append((item, answer.result(5)))
    assert seen == [(item, item * item) for item in range(8) if item != 3]


def test_a_listener_who_leaves_stops_the_rest() -> None:
    """After an error nobody asks the hub about a hundred more files."""
    asked: list[int] = []
    release = threading.Event()

    def ask(item: int) -> int:
        asked.append(item)
        release.wait(5)
        return item

    for item, _ in in_parallel(ask, range(100), 2):
        if item == 1:
            break
    release.set()
    time.sleep(0.05)
    assert len(asked) <= 2


def test_a_deadline() -> None:
    """An answer in time is returned, an error is raised, silence is NoAnswer."""
    assert with_deadline(lambda: 7, 5) == 7
    with pytest.raises(KeyError):
        with_deadline(lambda: {}["x"], 5)
    release = threading.Event()
    started = time.monotonic()
    with pytest.raises(NoAnswer):
        with_deadline(lambda: release.wait(5), 0.05)
    assert time.monotonic() - started < 2
    release.set()
