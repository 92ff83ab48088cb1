"""Turn a model's files into a folder that the engine runs: graph, weights, tokenizer, template, manifest.

Law: configuration and tensor shapes are checked before anything is written; nothing outside the target folder is
touched; the manifest is written last, with the hashes of all other files. The caller publishes the folder.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from fastslm import ops
from fastslm._native import __version__, hash_file
from fastslm.encoder_facts import EncoderFacts
from fastslm.errors import DiskFull, FastSLMError, FileSystemError, UsageError
from fastslm.export.decoder.build import Operators
from fastslm.export.encoder.shape import EncoderShape
from fastslm.export.families import Family, Shape, default_precision, family_of
from fastslm.export.filling import Course, Filler, Recorder, Reserving
from fastslm.export.footprint import streamed_bytes
from fastslm.export.graph import Graph
from fastslm.export.hparams import Hparams
from fastslm.export.interchange import FILES, write_interchange
from fastslm.export.matrices import check_tensors
from fastslm.export.options import MAX_CONTEXT, PLAIN, ConvertOptions, Precision
from fastslm.export.targets import TARGETS, resolve_target
from fastslm.export.weights import WeightsFile
from fastslm.formats.source import ModelSource
from fastslm.progress import Progress, ProgressCallback, silent
from fastslm.store.manifest import GRAPH_NAME, TEMPLATE_NAME, TOKENIZER_NAME, WEIGHTS_NAME, ModelManifest


def convert(
    source: ModelSource,
    target_dir: Path,
    options: ConvertOptions,
    progress: ProgressCallback = silent,
    course: Course | None = None,
) -> ModelManifest:
    """Write a converted model into an existing folder, which is empty, or holds the weights of a killed conversion.

    Args:
        source: what a reader of ``fastslm.formats`` gives.
        target_dir: where to write; when this fails, its content is for the caller to remove.
        options: see ``ConvertOptions``.
        progress: told after every tensor.
        course: what is finished already, and what has to be waited for; by default nothing.

    Raises:
        UnsupportedModel: the architecture, or an option of it, is not one that we build; nothing was written.
        FormatError: a value of the configuration or a tensor is missing or wrong; nothing was written.
        UsageError: precision ``exact`` for a source without quantised blocks, or a context longer than the model's.
        ConversionFailed: a weight is infinite or not a number.
        DiskFull, FileSystemError: the target cannot be written.
    """
    target = resolve_target(options.target)
    options = replace(options, target=target)
    return convert_with(TARGETS[target], source, target_dir, options, progress, course or Course())


def convert_with(
    operators: Operators,
    source: ModelSource,
    target_dir: Path,
    options: ConvertOptions,
    progress: ProgressCallback,
    course: Course,
) -> ModelManifest:
    """Write a model made of these operators; ``options.target`` says what runs them. Raises as ``convert``."""
    design = _design(operators, source, options)
    with _file_errors(target_dir):
        graph = _written(design, source, target_dir, progress, course)
        graph.save(target_dir / GRAPH_NAME)
    manifest = _manifest(source, design.shape, design.options)
    manifest = replace(manifest, streamed_bytes=streamed_bytes(graph.model()), encoder=design.encoder)
    with _file_errors(target_dir):
        if operators.for_others:
            write_interchange(target_dir, graph.model(), manifest, source, design.shape.attention.heads)
        return _write_texts(source, target_dir, manifest)


def convert_tensors(
    source: ModelSource, target_dir: Path, options: ConvertOptions, progress: ProgressCallback, course: Course
) -> None:
    """Only what takes long of a conversion: whoever converts into the same folder afterwards finds it done.

    Raises as ``convert``, and what ``course.arrivals`` raises.
    """
    target = resolve_target(options.target)
    design = _design(TARGETS[target], source, replace(options, target=target))
    with _file_errors(target_dir), _filling(design, source, target_dir, progress, course):
        pass


@dataclass(frozen=True)
class _Design:
    """What is going to be built."""

    operators: Operators
    family: Family
    shape: Shape
    encoder: EncoderFacts | None
    options: ConvertOptions


def _design(operators: Operators, source: ModelSource, options: ConvertOptions) -> _Design:
    config = Hparams(source.config)
    family = family_of(config)
    family.check_target(options.target)
    shape = _limit_context(family.read_shape(config, frozenset(source.tensors)), options.context_length)
    check_tensors(source.tensors, family.wanted_tensors(shape), family.ignored(shape))
    encoder = _encoder_facts(source, shape)
    precision = resolve_precision(options.precision, source)
    return _Design(operators, family, shape, encoder, replace(options, precision=precision))


def _written(design: _Design, source: ModelSource, folder: Path, progress: ProgressCallback, course: Course) -> Graph:
    """The graph, its weights written."""
    with _filling(design, source, folder, progress, course) as (filler, weights):
        weights.reserve_again()
        graph = Graph(weights)
        design.family.build(design.shape, graph, filler.placed(), design.operators)
    return graph


@contextmanager
def _filling(
    design: _Design, source: ModelSource, folder: Path, progress: ProgressCallback, course: Course
) -> Iterator[tuple[Filler, WeightsFile]]:
    """The weights file with all matrices in it, still open, and who knows where they are."""
    options = design.options
    importance = options.calibration.mean_squares if options.calibration else {}
    again = course.ledger is not None
    with (
        WeightsFile(folder / WEIGHTS_NAME, again=again) as weights,
        ThreadPoolExecutor(options.worker_count, "convert") as pool,
    ):
        report = _counter(design.shape.tensor_count, progress)
        recorder = Recorder(source.tensors, weights, options.precision, pool, report, importance)
        design.family.build(design.shape, Graph(Reserving(weights)), recorder, design.operators)
        filler = Filler(recorder, course)
        filler.run()
        course.counted(design.shape.tensor_count, filler.reused)
        yield filler, weights


def resolve_precision(wanted: Precision, source: ModelSource) -> Precision:
    """What ``auto`` means for a source: ``exact`` if any tensor is quantised, else the default of its family.

    Raises:
        UsageError: ``exact``, but no tensor is quantised.
    """
    is_quantized = any(source.tensors.info(name).is_quantized for name in source.tensors)
    if wanted == "exact" and not is_quantized:
        message = f"precision is `exact`, expected one of {', '.join(PLAIN)} for a model of plain floats"
        raise UsageError(message, name="precision", value=wanted, allowed=PLAIN)
    if wanted == "auto":
        return "exact" if is_quantized else default_precision(source.config.get("model_type"))
    return wanted


def _limit_context(shape: Shape, wanted: int | None) -> Shape:
    own = shape.context_length
    if wanted is not None and wanted > own:
        message = f"context length is `{wanted}`, expected at most `{own}`, the model's own"
        raise UsageError(message, name="context_length", value=wanted)
    return shape.limited(wanted, MAX_CONTEXT)


def _encoder_facts(source: ModelSource, shape: Shape) -> EncoderFacts | None:
    """What the files say of pooling and lengths, None for a decoder."""
    if not isinstance(shape, EncoderShape):
        return None
    facts = source.encoder_facts()
    most = min(facts.max_tokens or shape.context_length, shape.context_length)
    return replace(facts, task="classify" if shape.classifier else "embed", max_tokens=most)


def _counter(total: int, progress: ProgressCallback) -> Callable[[str], None]:
    done = 0

    def report(name: str) -> None:
        nonlocal done
        done += 1
        progress(Progress("converting", done, total, "tensors", name))

    return report


def _manifest(source: ModelSource, shape: Shape, options: ConvertOptions) -> ModelManifest:
    return ModelManifest(
        name=options.name,
        commit=options.commit,
        architecture=str(source.config["model_type"]),
        precision=options.precision,
        target=options.target,
        calibrated_on=options.calibration.digest if options.calibration else "",
        packed_layout=ops.layout_version() if options.target == "native" else 0,
        context_length=shape.context_length,
        vocab_size=shape.vocab_size,
        num_layers=shape.num_layers,
        attending_layers=_attending(shape),
        num_kv_heads=shape.attention.kv_heads,
        head_dim=shape.attention.head_dim,
        bos_token_id=source.bos_token_id,
        eos_token_ids=source.eos_token_ids,
        add_bos=source.add_bos,
        special_tokens=dict(source.special_tokens),
        generation=dict(source.generation),
        source_files=dict(source.files),
        fastslm_version=__version__,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


def _attending(shape: Shape) -> int:
    """Layers with keys and values, 0 when all have them."""
    if isinstance(shape, EncoderShape) or len(shape.attentions) == shape.num_layers:
        return 0
    return len(shape.attentions)


def _write_texts(source: ModelSource, folder: Path, manifest: ModelManifest) -> ModelManifest:
    (folder / TOKENIZER_NAME).write_text(source.tokenizer_json, encoding="utf-8")
    if source.chat_template is not None:
        (folder / TEMPLATE_NAME).write_text(source.chat_template, encoding="utf-8")
    names = (GRAPH_NAME, WEIGHTS_NAME, TOKENIZER_NAME, TEMPLATE_NAME, *FILES)
    hashes = {name: hash_file(str(folder / name), "sha256") for name in names if (folder / name).exists()}
    complete = replace(manifest, hashes=hashes)
    complete.write(folder)
    return complete


@contextmanager
def _file_errors(folder: Path) -> Iterator[None]:
    """Turn what the operating system says about the target into our errors."""
    try:
        yield
    except FastSLMError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = shutil.disk_usage(folder).free
            message = f"the disk of `{folder}` is full: {free} bytes are free"
            raise DiskFull(message, resource="disk", available=free) from error
        message = f"`{folder}` cannot be written: {error.strerror}"
        raise FileSystemError(message, path=str(folder), errno=error.errno or 0) from error
