"""How long work reports where it stands: one frozen value, one callback. Floor 1."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """One look at a running stage.

    Attributes:
        stage: ``resolving``, ``downloading``, ``verifying``, ``unpacking`` or ``converting``.
        done, total: in ``unit``; total is 0 while unknown.
        unit: ``B`` for bytes, or a noun in the plural (``tensors``, ``files``).
        detail: what is being worked on, e.g. a file name.
    """

    stage: str
    done: int
    total: int
    unit: str = "B"
    detail: str = ""


ProgressCallback = Callable[[Progress], None]


def silent(progress: Progress) -> None:
    """The callback of callers that do not want to know."""
