"""Put a plan together: headers to a footprint, the footprint and this machine to memory, disk and speed.

``plan`` looks at a model by its reference, ``plan_download`` at one whose download is planned, ``plan_outline`` at one
whose headers were read.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from fastslm import machine
from fastslm.config import Settings
from fastslm.errors import FastSLMError, NetworkError, ServerRefused, StoreError, UsageError
from fastslm.export.families import default_precision
from fastslm.export.footprint import Footprint, measure, read_footprint
from fastslm.export.options import PLAIN, ConvertOptions, Precision
from fastslm.formats import checked_json, open_outline
from fastslm.formats.model_folder import readable_config
from fastslm.formats.source import Outline
from fastslm.hub import ModelRef, Wishes, fetch_model
from fastslm.hub.catalogue import load_catalogue
from fastslm.hub.client import HubClient
from fastslm.hub.look.glance import Glance, at_hand, glance, glance_at_plan
from fastslm.hub.plan import DownloadPlan
from fastslm.plan.estimate import Estimate, Machine, Plan, Traffic
from fastslm.plan.memory import longest_context, memory_need
from fastslm.plan.options import PlanOptions
from fastslm.plan.shapes import described
from fastslm.plan.speed import measured_bandwidth, tokens_per_s
from fastslm.store.machine_file import MachineFile
from fastslm.store.manifest import MANIFEST_NAME, TOKENIZER_NAME, ModelManifest
from fastslm.store.registry import Registry
from fastslm.store.threads import usual_threads

TOKENIZER_BYTES_PER_TOKEN = 36
"""Of a ``tokenizer.json`` that is made of a GGUF vocabulary."""


def plan(ref: ModelRef, settings: Settings, options: PlanOptions) -> Plan:
    """What a model would cost; of the network only listing, configuration and headers are used.

    Raises:
        ModelNotFound, RevisionNotFound, FileMissing, AccessDenied, NetworkError, OfflineMode: it cannot be looked at.
        UnsupportedModel, FormatError: it could not be converted.
        UsageError: precision ``exact`` for a model of plain floats.
    """
    if ref.path is not None and (ref.path / MANIFEST_NAME).is_file():
        return _plan_converted(ref, settings, options)
    with tempfile.TemporaryDirectory(prefix="fastslm-plan-") as scratch:
        seen = _look(ref, settings, options.wishes, Path(scratch))
        return plan_outline(ref, seen, _outline(seen, Path(scratch)), settings, options)


def plan_download(
    ref: ModelRef, download: DownloadPlan, client: HubClient, settings: Settings, options: PlanOptions
) -> Plan:
    """The same for a repository that is about to be downloaded. Raises as ``plan``."""
    with tempfile.TemporaryDirectory(prefix="fastslm-plan-") as scratch:
        seen = glance_at_plan(download, settings, client, Path(scratch))
        if options.at_once:
            sizes = sorted((file.size for file in download.missing), reverse=True)
            held = [min(size, options.held_bytes or size) for size in sizes[: options.at_once]]
            seen = replace(seen, passing_bytes=sum(sizes) - sum(held))
        return plan_outline(ref, seen, _outline(seen, Path(scratch)), settings, options)


def plan_outline(ref: ModelRef, seen: Glance, outline: Outline, settings: Settings, options: PlanOptions) -> Plan:
    """The plan of a model whose headers were read. Raises as ``plan``."""
    prints: dict[str, Footprint] = {each: _measure(outline, each, options) for each in _possible(outline)}
    if options.precision not in ("auto", *prints):
        expected = ", ".join(prints)
        message = f"precision is `{options.precision}`, expected {expected} for this model"
        raise UsageError(message, name="precision", value=options.precision, allowed=tuple(prints))
    default = "exact" if "exact" in prints else default_precision(outline.config.get("model_type"))
    chosen = options.precision if options.precision != "auto" else default
    traffic = Traffic(seen.total_bytes, seen.cached_bytes, seen.scratch_bytes, seen.passing_bytes)
    tokenizer = seen.tokenizer_bytes or TOKENIZER_BYTES_PER_TOKEN * _vocabulary(outline)
    bare = _Bare(ref.name, seen.commit, traffic, chosen, tokenizer, _parameters(outline))
    return _assemble(bare, prints, settings, options)


@dataclass(frozen=True)
class _Bare:
    """The facts of a plan that need no machine."""

    name: str
    commit: str
    traffic: Traffic
    chosen: str
    tokenizer_bytes: int
    parameters: int
    converted: bool = False


def _plan_converted(ref: ModelRef, settings: Settings, options: PlanOptions) -> Plan:
    """The plan of a folder that was converted: nothing is left to do but to run it."""
    assert ref.path is not None  # the caller looked
    manifest = ModelManifest.read(ref.path)
    limit = min(manifest.context_length, options.context_length or manifest.context_length)
    footprint = read_footprint(ref.path, manifest.kind, limit)
    size = (ref.path / TOKENIZER_NAME).stat().st_size if (ref.path / TOKENIZER_NAME).is_file() else 0
    bare = _Bare(manifest.name, manifest.commit, Traffic(0, 0), manifest.precision, size, 0, converted=True)
    return _assemble(bare, {manifest.precision: footprint}, settings, options)


def _assemble(bare: _Bare, prints: dict[str, Footprint], settings: Settings, options: PlanOptions) -> Plan:
    file = MachineFile(settings.machine_file)
    here = _machine(settings, file, speed=options.speed)
    context = prints[bare.chosen].context_length

    def estimate(footprint: Footprint) -> Estimate:
        runs, generates = file.runs(footprint.kind), footprint.kv_bytes > 0
        return Estimate(
            footprint=footprint,
            tokenizer_bytes=bare.tokenizer_bytes,
            memory=memory_need(footprint, context, bare.tokenizer_bytes),
            longest_context=longest_context(footprint, bare.tokenizer_bytes, here.memory_bytes),
            tokens_per_s=tokens_per_s(footprint, context, here.bandwidth, runs)
            if generates and here.bandwidth
            else None,
        )

    return Plan(
        name=bare.name,
        commit=bare.commit,
        traffic=bare.traffic,
        architecture=prints[bare.chosen].kind.architecture,
        parameters=bare.parameters,
        context=context,
        asked_context=options.context_length is not None,
        chosen=bare.chosen,
        estimates=tuple(estimate(each) for each in prints.values()),
        converted=bare.converted or _is_converted(bare, settings),
        machine=here,
    )


def _look(ref: ModelRef, settings: Settings, wishes: Wishes, scratch: Path) -> Glance:
    """The newest state of a model, or the one that is here when nobody answers."""
    wishes = replace(wishes, file=ref.file) if ref.file else wishes
    try:
        return glance(ref, settings, wishes, scratch)
    except NetworkError as error:
        if isinstance(error, ServerRefused):
            raise
        with suppress(FastSLMError):
            return at_hand(fetch_model(ref, replace(settings, offline=True), wishes))
        raise


def _outline(seen: Glance, scratch: Path) -> Outline:
    """Shapes of the tensors: from their headers, or from the configuration where the hub's files have none."""
    if seen.path is None:
        demo = load_catalogue().demo
        return described(demo.config, matrices=demo.matrices, embedding=demo.embedding)
    if seen.path != scratch or any(scratch.glob("*.safetensors")):
        return open_outline(seen.path)
    config = readable_config(checked_json.read_object(scratch / "config.json"))
    return described(config, matrices="F32", embedding="F32")


