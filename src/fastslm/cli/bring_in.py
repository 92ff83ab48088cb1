"""``fastslm import``: bring in a model from a file, a folder, another program's store, or a bundle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastslm.cli.options import Json, Quiet
from fastslm.cli.output import Output, amount
from fastslm.cli.records import entry_record
from fastslm.errors import FastSLMError, FileMissing, UsageError

if TYPE_CHECKING:
    from fastslm.config import Settings
    from fastslm.hub.disk.foreign import Candidate


def command(
    path: Annotated[
        Path,
        typer.Argument(help="A GGUF file, a folder, an archive of either, a store of LM Studio or Ollama, or a bundle"),
    ],
    *,
    name: Annotated[str | None, typer.Option("--name", help="What to call it (default: its own name)")] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="TEXT", help="Only this model of a store (repeatable)")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Bring in a model that is on this machine; 'run NAME' then works. Prints the names.

    Bytes are shared with the original where the file system allows it, else copied. Archives (.gguf.gz, .gguf.zst,
    .zip, .whl, .tar, .tar.gz, .tar.zst) and bundles are unpacked, and every file of them is checked.
    """
    from fastslm.config import Settings

    output, settings = Output(as_json=as_json, quiet=quiet), Settings.from_environment()
    path = path.expanduser()
    if path.suffix == ".fastslm" and path.is_file():
        records = [_from_bundle(path, name, settings, output)]
    else:
        with _candidates(path, settings, output) as found:
            records = _all_of(_chosen(found, path, name, only or []), name, settings, output)
    output.data(records, "\n".join(str(record["name"]) for record in records))


def _from_bundle(path: Path, name: str | None, settings: Settings, output: Output) -> dict[str, object]:
    from fastslm.upkeep.bundle import read_bundle

    with output.progress() as progress:
        entry = read_bundle(path, name, settings, progress)
    return {**entry_record(entry), "ways": ["unpacked"]}


@contextmanager
def _candidates(path: Path, settings: Settings, output: Output) -> Iterator[Sequence[Candidate]]:
    """Every model at a place; an archive is unpacked for as long as this lasts."""
    from fastslm.formats.archive import is_archive
    from fastslm.hub.disk.foreign import discover
    from fastslm.hub.packed import scratch_folder, unpacked_candidates

    if not (path.is_file() and is_archive(path.name)):
        yield discover(path)
        return
    with scratch_folder(settings) as scratch:
        with output.progress() as progress:
            found = unpacked_candidates(path, scratch, settings, progress)
        yield found


def _all_of(
    chosen: Sequence[Candidate], name: str | None, settings: Settings, output: Output
) -> list[dict[str, object]]:
    """Of several models those that cannot be imported are told and passed over."""
    from fastslm.upkeep.bring_in import bring_in

    records: list[dict[str, object]] = []
    for candidate in chosen:
        try:
            done = bring_in(candidate, candidate.name if name is None else name, settings)
        except FastSLMError as error:
            if len(chosen) == 1:
                raise
            output.remark(f"{candidate.name} was not imported: {error.message}")
            continue
        output.remark(f"{done.entry.name}: {amount(done.entry.size_bytes)} by {', '.join(sorted(set(done.ways)))}")
        records.append({**entry_record(done.entry), "ways": list(done.ways)})
    return records


def _chosen(found: Sequence[Candidate], path: Path, name: str | None, only: Sequence[str]) -> list[Candidate]:
    chosen = [each for each in found if not only or each.name in only]
    missing = sorted(set(only) - {each.name for each in found})
    if missing:
        nearest = tuple(each.name for each in found)[:3]
        raise FileMissing(f"`{path}` holds no model `{missing[0]}`", what="model", name=missing[0], nearest=nearest)
    if name is not None and len(chosen) > 1:
        raise UsageError(f"`{path}` holds {len(chosen)} models, expected one for the name `{name}`", name="name")
    return chosen
