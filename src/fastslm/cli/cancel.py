"""``fastslm cancel``: give up a download."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from fastslm.cli.options import Json, Name, Quiet
from fastslm.cli.output import Output, amount


def command(
    model: Name,
    *,
    keep: Annotated[bool, typer.Option("--keep", help="Keep what is here, for a later pull to go on from")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Stop a download, wherever it runs, and remove its unfinished files. A model that was usable stays usable."""
    from fastslm.config import Settings
    from fastslm.naming import reference
    from fastslm.upkeep.cancel import cancel

    output, settings = Output(as_json=as_json, quiet=quiet), Settings.from_environment()
    done = cancel(reference(model, settings), settings, keep=keep)
    rest = f"{amount(done.kept_bytes)} kept" if keep else f"{amount(done.freed_bytes)} freed"
    output.data(asdict(done), f"{'stopped' if done.stopped else 'cancelled'} {model}, {rest}")
