"""``fastslm cp``: a second name for a model."""

from __future__ import annotations

from typing import Annotated

import typer

from fastslm.cli.options import Json, Name, Quiet
from fastslm.cli.output import Output
from fastslm.cli.records import entry_record
from fastslm.errors import ModelNotFound, UsageError


def command(
    model: Name,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its second name")],
    *,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Give a model that is ready to run a second name. No file is copied; it stays until both names are removed."""
    from fastslm.config import Settings
    from fastslm.naming import reference
    from fastslm.store.registry import Registry
    from fastslm.upkeep.bring_in import check_name

    output, settings = Output(as_json=as_json, quiet=quiet), Settings.from_environment()
    registry = Registry(settings.registry_file)
    meant = reference(model, settings).name
    entries = registry.list()
    ready = [entry for entry in entries if entry.name == meant and entry.usable]
    if not ready:
        raise ModelNotFound(f"`{model}` is not ready on this machine", what="model", name=model)
    if any(entry.name == name for entry in entries):
        raise UsageError(f"`{name}` is the name of a model, expected a new one", name="name", value=name)
    check_name(name)
    copies = [registry.copy(entry, name) for entry in ready]
    output.data([entry_record(entry) for entry in copies], name)
