"""Blocking questions in daemon threads, so that neither a mute server nor Ctrl-C has to be waited for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from queue import Empty, SimpleQueue
from typing import TypeVar

A = TypeVar("A")
T = TypeVar("T")


class NoAnswer(Exception):
    """The deadline passed; stays inside this folder, where it becomes an error that names who was asked."""


def in_parallel(ask: Callable[[A], T], items: Sequence[A], threads: int) -> Iterator[tuple[A, Future[T]]]:
    """Ask about every item with a few threads; the items come back in order, each with its answer to be.

    What was not begun when the caller stops listening is not asked any more.
    """
    todo: SimpleQueue[tuple[A, Future[T]]] = SimpleQueue()
    pairs: list[tuple[A, Future[T]]] = [(item, Future()) for item in items]
    for pair in pairs:
        todo.put(pair)
    for _ in range(min(threads, len(pairs))):
        threading.Thread(target=_work, args=(ask, todo), name="fastslm-ask", daemon=True).start()
    try:
        yield from pairs
    finally:
        for _, answer in pairs:
            answer.cancel()


def _work(ask: Callable[[A], T], todo: SimpleQueue[tuple[A, Future[T]]]) -> None:
    while True:
        try:
            item, answer = todo.get_nowait()
        except Empty:
            return
        if answer.set_running_or_notify_cancel():
            try:
                answer.set_result(ask(item))
            except BaseException as error:  # noqa: BLE001 - it is raised where the answer is read
                answer.set_exception(error)


def in_background(ask: Callable[[], T]) -> Future[T]:
    """The answer to be; its thread is nobody's concern."""
    todo: SimpleQueue[tuple[None, Future[T]]] = SimpleQueue()
    answer: Future[T] = Future()
    todo.put((None, answer))
    threading.Thread(target=_work, args=(lambda _: ask(), todo), name="fastslm-ask", daemon=True).start()
    return answer


def with_deadline(ask: Callable[[], T], timeout_s: float) -> T:
    """The answer, or NoAnswer; then the thread is left behind, and ends when its question does."""
    answer = in_background(ask)
    if not wait([answer], timeout_s).done:
        raise NoAnswer
    return answer.result()
