"""``plan`` and ``download_size``: what a pull would cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fastslm.api.names import meant, patterns, wanted_options
from fastslm.api.records import of_no_source
from fastslm.config import Settings

if TYPE_CHECKING:
    from fastslm.export.options import Precision, Target
    from fastslm.plan.estimate import Plan


def plan(
    name: str,
    *,
    revision: str | None = None,
    precision: Precision = "auto",
    context_length: int | None = None,
    settings: Settings | None = None,
) -> Plan:
    """Tell what a model would cost here, without downloading it: a few hundred kilobytes of headers are fetched.

    Returns:
        Download, disk, memory and speed for every precision; its ``check`` raises what a pull would refuse.

    Raises:
        FastSLMError: one of its classes, see ``fastslm.errors``.
    """
    from fastslm.plan.options import PlanOptions
    from fastslm.plan.planner import plan as make_plan

    settings = settings or Settings.from_environment()
    return make_plan(meant(name, revision, settings), settings, PlanOptions(precision, context_length))


def download_size(
    name: str,
    *,
    revision: str | None = None,
    precision: Precision = "auto",
    context_length: int | None = None,
    target: Target = "auto",
    include: str | Sequence[str] = (),
    exclude: str | Sequence[str] = (),
    convert: bool = True,
    settings: Settings | None = None,
) -> int | None:
    """Bytes that ``pull`` with these arguments would download; None when the server does not tell.

    Weights that were removed after just this conversion are not downloaded again.

    Raises:
        FastSLMError: what ``pull`` raises before it downloads.
    """
    from fastslm.engine.quality.options import Checks
    from fastslm.hub import Wishes
    from fastslm.hub.announce import missing_bytes

    settings = settings or Settings.from_environment()
    options = wanted_options(precision, context_length, target)
    graph = precision if convert else "auto"
    wishes = Wishes(patterns("include", include), patterns("exclude", exclude), precision=graph)
    ref = meant(name, revision, settings)

    def used_up(commit: str) -> bool:
        return convert and of_no_source(ref.name, commit, options, Checks(), settings) is not None

    return missing_bytes(ref, settings, wishes, used_up)
