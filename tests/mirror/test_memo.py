"""Answers that are asked for once."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from fastslm.errors import ModelNotFound
from fastslm.mirror import memo
from fastslm.mirror.memo import Memo


def test_a_class_that_asks_at_once_asks_once() -> None:
    """Everybody gets the one answer, and so do those who come soon after."""
    asked = []

    def ask() -> int:
        asked.append(1)
        time.sleep(0.05)
        return 7

    kept: Memo[int] = Memo(60)
    with ThreadPoolExecutor(20) as pool:
        assert set(pool.map(lambda _: kept.get("k", ask), range(20))) == {7}
    assert kept.get("k", ask) == 7
    assert len(asked) == 1


def test_a_refusal_is_kept_for_a_moment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everybody who waits gets it; later the question is asked again."""
    monkeypatch.setattr(memo, "FAILED_S", 0.05)
    kept: Memo[int] = Memo(60)

    def refuse() -> int:
        raise ModelNotFound("no")

    with pytest.raises(ModelNotFound):
        kept.get("k", refuse)
    with pytest.raises(ModelNotFound):
        kept.get("k", lambda: 1)
    time.sleep(0.06)
    assert kept.get("k", lambda: 1) == 1


def test_memory_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who asks for a million names does not fill it."""
    monkeypatch.setattr(memo, "MOST_KEYS", 3)
    kept: Memo[int] = Memo(60)
    for number in range(100):
        kept.get(number, lambda: 0)
    assert len(kept._answers) <= 3


def test_what_was_learnt_elsewhere_is_known() -> None:
    """It is not asked for."""
    kept: Memo[int] = Memo(60)
    kept.know("k", 5)
    assert kept.get("k", threading.get_ident) == 5
