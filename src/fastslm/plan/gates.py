"""The gates of a pull: what cannot work on this machine is refused before it costs anything."""

from __future__ import annotations

from pathlib import Path

from fastslm import machine
from fastslm.config import Settings
from fastslm.errors import FormatError, NetworkError, NotFoundError
from fastslm.hub import Fetched, Gate, ModelRef
from fastslm.hub.client import HubClient
from fastslm.hub.look.glance import at_hand
from fastslm.hub.plan import DownloadPlan
from fastslm.plan.options import PlanOptions

WORTH_A_LOOK = 1 / 16
"""A download smaller than this share of the memory fits in any precision, whatever it holds."""


def before_download(ref: ModelRef, settings: Settings, options: PlanOptions) -> Gate:
    """The gate between plan and download.

    It raises DoesNotFit, UnsupportedModel or UsageError; headers that cannot be looked at are left to the download,
    which has its own answers to a bad line and a damaged file.
    """

    def gate(download: DownloadPlan, client: HubClient) -> None:
        if not _is_large(download.total_bytes):
            return
        from fastslm.plan.planner import plan_download

        try:
            plan = plan_download(ref, download, client, settings, options)
        except (NetworkError, NotFoundError, FormatError):
            return
        plan.check()

    return gate


def before_conversion(ref: ModelRef, source: Path, settings: Settings, options: PlanOptions) -> None:
    """The gate between download and conversion, for models whose headers could not be seen before.

    Raises:
        DiskFull, DoesNotFit: it will not work.
        UnsupportedModel, FormatError, UsageError: it cannot be converted.
    """
    seen = at_hand(Fetched(ref, source, "", ()))
    if _is_large(seen.total_bytes):
        from fastslm.formats import has_weights, open_outline
        from fastslm.plan.planner import plan_outline

        if not has_weights(source):  # a ready-made graph, of which nothing is known before it runs
            return
        plan_outline(ref, seen, open_outline(source), settings, options).check()


def _is_large(size: int) -> bool:
    return size > WORTH_A_LOOK * machine.inspect().memory_bytes
