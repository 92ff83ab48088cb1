"""How much a pull would download, told before its first byte of a model file."""

from __future__ import annotations

from fastslm.config import Settings
from fastslm.hub.catalogue import load_catalogue
from fastslm.hub.client import HubClient
from fastslm.hub.layout import has_size
from fastslm.hub.plan import make_plan
from fastslm.hub.refs import ModelRef
from fastslm.hub.select import Wishes


def missing_bytes(ref: ModelRef, settings: Settings, wishes: Wishes | None = None) -> int | None:
    """Bytes that are not on this machine yet; None when the server does not tell.

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
    chosen = Wishes(given.include, given.exclude, ref.file) if ref.file else given
    return sum(file.size for file in make_plan(ref, settings, chosen, HubClient(settings)).missing)
