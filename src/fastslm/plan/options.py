"""What a plan may be told. Light, so that a pull can have it without the rest of this folder."""

from __future__ import annotations

from dataclasses import dataclass, field

from fastslm.export.options import Precision, Target
from fastslm.hub import Wishes


@dataclass(frozen=True)
class PlanOptions:
    """What is planned for: a precision, a context (None for the model's own), the files to choose, and a target.

    ``at_once`` is the most files of weights that will be on disk at the same time, 0 for all, and ``held_bytes`` the
    most of one of them, 0 for all of it. ``speed`` measures the memory, where that was not done before, so that
    tokens/s can be told.
    """

    precision: Precision = "auto"
    context_length: int | None = None
    wishes: Wishes = field(default_factory=Wishes)
    target: Target = "auto"
    at_once: int = 0
    held_bytes: int = 0
    speed: bool = True
