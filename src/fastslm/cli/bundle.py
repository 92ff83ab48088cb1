"""``fastslm bundle``: a converted model in one file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from fastslm.cli.options import Json, Name, Precision, PrecisionOption, Quiet
from fastslm.cli.output import Output, amount
from fastslm.errors import ModelNotFound


def command(
    model: Name,
    *,
    output_file: Annotated[Path | None, typer.Option("--output", "-o", help="File to write")] = None,
    precision: PrecisionOption = Precision.AUTO,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Put a model that is ready to run into one file; 'fastslm import FILE' unpacks it anywhere. Prints the file."""
    from fastslm import api
    from fastslm.config import Settings
    from fastslm.upkeep.bundle import SUFFIX, write_bundle

    output = Output(as_json=as_json, quiet=quiet)
    entry = api.find_entry(model, precision.choice, Settings.from_environment(), output.remark)
    if entry is None or not entry.usable:
        raise ModelNotFound(f"`{model}` is not ready on this machine", what="model", name=model)
    plain = re.sub(r"[^\w.-]+", "-", Path(entry.name).name, flags=re.ASCII).strip("-.") or "model"
    target = output_file or Path(f"{plain}-{entry.resolved_precision}{SUFFIX}")
    with output.progress() as progress:
        size = write_bundle(entry, target, progress)
    output.remark(f"{amount(size)} written")
    output.data({"name": entry.name, "file": str(target), "bytes": size}, str(target))
