"""``pull``, ``convert``, ``plan``, ``load``: the rooms below put together, with every step recorded in the registry.

Law: what was usable stays usable until something better is complete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, cast

from fastslm.config import Settings
from fastslm.errors import Cancelled, FileMissing, NotFoundError, OfflineMode, StoreError, UsageError
from fastslm.progress import Progress, ProgressCallback, silent
from fastslm.store.cancel import heeding
from fastslm.store.entry import CANCELLED, Entry
from fastslm.store.manifest import MANIFEST_NAME, ModelManifest
from fastslm.store.registry import Registry

if TYPE_CHECKING:
    from fastslm.engine.model import Model
    from fastslm.engine.quality.options import Checks
    from fastslm.engine.stats import Timings
    from fastslm.export.options import Backend, ConvertOptions, Precision, Target
    from fastslm.fidelity import Quality
    from fastslm.hub import Fetched, ModelRef, Wishes
    from fastslm.ops import CacheFormat
    from fastslm.plan.estimate import Plan

Notice = Callable[[str], None]

_WAITING = Progress("converting", 0, 1, "tensors", "waiting for another process that converts the same model")


@dataclass(frozen=True)
class Pulled:
    """What a pull brought.

    Attributes:
        entry: its line in the registry.
        path: the converted model folder, or the download when no conversion was asked for.
        wire_bytes: body bytes received now.
        resumed_bytes: bytes that an earlier, interrupted pull had left.
    """

    entry: Entry
    path: Path
    wire_bytes: int
    resumed_bytes: int


@dataclass(frozen=True)
class _Order:
    """How a conversion is made, and who hears of it."""

    options: ConvertOptions
    checks: Checks
    progress: ProgressCallback
    notice: Notice


def ignore(notice: str) -> None:
    """The listener of callers that do not want to be told."""


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
    settings: Settings | None = None,
    progress: ProgressCallback = silent,
    notice: Notice = ignore,
) -> Pulled:
    """Download a model, check every file, and convert it; what is already here is neither fetched nor made again.

    Args:
        name: ``org/name[@revision]``, a short name, a path, an address of a GGUF file, or ``demo``.
        revision: branch, tag or commit, when it is not part of the name.
        precision: see ``ConvertOptions``; ``auto`` is ``exact`` for a quantised GGUF, else ``int4``, of encoders
            ``int8``.
        context_length: positions of prompt and answer together; None for the model's own.
        target: ``native`` for our own operators, ``portable`` for stock ones, ``auto`` for ours where they load.
        include, exclude: a file pattern, or several, instead of the choice that a conversion needs.
        convert: False stops after the verified download.
        quality: compare the result with its floats: ``always``, ``never``, or ``auto`` where that is cheap.
        calibrate: a text file whose activations guide the quantisation.
        force: go on with a model that the memory cannot hold, and keep a result whose quality is out of bounds.
        settings: None reads the environment.
        progress, notice: called from this thread, about ten times a second and with remarks for the user.

    Raises:
        FastSLMError: one of its classes, see ``fastslm.errors``; the registry remembers stage and cause.
    """
    from fastslm.engine.quality.options import Checks
    from fastslm.hub import Wishes

    wanted = _wanted(precision, context_length, target)  # refuses what no model can fulfil before anything is fetched
    checks = Checks.read(quality, calibrate, force=force)
    wishes = Wishes(_patterns("include", include), _patterns("exclude", exclude))
    settings = settings or Settings.from_environment()
    ref = _reference(name, revision, settings)
    order = _Order(wanted, checks, heeding(ref.name, settings, progress), notice)
    return _pulled(ref, wishes, settings, order, convert=convert)


def _pulled(ref: ModelRef, wishes: Wishes, settings: Settings, order: _Order, *, convert: bool) -> Pulled:
    from fastslm.hub import fetch_model
    from fastslm.plan import gates
    from fastslm.plan.options import PlanOptions

    wanted, force = order.options, order.checks.force
    with _registry(settings, order.notice) as registry:
        entry = registry.begin(ref.name, wanted.precision, revision=ref.revision)
        with _recorded(registry, entry, "download"):
            options = PlanOptions(wanted.precision, wanted.context_length, wishes, wanted.target)
            gate = None if force or not convert else gates.before_download(ref, settings, options)
            fetched = fetch_model(ref, settings, wishes, order.progress, gate=gate)
            entry = _downloaded(registry, entry, fetched)
        _tell_how(fetched, settings, order.notice)
        path = fetched.path
        if convert:
            with _recorded(registry, entry, "plan"):
                if not force:
                    gates.before_conversion(ref, path, settings, options)
            _remark_on_target(wanted, order.notice)
            path = _converted(registry, entry, settings, order)
            entry = registry.get(ref.name, wanted.precision) or entry
        else:
            entry = _ready_again(registry, entry)
    return Pulled(entry, path, fetched.wire_bytes, fetched.resumed_bytes)


def _tell_how(fetched: Fetched, settings: Settings, notice: Notice) -> None:
    """Say what was not as usual about a download."""
    for source in fetched.dropped_sources:
        notice(f"{source} and was not used any more")
    if fetched.from_cache and fetched.ref.kind == "hub" and not settings.offline:
        notice(f"`{settings.endpoint}` does not answer; `{fetched.ref.name}` is what was here before")


def download_size(
    name: str,
    *,
    revision: str | None = None,
    include: str | Sequence[str] = (),
    exclude: str | Sequence[str] = (),
    settings: Settings | None = None,
) -> int | None:
    """Bytes that ``pull`` with these arguments would download; None when the server does not tell.

    Raises:
        FastSLMError: what ``pull`` raises before it downloads.
    """
    from fastslm.hub import Wishes
    from fastslm.hub.announce import missing_bytes

    settings = settings or Settings.from_environment()
    wishes = Wishes(_patterns("include", include), _patterns("exclude", exclude))
    return missing_bytes(_reference(name, revision, settings), settings, wishes)


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

    wanted = replace(_wanted(precision, context_length, target), backend=backend)
    order = _Order(wanted, Checks.read(quality, calibrate, force=force), progress, notice)
    settings = settings or Settings.from_environment()
    ref = _reference(name, None, settings)
    _remark_on_target(wanted, notice)
    fetched = _at_hand(ref, settings, progress)
    if output is not None:
        return _convert_into(Path(output), fetched, order)
    with _registry(settings, notice) as registry:
        entry = _downloaded(registry, registry.begin(ref.name, precision, revision=ref.revision), fetched)
        return _converted(registry, entry, settings, order)


def plan(
    name: str,
    *,
    revision: str | None = None,
    precision: Precision = "auto",
    context_length: int | None = None,
    settings: Settings | None = None,
) -> Plan:
    """Tell what a model would cost here, without downloading it: a few hundred kilobytes of headers are fetched.

    Returns:
        Download, disk, memory and speed for every precision; its ``check`` raises what a pull would refuse.

    Raises:
        FastSLMError: one of its classes, see ``fastslm.errors``.
    """
    from fastslm.plan.options import PlanOptions
    from fastslm.plan.planner import plan as make_plan

    settings = settings or Settings.from_environment()
    return make_plan(_reference(name, revision, settings), settings, PlanOptions(precision, context_length))


def load(
    name: str | Path,
    *,
    precision: Precision = "auto",
    threads: int = 0,
    context_length: int | None = None,
    kv_cache: CacheFormat | None = None,
    settings: Settings | None = None,
    progress: ProgressCallback = silent,
    notice: Notice = ignore,
) -> Model:
    """Load a model; one that is not on this machine yet is pulled first.

    Args:
        name: as in ``pull``, or the path of a converted folder.
        threads: 0 for what suits this machine.
        context_length: at most the converted model's own.
        kv_cache: how keys and values are kept: ``f32`` (the default), ``f16`` or ``int8``;
            stock operators take f32 only.

    Raises:
        FastSLMError: one of its classes, see ``fastslm.errors``.
    """
    _wanted(precision, context_length, "auto")
    if type(threads) is not int or threads < 0:
        message = f"threads is `{threads}`, expected a whole number of at least 0"
        raise UsageError(message, name="threads", value=threads)
    settings = settings or Settings.from_environment()
    text = _text(name)
    folder = (
        _converted_folder(text)
        or _ready_folder(text, precision, settings, notice)
        or pull(text, precision=precision, settings=settings, progress=progress, notice=notice).path
    )
    from fastslm.engine.model import Model

    return Model.open(folder, threads=threads or settings.threads, context_length=context_length, kv_cache=kv_cache)


def remember_speed(manifest: ModelManifest, timings: Timings, settings: Settings) -> None:
    """Note how fast an answer came, for later plans; nothing happens when that cannot be told or written."""
    from fastslm.store.machine_file import LEAST_TOKENS, MachineFile, Run

    if timings.completion_tokens < LEAST_TOKENS or not timings.decode_tokens_per_s or not manifest.streamed_bytes:
        return
    position = timings.prompt_tokens + timings.completion_tokens // 2
    run = Run(
        kind=manifest.kind,
        streamed_bytes=manifest.streamed_bytes,
        num_layers=manifest.num_layers,
        kv_bytes=2 * manifest.num_layers * manifest.num_kv_heads * _cache_row_bytes(manifest) * position,
        token_s=1.0 / timings.decode_tokens_per_s,
    )
    with suppress(StoreError):
        MachineFile(settings.machine_file).note_run(run)


def _cache_row_bytes(manifest: ModelManifest) -> int:
    """Bytes of one position of one head, in the usual format."""
    from fastslm import ops

    return ops.cache_row_bytes(ops.DEFAULT_CACHE_FORMAT if manifest.target == "native" else "f32", manifest.head_dim)


def find_entry(name: str, precision: str, settings: Settings, notice: Notice = ignore) -> Entry | None:
    """The registry's best answer to a name: the precision asked for, else one that turned out to be it; or None."""
    ref = _reference(name, None, settings)
    with _registry(settings, notice) as registry:
        asked = registry.get(ref.name, precision)
        if asked is not None and asked.usable:
            return asked
        if precision == "auto":
            return registry.find(ref.name) or asked
        same = [e for e in registry.list() if e.name == ref.name and e.usable and e.resolved_precision == precision]
        return same[0] if same else asked


