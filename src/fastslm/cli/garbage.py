"""``fastslm gc``: remove what nobody needs any more."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from fastslm.cli.options import Json, Quiet
from fastslm.cli.output import Output, amount

if TYPE_CHECKING:
    from fastslm.upkeep.garbage import Item


def command(
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask")] = False,
    partials: Annotated[bool, typer.Option("--partials", help="Unfinished downloads as well")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Remove leftovers of dead processes, blobs that no snapshot shows and conversions that no model uses.

    Says what it will remove and asks. Unfinished downloads stay unless --partials is given.
    """
    from fastslm.config import Settings
    from fastslm.upkeep.garbage import collect, remove

    output, settings = Output(as_json=as_json, quiet=quiet), Settings.from_environment()
    items = collect(settings, with_partials=partials)
    if not as_json and items:
        output.data(None, "\n".join(f"{amount(item.bytes):>8}  {item.path}  ({item.reason})" for item in items))
    gone: list[Item] = []
    agreed = bool(items) and (yes or _agrees(items, output))
    problems = remove(items, settings, gone.append) if agreed else ()
    if as_json:
        output.data(record(items, gone), "")
    output.remark(summary(items, gone, agreed=agreed))
    if problems:
        raise problems[0]


def _agrees(items: tuple[Item, ...], output: Output) -> bool:
    """Ask at the keyboard; without one nothing is removed unasked."""
    if output.as_json or not sys.stdin.isatty():
        return False
    question = f"Remove these {len(items)} and free {amount(sum(item.bytes for item in items))}?"
    return typer.confirm(question, err=True)


def record(items: tuple[Item, ...], gone: list[Item]) -> dict[str, object]:
    """What ``--json`` shows."""
    removed = {item.path for item in gone}
    rows = [{"path": str(i.path), "bytes": i.bytes, "reason": i.reason, "removed": i.path in removed} for i in items]
    return {"items": rows, "freed_bytes": sum(item.bytes for item in gone)}


def summary(items: tuple[Item, ...], gone: list[Item], *, agreed: bool) -> str:
    """One line about everything."""
    if not items:
        return "There is nothing to remove."
    if not agreed:
        return f"{amount(sum(item.bytes for item in items))} could be freed; --yes removes it"
    return f"{len(gone)} removed, {amount(sum(item.bytes for item in gone))} freed"
