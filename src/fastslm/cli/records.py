"""How models look as JSON and as rows of a table."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path

from fastslm.cli.output import amount
from fastslm.store.entry import Entry

HEADINGS = ("NAME", "PRECISION", "SIZE", "STATE", "MODIFIED")


def entry_record(entry: Entry) -> dict[str, object]:
    """All facts of an entry, with what can be derived from them."""
    return {**asdict(entry), "interrupted": entry.interrupted, "usable": entry.usable}


def entry_row(entry: Entry) -> tuple[str, ...]:
    """One row under ``HEADINGS``."""
    precision = entry.resolved_precision or entry.precision
    return (_short(entry.name), precision, amount(entry.size_bytes), state_text(entry), age(entry.updated))


def state_text(entry: Entry) -> str:
    """The state in a few words."""
    if entry.interrupted:
        return f"{entry.state}, interrupted"
    if entry.cancelled:
        return f"cancelled at {entry.stage}"
    if entry.state == "failed":
        return f"failed at {entry.stage}"
    return entry.state


def age(stamp: str, now: datetime | None = None) -> str:
    """How long ago a time of the registry was: ``3 minutes ago``."""
    try:
        then = datetime.fromisoformat(stamp.replace("Z", "+00:00"))
    except ValueError:
        return "-"
    seconds = int(((now or datetime.now(timezone.utc)) - then).total_seconds())
    for name, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        count = seconds // length
        if count >= 1:
            return f"{count} {name}{'s' if count > 1 else ''} ago"
    return "just now"


def _short(name: str) -> str:
    """Local paths below the home folder begin with ``~``."""
    home = str(Path.home())
    return "~" + name[len(home) :] if name.startswith(home + "/") else name