def _text(name: object) -> str:
    """A model's name as text; a ``Path`` never means a repository."""
    if isinstance(name, Path):
        return str(name.absolute())
    if not isinstance(name, str):
        message = f"the model is `{name!r}`, expected a name, a path or an address"
        raise UsageError(message, name="model", value=name)
    return name


def _patterns(name: str, patterns: object) -> tuple[str, ...]:
    """One pattern or several; a text is one, not the sequence of its letters."""
    several = tuple(patterns) if isinstance(patterns, Iterable) and not isinstance(patterns, str) else (patterns,)
    texts = tuple(pattern for pattern in several if isinstance(pattern, str))
    if len(texts) != len(several):
        raise UsageError(f"{name} is `{patterns!r}`, expected file patterns", name=name, value=patterns)
    return texts


def _converted_folder(name: str) -> Path | None:
    """The folder itself when a name is the path of a converted model."""
    try:
        return Path(name) if (Path(name) / MANIFEST_NAME).is_file() else None
    except (OSError, ValueError):  # too long, or otherwise no path
        return None


def _reference(name: str | Path, revision: str | None, settings: Settings) -> ModelRef:
    from fastslm.naming import reference

    return reference(_text(name), settings, revision)


@contextmanager
def _registry(settings: Settings, notice: Notice) -> Iterator[Registry]:
    """The registry; what it has to say reaches the user however the work ends."""
    registry = Registry(settings.registry_file)
    try:
        yield registry
    finally:
        for text in registry.notices:
            notice(text)


