"""``fastslm df``: what takes room on the disk."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from fastslm.cli.options import Json, Quiet
from fastslm.cli.output import Output, amount, table

if TYPE_CHECKING:
    from fastslm.upkeep.usage import Row, Usage

HEADINGS = ("KIND", "NAME", "SIZE")


def command(*, as_json: Json = False, quiet: Quiet = False) -> None:
    """Show what takes room: conversions, the hub cache by repository, downloads, partial files.

    Files that several names share are counted once.
    """
    from fastslm.config import Settings
    from fastslm.upkeep.usage import usage

    output = Output(as_json=as_json, quiet=quiet)
    found = usage(Settings.from_environment())
    output.data(record(found), table(HEADINGS, [*map(row, found.rows), ("", "all", amount(found.total_bytes))]))
    output.remark(f"{amount(found.free_bytes)} are free")


def record(found: Usage) -> dict[str, object]:
    """What ``--json`` shows."""
    rows = [{**asdict(each), "path": str(each.path)} for each in found.rows]
    return {"rows": rows, "total_bytes": found.total_bytes, "free_bytes": found.free_bytes}


def row(each: Row) -> tuple[str, ...]:
    """One row under ``HEADINGS``."""
    return (each.kind, each.name, amount(each.bytes))
