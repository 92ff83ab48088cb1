"""``fastslm rm``: remove a model."""

from __future__ import annotations

from typing import Annotated

import typer

from fastslm.cli.options import Json, Name, Precision, Quiet
from fastslm.cli.output import Output, amount
from fastslm.cli.records import entry_record


def command(
    model: Name,
    *,
    precision: Annotated[Precision | None, typer.Option(help="Only this precision (default: all)")] = None,
    source: Annotated[bool, typer.Option("--source", help="Its files in the shared hub cache as well")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Remove a model. Files in the hub cache, which other tools share, stay unless --source is given."""
    from fastslm.config import Settings
    from fastslm.removal import remove

    output = Output(as_json=as_json, quiet=quiet)
    settings = Settings.from_environment()
    removed = remove(model, precision=precision.choice if precision else None, source=source, settings=settings)
    if removed.kept_source is not None:
        output.remark(f"`{removed.kept_source}` stays; --source removes it too")
    record = {"removed": [entry_record(e) for e in removed.entries], "freed_bytes": removed.freed_bytes}
    output.data(record, f"removed {model}, {amount(removed.freed_bytes)} freed")