@contextmanager
def _recorded(registry: Registry, entry: Entry, stage: str) -> Iterator[None]:
    """Write the failure of a stage into the registry, whatever it is. A name that never existed leaves no entry."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, NotFoundError) and not entry.snapshot and not entry.folder:
            registry.remove(entry.name, entry.precision)
        else:
            stopped = isinstance(error, Cancelled) or not isinstance(error, Exception)
            cause = CANCELLED if stopped else str(error) or type(error).__name__
            registry.fail(entry, stage=stage, cause=cause)
        raise


def _at_hand(ref: ModelRef, settings: Settings, progress: ProgressCallback) -> Fetched:
    from fastslm.hub import fetch_model

    try:
        return fetch_model(ref, replace(settings, offline=True), progress=progress)
    except OfflineMode:
        message = f"`{ref.name}` is not on this machine, expected a model that was pulled"
        raise FileMissing(message, what="model", name=ref.name) from None


def _downloaded(registry: Registry, entry: Entry, fetched: Fetched) -> Entry:
    commit = fetched.commit or fingerprint(fetched.path)
    size = sum(path.stat().st_size for path in _files(fetched))
    return registry.advance(entry, "downloaded", commit=commit, snapshot=fetched.path, size_bytes=size)


def _ready_again(registry: Registry, entry: Entry) -> Entry:
    """A downloaded model is ``ready`` when a conversion of these very files is there already."""
    from fastslm.engine.usable import is_sound
    from fastslm.store import models

    if not entry.folder or not is_sound(Path(entry.folder), commit=entry.commit):
        return entry
    return registry.advance(entry, "ready", size_bytes=models.size_bytes(Path(entry.folder)))


def _files(fetched: Fetched) -> list[Path]:
    if fetched.path.is_file():
        return [fetched.path]
    return [fetched.path / name for name in fetched.files]


def fingerprint(path: Path) -> str:
    """SHA-256 over names, sizes and times of a local model's files: changes when they do, costs no reading."""
    files = [path] if path.is_file() else sorted(p for p in path.iterdir() if p.is_file())
    digest = sha256()
    for file in files:
        status = file.stat()
        digest.update(f"{file.name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _converted(registry: Registry, entry: Entry, settings: Settings, order: _Order) -> Path:
    """Convert a downloaded model into the store, unless the same conversion is there already."""
    from fastslm.engine.quality.gate import check_wishes, write_checked
    from fastslm.engine.usable import is_same
    from fastslm.export.prepare import prepare
    from fastslm.store import models

    entry = registry.advance(entry, "converting")
    with _recorded(registry, entry, "conversion"):
        models.remove_leftovers(settings.models_dir)
        work = prepare(Path(entry.snapshot), replace(order.options, name=entry.name, commit=entry.commit))
        check_wishes(work, order.checks)
        resolved = work.precision
        folder = models.folder_path(settings.models_dir, entry.name, entry.commit, resolved)
        with models.exclusive(folder, lambda: order.progress(_WAITING)):
            if not is_same(folder, order.options, order.checks):
                with models.building(folder) as scratch:
                    write_checked(work, scratch, order.checks, order.progress, order.notice)
            size = models.size_bytes(folder)
        registry.advance(entry, "ready", folder=folder, resolved_precision=resolved, size_bytes=size)
    return folder


def _convert_into(output: Path, fetched: Fetched, order: _Order) -> Path:
    from fastslm.engine.quality.gate import write_checked
    from fastslm.export.prepare import prepare
    from fastslm.store import models

    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UsageError(f"`{output}` is not empty, expected a new or empty folder", name="output", value=str(output))
    commit = fetched.commit or fingerprint(fetched.path)
    work = prepare(fetched.path, replace(order.options, name=fetched.ref.name, commit=commit))
    with models.building(output.absolute()) as scratch:
        write_checked(work, scratch, order.checks, order.progress, order.notice)
    return output


def _wanted(precision: str, context_length: int | None, target: str) -> ConvertOptions:
    """The options of a conversion; name and commit are not known yet. Raises UsageError."""
    from fastslm.export.options import ConvertOptions

    checked = cast("Precision", precision), context_length, cast("Target", target)  # any other word is refused
    return ConvertOptions("", "", *checked)


def _remark_on_target(wanted: ConvertOptions, notice: Notice) -> None:
    """Say in one line why a model is made for stock operators although nobody asked for them."""
    from fastslm import ops

    if wanted.target == "auto" and (reason := ops.why_unusable()):
        notice(f"{reason}, so the model is made for stock operators")


def _ready_folder(name: str, precision: str, settings: Settings, notice: Notice) -> Path | None:
    """Folder of a conversion that runs here; None when there is none, or when it must be made again."""
    from fastslm.engine.usable import why_unusable

    entry = find_entry(name, precision, settings, notice)
    if entry is None or not entry.usable:
        return None
    folder = Path(entry.folder)
    reason = why_unusable(folder)
    if reason:
        notice(f"`{entry.name}` is made again: {reason}")
    return None if reason else folder
