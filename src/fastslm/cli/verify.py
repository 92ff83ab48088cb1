"""``fastslm verify``: hash what is on this machine, and repair what is damaged."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastslm.cli.options import Json, Quiet
from fastslm.cli.output import Output, amount
from fastslm.errors import ChecksumMismatch, FileMissing

if TYPE_CHECKING:
    from fastslm.config import Settings
    from fastslm.progress import ProgressCallback
    from fastslm.upkeep.repair import Repair, Workshop
    from fastslm.upkeep.verify import Damage, Verified


def command(
    model: Annotated[str | None, typer.Argument(metavar="[MODEL]", help="Only this model (default: all)")] = None,
    *,
    repair: Annotated[bool, typer.Option("--repair", help="Fetch or make damaged files again")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Hash every file and compare it with what was published or written. The network is used by --repair only.

    Prints one line for each damaged file. Exit code 6 when something is damaged and was not repaired.
    """
    from fastslm.config import Settings
    from fastslm.upkeep.repair import repair as mend
    from fastslm.upkeep.verify import verify

    output, settings = Output(as_json=as_json, quiet=quiet), Settings.from_environment()
    with output.progress() as progress:
        found = verify(model, settings, progress)
        repairs = list(mend(found.damaged, workshop(settings, progress))) if repair else []
    left = [each.damage for each in repairs if each.problem] if repair else list(found.damaged)
    lines = [repair_line(each) for each in repairs] if repair else [damage_line(each) for each in left]
    if lines or as_json:
        output.data(record(found, repairs), "\n".join(lines))
    output.remark(summary(found))
    if left:
        item = left[0].item
        message = f"{len(left)} of {found.files} files are damaged"
        raise ChecksumMismatch(message, subject=str(item.file), expected=item.expected, found=left[0].found)


def workshop(settings: Settings, progress: ProgressCallback) -> Workshop:
    """How conversions are made again: of the source that is here, else of one that is pulled."""
    from fastslm import api
    from fastslm.upkeep.repair import Workshop

    def convert(name: str, precision: str, context: int | None, target: str) -> None:
        kind = {"precision": precision, "context_length": context, "target": target}
        options: dict[str, Any] = {**kind, "settings": settings}
        try:
            api.convert(name, progress=progress, **options)
        except FileMissing:
            api.pull(name, force=True, progress=progress, **options)

    return Workshop(settings, convert, progress)


def record(found: Verified, repairs: list[Repair]) -> dict[str, object]:
    """What ``--json`` shows."""
    problems = {each.damage.item.file: each.problem for each in repairs}
    return {
        "files": found.files,
        "bytes": found.bytes,
        "unknown_files": found.unknown,
        "damaged": [damage_record(each, problems) for each in found.damaged],
    }


def damage_record(damage: Damage, problems: dict[Path, str]) -> dict[str, object]:
    """One damaged file; ``repaired`` is null when nobody tried."""
    item = {key: str(value) for key, value in asdict(damage.item).items()}
    problem = problems.get(damage.item.file)
    repaired = None if problem is None else not problem
    return {**item, "found": damage.found, "reason": damage.reason, "repaired": repaired}


def damage_line(damage: Damage) -> str:
    """One damaged file, for people."""
    return f"damaged   {damage.item.file} {damage.reason}"


def repair_line(repair: Repair) -> str:
    """What came of it."""
    if repair.problem:
        return f"damaged   {repair.damage.item.file} {repair.damage.reason}; not repaired: {repair.problem}"
    return f"repaired  {repair.damage.item.file}"


def summary(found: Verified) -> str:
    """One line about everything."""
    unknown = f"; {found.unknown} files have no known hash" if found.unknown else ""
    count = "no file is" if not found.damaged else f"{len(found.damaged)} are"
    return f"{found.files} files with {amount(found.bytes)} were checked, {count} damaged{unknown}"
