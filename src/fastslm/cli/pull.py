"""``fastslm pull``: download a model, check it, make it ready to run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastslm.cli.options import (
    Calibrate,
    Context,
    Force,
    Json,
    LimitRate,
    MaxConnections,
    Mirrors,
    Precision,
    PrecisionOption,
    Quality,
    QualityOption,
    Quiet,
    Target,
    TargetOption,
    download_settings,
)
from fastslm.cli.output import Output, amount
from fastslm.cli.records import entry_record
from fastslm.errors import Cancelled, FastSLMError, UsageError

if TYPE_CHECKING:
    from fastslm.api import Pulled
    from fastslm.config import Settings
    from fastslm.export.options import Precision as Choice
    from fastslm.export.options import Target as TargetChoice
    from fastslm.fidelity import Quality as QualityChoice


MaybeModel = Annotated[
    str | None, typer.Argument(metavar="[MODEL]", help="org/name[@revision], a short name, a path, a URL, or demo")
]


@dataclass(frozen=True)
class _Request:
    """What the command line says about every model of this pull."""

    revision: str | None
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    context_length: int | None
    target: TargetChoice
    convert: bool
    quality: QualityChoice
    calibrate: Path | None
    force: bool
    metered: bool
    discard_source: bool
    settings: Settings


def command(
    model: MaybeModel = None,
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
    quality: QualityOption = Quality.AUTO,
    calibrate: Calibrate = None,
    no_convert: Annotated[bool, typer.Option("--no-convert", help="Stop after the verified download")] = False,
    resume_all: Annotated[bool, typer.Option("--resume-all", help="Go on with every pull that did not end")] = False,
    limit_rate: LimitRate = None,
    max_connections: MaxConnections = None,
    mirror: Mirrors = None,
    metered: Annotated[bool, typer.Option("--metered", help="Tell the size and ask before the download")] = False,
    discard_source: Annotated[
        bool, typer.Option("--discard-source", help="Remove the downloaded weights as they are converted")
    ] = False,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Download a model, check every file against its hash, and convert it. Goes on where an earlier pull stopped."""
    output = Output(as_json=as_json, quiet=quiet)
    settings = download_settings(limit_rate, max_connections, mirror)
    patterns = tuple(include or ()), tuple(exclude or ())
    request = _Request(
        *(revision, *patterns, context, target.choice, not no_convert),
        *(quality.choice, calibrate, force, metered, discard_source, settings),
    )
    if (model is None) != resume_all:
        found = "both a model and --resume-all" if model else "neither a model nor --resume-all"
        raise UsageError(f"pull got {found}, expected one of them", name="model", value=model)
    if model is not None:
        output.data(*_told(_pull(model, precision.choice, request, output)))
        return
    _resume_all(request, output)


def _resume_all(request: _Request, output: Output) -> None:
    """Every pull that did not end, one after another; the first failure is raised when all had their turn."""
    from fastslm.store.registry import Registry

    waiting = [entry for entry in Registry(request.settings.registry_file).list() if entry.resumable]
    if not waiting:
        output.remark("every pull has ended, nothing to go on with")
    told: list[tuple[dict[str, object], str]] = []
    failures: list[FastSLMError] = []
    for entry in waiting:
        output.remark(f"going on with {entry.name}")
        try:
            precision = Precision(entry.precision).choice
            told.append(_told(_pull(entry.name, precision, request, output)))
        except Cancelled as stopped:
            output.remark(str(stopped))
        except FastSLMError as error:
            failures.append(error)
            output.remark(f"{entry.name}: {error}")
    if told or output.as_json:
        output.data([record for record, _ in told], "\n".join(line for _, line in told))
    if failures:
        raise failures[0]


def _pull(model: str, precision: Choice, request: _Request, output: Output) -> Pulled:
    from fastslm import api

    if request.metered:
        _agree(model, _size(model, precision, request))
    with output.progress() as progress:
        pulled = api.pull(
            model,
            revision=request.revision,
            include=request.include,
            exclude=request.exclude,
            settings=request.settings,
            precision=precision,
            context_length=request.context_length,
            target=request.target,
            convert=request.convert,
            quality=request.quality,
            calibrate=request.calibrate,
            force=request.force,
            discard_source=request.discard_source,
            progress=progress,
            notice=output.remark,
        )
    if pulled.resumed_bytes:
        output.remark(f"{amount(pulled.resumed_bytes)} were already here")
    return pulled


def _told(pulled: Pulled) -> tuple[dict[str, object], str]:
    """As JSON and as text."""
    costs = {"wire_bytes": pulled.wire_bytes, "resumed_bytes": pulled.resumed_bytes}
    costs |= {"tensors": pulled.tensors, "reused_tensors": pulled.reused_tensors}
    return {**entry_record(pulled.entry), **costs}, str(pulled.path)


def _size(model: str, precision: Choice, request: _Request) -> int | None:
    from fastslm import api

    return api.download_size(
        model,
        revision=request.revision,
        precision=precision,
        context_length=request.context_length,
        target=request.target,
        include=request.include,
        exclude=request.exclude,
        convert=request.convert,
        settings=request.settings,
    )


def _agree(model: str, size: int | None) -> None:
    """Ask on stderr; no answer is a no.

    Raises:
        Cancelled: the user does not want the download.
    """
    told = "an unknown number of bytes" if size is None else amount(size)
    if size != 0 and not typer.confirm(f"`{model}` would download {told}. Go on?", err=True):
        raise Cancelled(f"`{model}` was not downloaded")
