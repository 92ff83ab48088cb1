"""What a caller may say: names, patterns and wishes are checked before anything is done."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, cast

from fastslm.config import Settings
from fastslm.errors import UsageError

if TYPE_CHECKING:
    from fastslm.export.options import ConvertOptions, Precision, Target
    from fastslm.hub import ModelRef

Notice = Callable[[str], None]


def ignore(notice: str) -> None:
    """The listener of callers that do not want to be told."""


def model_text(name: object) -> str:
    """A model's name as text; a ``Path`` never means a repository."""
    if isinstance(name, Path):
        return str(name.absolute())
    if not isinstance(name, str):
        message = f"the model is `{name!r}`, expected a name, a path or an address"
        raise UsageError(message, name="model", value=name)
    return name


def patterns(name: str, patterns: object) -> tuple[str, ...]:
    """One pattern or several; a text is one, not the sequence of its letters."""
    several = tuple(patterns) if isinstance(patterns, Iterable) and not isinstance(patterns, str) else (patterns,)
    texts = tuple(pattern for pattern in several if isinstance(pattern, str))
    if len(texts) != len(several):
        raise UsageError(f"{name} is `{patterns!r}`, expected file patterns", name=name, value=patterns)
    return texts


def meant(name: str | Path, revision: str | None, settings: Settings) -> ModelRef:
    """The model that a name means. Raises UsageError, ModelNotFound."""
    from fastslm.naming import reference

    return reference(model_text(name), settings, revision)


def wanted_options(precision: str, context_length: int | None, target: str) -> ConvertOptions:
    """The options of a conversion; name and commit are not known yet. Raises UsageError."""
    from fastslm.export.options import ConvertOptions

    checked = cast("Precision", precision), context_length, cast("Target", target)  # any other word is refused
    return ConvertOptions("", "", *checked)


def remark_on_target(wanted: ConvertOptions, notice: Notice) -> None:
    """Say in one line why a model is made for stock operators although nobody asked for them."""
    from fastslm import ops

    if wanted.target == "auto" and (reason := ops.why_unusable()):
        notice(f"{reason}, so the model is made for stock operators")
