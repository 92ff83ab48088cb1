"""``fastslm list``: the models on this machine and their state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from fastslm.cli.options import Json, Quiet
from fastslm.cli.output import Output, amount, table
from fastslm.cli.records import HEADINGS, entry_record, entry_row, state_text
from fastslm.store.entry import Entry

if TYPE_CHECKING:
    from fastslm.hub.disk.partials import Partial


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
    held = {entry.key: _held(entry, unfinished) for entry in entries}
    if not entries:
        output.remark("No models yet. Try: fastslm pull demo")
    if entries or as_json:
        records = [{**entry_record(entry), **asdict(held[entry.key])} for entry in entries]
        output.data(records, table(HEADINGS, [_row(entry, held[entry.key]) for entry in entries]))
    strangers = [each for each in unfinished if not any(each.belongs_to(entry.name) for entry in entries)]
    if strangers:
        owners = ", ".join(sorted({each.owner for each in strangers}))
        output.remark(f"unfinished downloads of models that are not listed: {owners}")


@dataclass(frozen=True)
class Held:
    """What is here of the files that a model's download has begun and not ended."""

    partial_bytes: int
    partial_total_bytes: int


def _held(entry: Entry, unfinished: Sequence[Partial]) -> Held:
    own = [each for each in unfinished if each.belongs_to(entry.name)]
    return Held(sum(each.done_bytes for each in own), sum(each.size_bytes for each in own))


def _row(entry: Entry, held: Held) -> tuple[str, ...]:
    """One row; an unfinished download tells how far it is."""
    row = entry_row(entry)
    if not held.partial_total_bytes:
        return row
    share = 100 * held.partial_bytes // held.partial_total_bytes
    told = f"{share} % of {amount(held.partial_total_bytes)}"
    return (*row[:3], f"{state_text(entry)}, {told}", *row[4:])
