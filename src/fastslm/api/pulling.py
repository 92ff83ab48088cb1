"""``pull``: a name becomes verified files and a model that runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fastslm.api.converting import Order, make
from fastslm.api.names import Notice, ignore, meant, patterns, remark_on_target, wanted_options
from fastslm.api.records import discard, downloaded, open_registry, ready_again, recorded
from fastslm.config import Settings
from fastslm.errors import UsageError
from fastslm.progress import ProgressCallback, silent
from fastslm.store.cancel import heeding
from fastslm.store.entry import Entry
from fastslm.store.registry import Registry

if TYPE_CHECKING:
    from fastslm.api.ahead import Ahead
    from fastslm.export.options import Precision, Target
    from fastslm.fidelity import Quality
    from fastslm.hub import Fetched, ModelRef, Wishes


@dataclass(frozen=True)
class Pulled:
    """What a pull brought.

    Attributes:
        entry: its line in the registry.
        path: the converted model folder, or the download when no conversion was asked for.
        wire_bytes: body bytes received now.
        resumed_bytes: bytes that an earlier, interrupted pull had left.
        tensors, reused_tensors: as in ``converting.Converted``.
    """

    entry: Entry
    path: Path
    wire_bytes: int
    resumed_bytes: int
    tensors: int = 0
    reused_tensors: int = 0


def pull(
    name: str | Path,
    *,
    revision: str | None = None,
    precision: Precision = "auto",
    context_length: int | None = None,
    target: Target = "auto",
    include: str | Sequence[str] = (),
    exclude: str | Sequence[str] = (),
    convert: bool = True,
    quality: Quality = "auto",
    calibrate: Path | str | None = None,
    force: bool = False,
    discard_source: bool = False,
    settings: Settings | None = None,
    progress: ProgressCallback = silent,
    notice: Notice = ignore,
) -> Pulled:
    """Download a model, check every file, and convert it; what is already here is neither fetched nor made again.

    Args:
        name: ``org/name[@revision]``, a short name, a path, an address of a GGUF file, or ``demo``.
        revision: branch, tag or commit, when it is not part of the name.
        precision: see ``ConvertOptions``; ``auto``: ``exact`` of quantised files, ``int8`` for encoders, else ``int4``.
        context_length: positions of prompt and answer together; None for the model's own.
        target: ``native`` for our own operators, ``portable`` for stock ones, ``auto`` for ours where they load.
        include, exclude: a file pattern, or several, instead of the choice that a conversion needs.
        convert: False stops after the verified download.
        quality: compare the result with its floats: ``always``, ``never``, or ``auto`` where that is cheap.
        calibrate: a text file whose activations guide the quantisation.
        force: go on with a model that the memory cannot hold, and keep a result whose quality is out of bounds.
        discard_source: give the disk space of the weights back as they arrive and are converted, so that little more
            is needed than for the result; where the file system gives back whole files only, the only one at the end.
        settings: None reads the environment.
        progress, notice: called from this thread, about ten times a second and with remarks for the user.

    Raises:
        FastSLMError: one of its classes, see ``fastslm.errors``; the registry remembers stage and cause.
    """
    from fastslm.api.ahead import Ahead
    from fastslm.engine.quality.options import Checks
    from fastslm.hub import Wishes

    wanted = wanted_options(
        precision, context_length, target
    )  # refuses what no model can fulfil before anything is fetched
    checks = Checks.read(quality, calibrate, force=force)
    graph = precision if convert else "auto"
    wishes = Wishes(patterns("include", include), patterns("exclude", exclude), precision=graph)
    settings = settings or Settings.from_environment()
    ref = meant(name, revision, settings)
    order = Order(wanted, checks, heeding(ref.name, settings, progress), notice, discard_source)
    if discard_source and (ref.kind != "hub" or not convert):
        found = "no conversion" if not convert else f"`{ref.name}`"
        message = f"the source is to be discarded with {found}, expected the conversion of a model from the hub"
        raise UsageError(message, name="discard_source", value=discard_source)
    if not convert:
        return _fetched(ref, wishes, settings, order)
    with Ahead(ref.name, order, settings) as ahead:
        return _pulled(ref, wishes, settings, order, ahead)


def _fetched(ref: ModelRef, wishes: Wishes, settings: Settings, order: Order) -> Pulled:
    """Without a conversion."""
    from fastslm.hub import fetch_model

    with open_registry(settings, order.notice) as registry:
        entry = registry.begin(ref.name, order.options.precision, revision=ref.revision)
        with recorded(registry, entry, "download"):
            fetched = fetch_model(ref, settings, wishes, order.progress)
            entry = downloaded(registry, entry, fetched)
        _tell_how(fetched, settings, order.notice)
        entry = ready_again(registry, entry)
    return Pulled(entry, fetched.path, fetched.wire_bytes, fetched.resumed_bytes)


def _pulled(ref: ModelRef, wishes: Wishes, settings: Settings, order: Order, ahead: Ahead) -> Pulled:
    from fastslm.hub import fetch_model
    from fastslm.plan import gates
    from fastslm.plan.options import PlanOptions

    wanted, force = order.options, order.checks.force
    options = PlanOptions(
        wanted.precision, wanted.context_length, wishes, wanted.target, ahead.at_once, ahead.held_bytes, speed=False
    )
    with open_registry(settings, order.notice) as registry:
        entry = registry.begin(ref.name, wanted.precision, revision=ref.revision)
        with recorded(registry, entry, lambda error: "conversion" if ahead.caused(error) else "download"):
            gate = None if force else gates.before_download(ref, settings, options)
            fetched = fetch_model(ref, settings, wishes, order.progress, gate=gate, follower=ahead)
            head = ahead.finish()
            if head is None and ahead.is_short:  # then it is all needed after all
                again = fetch_model(ref, settings, wishes, order.progress)
                fetched = replace(again, wire_bytes=fetched.wire_bytes + again.wire_bytes)
            entry = downloaded(registry, entry, fetched, discarded=ahead.is_done)
        _tell_how(fetched, settings, order.notice)
        if ahead.is_done:
            order.notice(f"`{ref.name}` is converted, its weights were removed afterwards on {entry.discarded[:10]}")
            return _as_it_was(registry, entry, fetched)
        with recorded(registry, entry, "plan"):
            if not force and head is None:
                gates.before_conversion(ref, fetched.path, settings, options)
        remark_on_target(wanted, order.notice)
        made = make(registry, entry, settings, ahead.order, head)
        if order.discards:
            discard(fetched, settings)
        entry = registry.get(ref.name, wanted.precision) or entry
    return Pulled(entry, made.path, fetched.wire_bytes, fetched.resumed_bytes, made.tensors, made.reused_tensors)


def _as_it_was(registry: Registry, entry: Entry, fetched: Fetched) -> Pulled:
    """The conversion that is here, of a source that was not kept."""
    entry = ready_again(registry, entry)
    return Pulled(entry, Path(entry.folder), fetched.wire_bytes, fetched.resumed_bytes)


def _tell_how(fetched: Fetched, settings: Settings, notice: Notice) -> None:
    """Say what was not as usual about a download."""
    for source in fetched.dropped_sources:
        notice(f"{source} and was not used any more")
    if fetched.from_cache and fetched.ref.kind == "hub" and not settings.offline:
        notice(f"`{settings.endpoint}` does not answer; `{fetched.ref.name}` is what was here before")
