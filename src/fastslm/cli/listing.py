"""``fastslm list``: the models on this machine and their state."""

from __future__ import annotations

from fastslm.cli.options import Json, Quiet
from fastslm.cli.output import Output, table
from fastslm.cli.records import HEADINGS, entry_record, entry_row


def command(*, as_json: Json = False, quiet: Quiet = False) -> None:
    """Show the models on this machine and their state."""
    from fastslm.config import Settings
    from fastslm.store.registry import Registry

    output = Output(as_json=as_json, quiet=quiet)
    registry = Registry(Settings.from_environment().registry_file)
    entries = registry.list()
    for notice in registry.notices:
        output.remark(notice)
    if not entries:
        output.remark("No models yet. Try: fastslm pull demo")
    if entries or as_json:
        output.data([entry_record(e) for e in entries], table(HEADINGS, [entry_row(e) for e in entries]))
