"""``fastslm pull``: download a model, check it, make it ready to run."""

from __future__ import annotations

from typing import Annotated

import typer

from fastslm.cli.options import Context, Force, Json, Name, Precision, PrecisionOption, Quiet, Target, TargetOption
from fastslm.cli.output import Output, amount
from fastslm.cli.records import entry_record


def command(
    model: Name,
    *,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit")] = None,
    include: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="Only files that match this pattern (repeatable)")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="No files that match this pattern (repeatable)")
    ] = None,
    precision: PrecisionOption = Precision.AUTO,
    context: Context = None,
    target: TargetOption = Target.AUTO,
    no_convert: Annotated[bool, typer.Option("--no-convert", help="Stop after the verified download")] = False,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Download a model, check every file against its hash, and convert it. Goes on where an earlier pull stopped."""
    from fastslm import api

    output = Output(as_json=as_json, quiet=quiet)
    with output.progress() as progress:
        pulled = api.pull(
            model,
            revision=revision,
            include=tuple(include or ()),
            exclude=tuple(exclude or ()),
            precision=precision.choice,
            context_length=context,
            target=target.choice,
            convert=not no_convert,
            force=force,
            progress=progress,
            notice=output.remark,
        )
    if pulled.resumed_bytes:
        output.remark(f"{amount(pulled.resumed_bytes)} were already here")
    record = {
        **entry_record(pulled.entry),
        "wire_bytes": pulled.wire_bytes,
        "resumed_bytes": pulled.resumed_bytes,
    }
    output.data(record, str(pulled.path))
