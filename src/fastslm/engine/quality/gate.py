"""The quality gate: a conversion is calibrated if wished, written, and compared with its floats before anybody sees it.

The floats are a graph of stock operators in a scratch folder inside the result's own, which is gone when this ends;
whoever removes an unfinished result removes it too. Law: a result out of bounds is not published unless forced.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from types import MappingProxyType

from fastslm import machine
from fastslm.engine.quality.options import Checks
from fastslm.errors import ConversionFailed, DiskFull, UsageError
from fastslm.export.filling import Course
from fastslm.export.options import SEARCHED, Calibration, ConvertOptions, Precision, Target
from fastslm.export.prepare import Work
from fastslm.fidelity import Fidelity
from fastslm.formats.source import ModelSource, TensorSource
from fastslm.progress import Progress, ProgressCallback
from fastslm.store.manifest import ModelManifest

Notice = Callable[[str], None]


@dataclass(frozen=True)
class Bounds:
    """What a precision may cost.

    Attributes:
        divergence: most nats of mean KL divergence.
        cosine: smallest cosine of an encoder's vectors.
    """

    divergence: float
    cosine: float

    @property
    def perplexity(self) -> float:
        """Largest ratio of the perplexities, converted to floats.

        The mean loss of likelihood is the divergence; on a text of n tokens it scatters by sqrt(2 * divergence / n).
        """
        return math.exp(self.divergence + 3 * math.sqrt(2 * self.divergence / TEXT_TOKENS))


TEXT_TOKENS = 300
"""What the text that ships with us has at least, with usual tokenizers."""

BOUNDS: Mapping[str, Bounds] = MappingProxyType(
    {
        "int8": Bounds(0.01, 0.9987),
        "mixed": Bounds(0.20, 0.991),
        "int4": Bounds(0.25, 0.985),
        "int4-fast": Bounds(0.52, 0.90),
    }
)
"""Three times what the smallest real models lose, which lose most (135 million parameters: int8 0.003 nats, mixed
0.063, int4 0.084, int4-fast 0.172; MiniLM: cosines 0.9996, 0.997, 0.995, 0.966, whose distances from 1 count). What is
damaged is off by whole nats."""

MOST_FLOAT_BYTES = 1_500_000_000
"""Most bytes of floats that ``auto`` writes for a comparison."""

MEMORY_SHARE, DISK_SHARE = 2.5, 2.0
"""How many times the floats ``auto`` wants to see free: ONNX Runtime rearranges a copy of every matrix."""


def write_checked(
    work: Work,
    folder: Path,
    checks: Checks,
    progress: ProgressCallback,
    notice: Notice,
    course: Course | None = None,
) -> ModelManifest:
    """Write a model into an existing folder, and its figures into the manifest.

    Raises:
        ConversionFailed: the result is out of bounds (stage ``quality``); or as the conversion itself.
        UsageError: a wish that this model cannot fulfil.
        GenerationFailed: a graph does not run.
    """
    check_wishes(work, checks)
    if checks.calibration is not None and work.source is not None:
        work = _calibrated(work, work.source, folder, checks, progress)
    manifest = work.write(folder, progress, course)
    if work.source is None or not _is_wanted(work.source, work.precision, folder, checks):
        return manifest
    progress(Progress("converting", 0, 1, "texts", "quality"))
    try:
        found = judged(measure(work.source, folder, work.options), bounds_of(work.precision, manifest.target))
    except DiskFull as error:
        if checks.quality == "always":
            raise
        notice(f"{error}, so the quality is not measured")
        return manifest
    if not found.within:
        message = f"`{work.options.name}` in `{work.precision}` is too far from its floats: {found.summary}"
        if not checks.force:
            raise ConversionFailed(message, stage="quality")
        notice(message)
    complete = replace(manifest, quality=found)
    complete.write(folder)
    return complete


def check_wishes(work: Work, checks: Checks) -> None:
    """Raise UsageError for a wish that this model cannot fulfil; nothing was written."""
    if checks.calibration is not None and (work.source is None or work.precision not in SEARCHED):
        message = f"precision is `{work.precision}`, expected one of {', '.join(SEARCHED)} with a calibration text"
        raise UsageError(message, name="precision", value=work.precision, allowed=SEARCHED)
    if checks.quality == "always" and (work.source is None or not _is_judged(work.source, work.precision)):
        message = f"quality is `always`, but `{work.precision}` is not made from plain floats, so there is no standard"
        raise UsageError(message, name="quality", value=checks.quality)


def measure(source: ModelSource, folder: Path, options: ConvertOptions) -> Fidelity:
    """Compare a finished folder with its floats on the text that ships with us. Raises as ``compare``."""
    from fastslm.engine.quality.compare import compare
    from fastslm.export.convert import convert

    text = _shipped("text.txt")
    with _scratch(folder) as floats:
        convert(source, floats, _scratch_options(source, options, "fp32"))
        return compare(floats, folder, text, threads=machine.inspect_cores().threads)


def bounds_of(precision: str, target: str) -> Bounds:
    """What a precision may cost; with stock operators, whose 4-bit grids have no free offset, twice as much."""
    bounds = BOUNDS[precision]
    return bounds if target == "native" else replace(bounds, divergence=2 * bounds.divergence)


def judged(found: Fidelity, bounds: Bounds) -> Fidelity:
    """The figures, with ``within`` as the bounds say."""
    if found.least_cosine is not None:
        return replace(found, within=found.least_cosine >= bounds.cosine)
    ratio = (found.perplexity or math.inf) / (found.float_perplexity or 1.0)
    divergence = math.inf if found.kl_divergence is None else found.kl_divergence
    return replace(found, within=divergence <= bounds.divergence and ratio <= bounds.perplexity)


def calibrate(
    source: ModelSource, folder: Path, options: ConvertOptions, text: str, progress: ProgressCallback
) -> Calibration:
    """Statistics of a text, from the floats where they fit, else from 8 bits. Raises as ``read_statistics``."""
    from fastslm.engine.quality.calibrate import read_statistics
    from fastslm.export.observed import convert_observed

    precision: Precision = "fp32" if _fits(float_bytes(source.tensors), folder) else "int8"
    with _scratch(folder) as observed:
        convert_observed(source, observed, _scratch_options(source, options, precision))
        return read_statistics(observed, text, threads=machine.inspect_cores().threads, progress=progress)


def guided(work: Work, folder: Path, checks: Checks) -> Checks:
    """The checks with a text of ours to calibrate on, where none is wished and it is cheap; ``folder`` tells the disk.

    It shares nothing with the text that the result is compared on.
    """
    if work.source is None or work.precision not in SEARCHED or checks.calibration is not None:
        return checks
    if not _is_wanted(work.source, work.precision, folder, checks):
        return checks
    return replace(checks, calibration=_shipped("calibration.txt"), calibration_is_ours=True)


def _calibrated(work: Work, source: ModelSource, folder: Path, checks: Checks, progress: ProgressCallback) -> Work:
    """With what the text shows; a text of ours that cannot be used is left out."""
    try:
        found = calibrate(source, folder, work.options, checks.calibration or "", progress)
    except (DiskFull, UsageError):  # UsageError: with a strange tokenizer our text has too few tokens
        if not checks.calibration_is_ours:
            raise
        return work
    return replace(work, options=replace(work.options, calibration=found))


def _shipped(name: str) -> str:
    return resources.files("fastslm.engine.quality").joinpath(name).read_text(encoding="utf-8")


def float_bytes(tensors: TensorSource) -> int:
    """Bytes of all tensors as float32."""
    return sum(4 * math.prod(tensors.info(name).shape) for name in tensors)


def _is_wanted(source: ModelSource, precision: str, folder: Path, checks: Checks) -> bool:
    if checks.quality == "never" or not _is_judged(source, precision):
        return False
    return checks.quality == "always" or _fits(float_bytes(source.tensors), folder)


def _is_judged(source: ModelSource, precision: str) -> bool:
    """Whether there is a loss to measure: of weights that were plain floats."""
    return precision in BOUNDS and not any(source.tensors.info(name).is_quantized for name in source.tensors)


def _fits(size: int, folder: Path) -> bool:
    if size > MOST_FLOAT_BYTES:
        return False
    memory, disk = machine.inspect().available_bytes, shutil.disk_usage(folder).free
    return MEMORY_SHARE * size <= memory and DISK_SHARE * size <= disk


def _scratch_options(source: ModelSource, options: ConvertOptions, precision: Precision) -> ConvertOptions:
    """Of stock operators where they will do; the context is the result's, because some rotations depend on it.

    Raises UnsupportedModel when the result could not be written anyway.
    """
    from fastslm.export.families import family_of
    from fastslm.export.hparams import Hparams
    from fastslm.export.targets import resolve_target

    family = family_of(Hparams(source.config))
    family.check_target(resolve_target(options.target))
    target: Target = "native" if family.native_only else "portable"
    return replace(options, precision=precision, target=target, calibration=None)


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    path = folder / "floats"
    path.mkdir()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
