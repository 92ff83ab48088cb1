"""``convert``: a model's files become a folder that the engine runs, in the store or elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastslm.api.names import Notice, ignore, meant, remark_on_target, wanted_options
from fastslm.api.records import downloaded, fingerprint, open_registry, recorded
from fastslm.config import Settings
from fastslm.errors import FileMissing, OfflineMode, UsageError
from fastslm.progress import Progress, ProgressCallback, silent
from fastslm.store.entry import Entry
from fastslm.store.registry import Registry, now
from fastslm.store.staging import Staging, staged

if TYPE_CHECKING:
    from fastslm.engine.quality.options import Checks
    from fastslm.export.options import Backend, ConvertOptions, Precision, Target
    from fastslm.export.prepare import Work
    from fastslm.fidelity import Quality
    from fastslm.hub import Fetched, ModelRef

_WAITING = Progress("converting", 0, 1, "tensors", "waiting for another process that converts the same model")


@dataclass(frozen=True)
class Converted:
    """What a conversion made.

    Attributes:
        path: the folder.
        tensors: how many there are; 0 when nothing had to be converted.
        reused_tensors: those of them that an earlier, interrupted conversion had finished.
    """

    path: Path
    tensors: int = 0
    reused_tensors: int = 0


@dataclass(frozen=True)
class Order:
    """How a conversion is made, who hears of it, and whether its source is removed afterwards."""

    options: ConvertOptions
    checks: Checks
    progress: ProgressCallback
    notice: Notice
    discards: bool = False


def convert(
    name: str | Path,
    *,
    precision: Precision = "auto",
    context_length: int | None = None,
    target: Target = "auto",
    output: Path | str | None = None,
    backend: Backend = "native",
    quality: Quality = "auto",
    calibrate: Path | str | None = None,
    force: bool = False,
    settings: Settings | None = None,
    progress: ProgressCallback = silent,
    notice: Notice = ignore,
) -> Path:
    """Convert a model whose files are on this machine; the network is not used.

    Args:
        precision, context_length, target, quality, calibrate: as in ``pull``.
        force: keep a result whose quality is out of bounds.
        backend: ``native``, or ``optimum`` for architectures that we do not write ourselves (extra ``export``).
        output: a folder to write to, new or empty, instead of the store; then the registry is left alone.

    Returns:
        The folder with ``model.onnx``, its weights, tokenizer, chat template and ``fastslm.json``.

    Raises:
        FileMissing: the model has not been pulled.
        UsageError: ``output`` is not empty.
        MissingExtra: the backend is not installed.
        UnsupportedModel, FormatError, DiskFull: the files cannot be converted.
        ConversionFailed: so it is, or the result's quality is out of bounds.
    """
    from fastslm.engine.quality.options import Checks

    wanted = replace(wanted_options(precision, context_length, target), backend=backend)
    order = Order(wanted, Checks.read(quality, calibrate, force=force), progress, notice)
    settings = settings or Settings.from_environment()
    ref = meant(name, None, settings)
    remark_on_target(wanted, notice)
    fetched = at_hand(ref, precision, settings, progress)
    if output is not None:
        return convert_into(Path(output), fetched, order)
    with open_registry(settings, notice) as registry:
        entry = downloaded(registry, registry.begin(ref.name, precision, revision=ref.revision), fetched)
        return make(registry, entry, settings, order).path


def at_hand(ref: ModelRef, precision: Precision, settings: Settings, progress: ProgressCallback) -> Fetched:
    """What is on this machine of a model. Raises FileMissing when that is not all."""
    from fastslm.hub import Wishes, fetch_model

    try:
        return fetch_model(ref, replace(settings, offline=True), Wishes(precision=precision), progress)
    except OfflineMode:
        entries = Registry(settings.registry_file).list()
        day = max((each.discarded[:10] for each in entries if each.name == ref.name), default="")
    if day:
        message = (
            f"the source of `{ref.name}` was removed after its conversion on {day}, expected a model that was "
            f"pulled again (`fastslm pull {ref.name} --no-convert`)"
        )
        raise FileMissing(message, what="source", name=ref.name)
    message = f"`{ref.name}` is not on this machine, expected a model that was pulled"
    raise FileMissing(message, what="model", name=ref.name)


@dataclass(frozen=True)
class HeadStart:
    """A conversion whose tensors are finished, made while the model was downloaded; its lock is held.

    Attributes:
        sourceless: files of the source are gone, so that ``work`` has to go on with what it read.
    """

    work: Work
    staging: Staging
    sourceless: bool = False


def make(
    registry: Registry, entry: Entry, settings: Settings, order: Order, head: HeadStart | None = None
) -> Converted:
    """Convert a downloaded model into the store, unless the same conversion is there already."""
    from fastslm.engine.quality.gate import check_wishes, guided
    from fastslm.engine.usable import is_same
    from fastslm.export.prepare import prepare
    from fastslm.store import models

    entry = registry.advance(entry, "converting")
    with recorded(registry, entry, "conversion"):
        models.remove_leftovers(settings.models_dir)
        if head is not None and head.sourceless:
            work = head.work
        else:
            work = prepare(Path(entry.snapshot), replace(order.options, name=entry.name, commit=entry.commit))
        check_wishes(work, order.checks)
        folder = models.folder_path(settings.models_dir, entry.name, entry.commit, work.precision)
        made = Converted(folder)
        if head is not None and head.staging.target == folder:
            made = finish(work, head.staging, order)
        else:
            with models.exclusive(folder, lambda: order.progress(_WAITING)):
                if not is_same(folder, order.options, order.checks):
                    order = replace(order, checks=guided(work, settings.models_dir, order.checks))
                    with staged(folder, subject(work, order.checks)) as staging:
                        made = finish(work, staging, order)
        size = models.size_bytes(folder)
        facts: dict[str, Path | str | int] = {
            "folder": folder,
            "resolved_precision": work.precision,
            "size_bytes": size,
        }
        if order.discards:
            facts["discarded"] = now()
        registry.advance(entry, "ready", **facts)
    return made


def finish(work: Work, staging: Staging, order: Order) -> Converted:
    """Convert what is not finished yet, and publish the result."""
    from fastslm.engine.quality.gate import write_checked
    from fastslm.export.filling import Course

    counts = (0, 0)

    def count(total: int, reused: int) -> None:
        nonlocal counts
        counts = (total, reused)

    if work.source is None:  # a graph that is not made tensor by tensor
        staging.empty()
    course = Course(staging.ledger, counted=count)
    write_checked(work, staging.model, order.checks, order.progress, order.notice, course)
    staging.publish()
    made = Converted(staging.target, *counts)
    if made.reused_tensors:
        order.notice(f"{made.reused_tensors} of {made.tensors} tensors had been converted before")
    return made


def subject(work: Work, checks: Checks) -> dict[str, Any]:
    """Everything that decides the bytes of a conversion."""
    from fastslm import ops
    from fastslm._native import __version__
    from fastslm.export.targets import resolve_target

    text, options = checks.calibration, work.options
    return {
        "name": options.name,
        "commit": options.commit,
        "precision": work.precision,
        "target": resolve_target(options.target),
        "backend": options.backend,
        "context": options.context_length,
        "calibrated_on": "" if text is None else sha256(text.encode()).hexdigest(),
        "source": dict(work.source.files) if work.source is not None else {},
        "layout": ops.layout_version(),
        "fastslm": __version__,
    }


def convert_into(output: Path, fetched: Fetched, order: Order) -> Path:
    """Convert into a folder that is new or empty, and leave the registry alone."""
    from fastslm.engine.quality.gate import guided, write_checked
    from fastslm.export.prepare import prepare
    from fastslm.store import models

    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UsageError(f"`{output}` is not empty, expected a new or empty folder", name="output", value=str(output))
    commit = fetched.commit or fingerprint(fetched.path)
    work = prepare(fetched.path, replace(order.options, name=fetched.ref.name, commit=commit))
    with models.building(output.absolute()) as scratch:
        write_checked(work, scratch, guided(work, scratch, order.checks), order.progress, order.notice)
    return output
