"""Ask a pull in another process to stop: a file that it looks for whenever it reports its progress.

A file works on every system, and a program that only uses the library is not struck by a signal.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

from fastslm.config import Settings
from fastslm.errors import Cancelled, StoreError
from fastslm.progress import Progress, ProgressCallback


@contextmanager
def asking(name: str, settings: Settings) -> Iterator[None]:
    """As long as this lasts, whoever works on the model finds the wish to stop.

    Raises:
        StoreError: the wish cannot be written down.
    """
    wish = _wish(name, settings)
    try:
        wish.parent.mkdir(parents=True, exist_ok=True)
        wish.touch()
    except OSError as error:
        raise StoreError(f"`{wish}` cannot be written: {error.strerror}", path=str(wish)) from error
    try:
        yield
    finally:
        _withdraw(wish)


def heeding(name: str, settings: Settings, progress: ProgressCallback) -> ProgressCallback:
    """A callback that reports to ``progress`` and raises Cancelled once somebody asks; an old wish is forgotten."""
    wish = _wish(name, settings)
    _withdraw(wish)

    def report(now: Progress) -> None:
        progress(now)
        if wish.exists():
            raise Cancelled(f"`{name}` was cancelled by another process")

    return report


def _wish(name: str, settings: Settings) -> Path:
    return settings.home / "cancel" / sha256(name.encode()).hexdigest()[:16]


def _withdraw(wish: Path) -> None:
    with suppress(OSError):
        wish.unlink(missing_ok=True)
        wish.parent.rmdir()