def _possible(outline: Outline) -> tuple[Precision, ...]:
    quantized = any(outline.tensors.info(name).is_quantized for name in outline.tensors)
    return (*PLAIN, "exact") if quantized else PLAIN


def _measure(outline: Outline, precision: Precision, options: PlanOptions) -> Footprint:
    return measure(outline, ConvertOptions("", "", precision, options.context_length, options.target))


def _parameters(outline: Outline) -> int:
    return sum(math.prod(outline.tensors.info(name).shape) for name in outline.tensors)


def _vocabulary(outline: Outline) -> int:
    found = outline.config.get("vocab_size")
    return found if isinstance(found, int) else 0


def _is_converted(bare: _Bare, settings: Settings) -> bool:
    """Whether the registry has a conversion of this very model."""
    with suppress(StoreError):
        entries = Registry(settings.registry_file).list()
        mine = [each for each in entries if each.name == bare.name and each.resolved_precision == bare.chosen]
        return any(bare.commit in ("", each.commit) and (Path(each.folder) / MANIFEST_NAME).is_file() for each in mine)
    return False


def _machine(settings: Settings, file: MachineFile, *, speed: bool) -> Machine:
    here = machine.inspect()
    bandwidth = None
    with suppress(StoreError):  # a home that cannot be written only costs the figure
        if speed:
            threads = settings.threads or usual_threads(file, here.cores)
            bandwidth = measured_bandwidth(file, threads, here.available_bytes)
    download, models = _existing(settings.hub_cache), _existing(settings.models_dir)
    return Machine(
        memory_bytes=here.memory_bytes,
        available_bytes=here.available_bytes,
        download_disk_bytes=shutil.disk_usage(download).free,
        models_disk_bytes=shutil.disk_usage(models).free,
        same_disk=download.stat().st_dev == models.stat().st_dev,
        bandwidth=bandwidth,
    )


def _existing(folder: Path) -> Path:
    return next(place for place in (folder, *folder.parents) if place.exists())
