"""``fastslm list``: the models on this machine and their state."""

from __future__ import annotations

from fastslm.cli.options import Json, Quiet
from fastslm.cli.output import Output, amount, table
from fastslm.cli.records import HEADINGS, entry_record, entry_row, state_text
from fastslm.store.entry import Entry


def command(*, as_json: Json = False, quiet: Quiet = False) -> None:
    """Show the models on this machine and their state; of unfinished downloads, how much lies here."""
    from fastslm.config import Settings
    from fastslm.hub.disk.partials import partials
    from fastslm.store.registry import Registry

    output, settings = Output(as_json=as_json, quiet=quiet), Settings.from_environment()
    registry = Registry(settings.registry_file)
    entries = registry.list()
    for notice in registry.notices:
        output.remark(notice)
    unfinished = tuple(partials(settings))
    held = {entry.key: sum(each.disk_bytes for each in unfinished if each.belongs_to(entry.name)) for entry in entries}
    if not entries:
        output.remark("No models yet. Try: fastslm pull demo")
    if entries or as_json:
        records = [{**entry_record(entry), "partial_bytes": held[entry.key]} for entry in entries]
        output.data(records, table(HEADINGS, [_row(entry, held[entry.key]) for entry in entries]))
    strangers = [each for each in unfinished if not any(each.belongs_to(entry.name) for entry in entries)]
    if strangers:
        owners = ", ".join(sorted({each.owner for each in strangers}))
        output.remark(f"unfinished downloads of models that are not listed: {owners}")


def _row(entry: Entry, partial_bytes: int) -> tuple[str, ...]:
    """One row; an unfinished download tells what of it is here, in the place of a size that it has not yet."""
    row = entry_row(entry)
    if not partial_bytes:
        return row
    return (*row[:3], f"{state_text(entry)}, {amount(partial_bytes)} partial", *row[4:])
