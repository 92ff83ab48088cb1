"""How much a pull would download, told before its first byte of a model file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from fastslm.config import Settings
from fastslm.hub.catalogue import load_catalogue
from fastslm.hub.client import HubClient
from fastslm.hub.follow import is_weights
from fastslm.hub.layout import has_size
from fastslm.hub.plan import make_plan
from fastslm.hub.refs import ModelRef
from fastslm.hub.select import Wishes


def missing_bytes(
    ref: ModelRef,
    settings: Settings,
    wishes: Wishes | None = None,
    used_up: Callable[[str], bool] = lambda commit: False,
) -> int | None:
    """Bytes that are not on this machine yet; None when the server does not tell.

    Args:
        used_up: whether nobody wants the weights of a commit any more.

    Raises:
        FastSLMError: what ``fetch_model`` raises before it downloads.
    """
    if ref.kind == "local":
        return 0
    if ref.kind == "demo":
        demo = load_catalogue().demo
        here = has_size(settings.downloads_dir / "demo" / demo.file_name, demo.size_bytes)
        return 0 if here else demo.wheel_bytes
    if ref.kind == "url":
        from fastslm.hub.address import missing_bytes_of

        return missing_bytes_of(ref, settings)
    given = wishes or Wishes()
    chosen = replace(given, file=ref.file) if ref.file else given
    plan = make_plan(ref, settings, chosen, HubClient(settings))
    weightless = bool(plan.missing) and used_up(plan.commit)
    return sum(file.size for file in plan.missing if not (weightless and is_weights(file)))
