"""``pull``, ``convert``, ``plan``, ``load``: the rooms below put together, with every step recorded in the registry.

Law: what was usable stays usable until something better is complete.
"""

from __future__ import annotations

from fastslm.api.converting import convert
from fastslm.api.foretelling import download_size, plan
from fastslm.api.loading import load, remember_speed
from fastslm.api.names import Notice, ignore
from fastslm.api.pulling import Pulled, pull
from fastslm.api.records import find_entry, fingerprint

__all__ = [
    "Notice",
    "Pulled",
    "convert",
    "download_size",
    "find_entry",
    "fingerprint",
    "ignore",
    "load",
    "plan",
    "pull",
    "remember_speed",
]
