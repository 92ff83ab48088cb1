"""Answers that are asked for once, however many want them at the same time, and kept for a while."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

from fastslm.errors import FastSLMError

T = TypeVar("T")

MOST_KEYS = 1024
FAILED_S = 2.0
"""How long a refusal counts: long enough for a class that asks at the same moment."""


class Memo(Generic[T]):
    """A bounded memory of answers; thread-safe."""

    def __init__(self, keep_s: float) -> None:
        self._keep_s = keep_s
        self._lock = threading.Lock()
        self._answers: dict[Hashable, tuple[float, Future[T]]] = {}

    def get(self, key: Hashable, ask: Callable[[], T]) -> T:
        """The answer, from memory, from whoever is asking already, or from ``ask``. Raises what ``ask`` raises."""
        now = time.monotonic()
        with self._lock:
            until, answer = self._answers.get(key, (0.0, None))
            mine = answer is None or now >= until
            if mine:
                answer = self._reserve(key)
        assert answer is not None
        if mine:
            self._answer(key, answer, ask)
        return answer.result()

    def know(self, key: Hashable, value: T) -> None:
        """Remember an answer that was found on another way."""
        with self._lock:
            answer = self._reserve(key)
            answer.set_result(value)
            self._answers[key] = (time.monotonic() + self._keep_s, answer)

    def _reserve(self, key: Hashable) -> Future[T]:
        self._answers.pop(key, None)
        while len(self._answers) >= MOST_KEYS:
            self._answers.pop(next(iter(self._answers)))
        answer: Future[T] = Future()
        self._answers[key] = (float("inf"), answer)
        return answer

    def _answer(self, key: Hashable, answer: Future[T], ask: Callable[[], T]) -> None:
        keep_s = FAILED_S
        try:
            answer.set_result(ask())
            keep_s = self._keep_s
        except BaseException as error:  # noqa: BLE001 - it is raised where the answer is read
            answer.set_exception(error)
            keep_s = FAILED_S if isinstance(error, FastSLMError) else 0.0
        finally:
            with self._lock:
                if self._answers.get(key, (0.0, None))[1] is answer:
                    self._answers[key] = (time.monotonic() + keep_s, answer)
