"""``fastslm pull``: download a model, check it, make it ready to run."""

from __future__ import annotations

from typing import Annotated

import typer

from fastslm.cli.options import (
    Context,
    Force,
    Json,
    LimitRate,
    MaxConnections,
    Mirrors,
    Name,
    Precision,
    PrecisionOption,
    Quiet,
    download_settings,
)
from fastslm.cli.output import Output, amount
from fastslm.cli.records import entry_record
from fastslm.errors import Cancelled


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
    no_convert: Annotated[bool, typer.Option("--no-convert", help="Stop after the verified download")] = False,
    limit_rate: LimitRate = None,
    max_connections: MaxConnections = None,
    mirror: Mirrors = None,
    metered: Annotated[bool, typer.Option("--metered", help="Tell the size and ask before the download")] = False,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Download a model, check every file against its hash, and convert it. Goes on where an earlier pull stopped."""
    from fastslm import api

    output = Output(as_json=as_json, quiet=quiet)
    settings = download_settings(limit_rate, max_connections, mirror)
    wanted, unwanted = tuple(include or ()), tuple(exclude or ())
    if metered:
        size = api.download_size(model, revision=revision, include=wanted, exclude=unwanted, settings=settings)
        _agree(model, size)
    with output.progress() as progress:
        pulled = api.pull(
            model,
            revision=revision,
            include=wanted,
            exclude=unwanted,
            settings=settings,
            precision=precision.choice,
            context_length=context,
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


def _agree(model: str, size: int | None) -> None:
    """Ask on stderr; no answer is a no.

    Raises:
        Cancelled: the user does not want the download.
    """
    told = "an unknown number of bytes" if size is None else amount(size)
    if size != 0 and not typer.confirm(f"`{model}` would download {told}. Go on?", err=True):
        raise Cancelled(f"`{model}` was not downloaded")
