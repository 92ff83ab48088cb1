"""``load``: a name becomes a model that answers; and what its answers tell of this machine."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from fastslm import machine
from fastslm.api.names import Notice, ignore, model_text, wanted_options
from fastslm.api.pulling import pull
from fastslm.api.records import find_entry
from fastslm.config import Settings
from fastslm.errors import StoreError, UsageError
from fastslm.progress import ProgressCallback, silent
from fastslm.store.manifest import MANIFEST_NAME, ModelManifest

if TYPE_CHECKING:
    from fastslm.engine.model import Model
    from fastslm.engine.stats import Timings
    from fastslm.export.options import Precision
    from fastslm.ops import CacheFormat


def load(
    name: str | Path,
    *,
    precision: Precision = "auto",
    threads: int = 0,
    context_length: int | None = None,
    kv_cache: CacheFormat | None = None,
    polite: bool = False,
    settings: Settings | None = None,
    progress: ProgressCallback = silent,
    notice: Notice = ignore,
) -> Model:
    """Load a model; one that is not on this machine yet is pulled first.

    Args:
        name: as in ``pull``, or the path of a converted folder.
        threads: 0 for what suits this machine, which is measured once.
        polite: lower this process's priority, and leave one core free unless ``threads`` says how many to take.
        context_length: at most the converted model's own.
        kv_cache: how keys and values are kept: ``int16`` (the default), ``f32``, ``f16`` or ``int8``;
            stock operators take f32 only.

    Raises:
        FastSLMError: one of its classes, see ``fastslm.errors``.
    """
    wanted_options(precision, context_length, "auto")
    if type(threads) is not int or threads < 0:
        message = f"threads is `{threads}`, expected a whole number of at least 0"
        raise UsageError(message, name="threads", value=threads)
    settings = settings or Settings.from_environment()
    text = model_text(name)
    folder = (
        _converted_folder(text)
        or _ready_folder(text, precision, settings, notice)
        or pull(text, precision=precision, settings=settings, progress=progress, notice=notice).path
    )
    from fastslm.engine.model import Model

    chosen = threads or settings.threads or _suitable_threads(settings, polite=polite)
    if polite:
        machine.be_polite()
    return Model.open(folder, threads=chosen, context_length=context_length, kv_cache=kv_cache)


def _suitable_threads(settings: Settings, *, polite: bool) -> int:
    from fastslm.store.machine_file import MachineFile
    from fastslm.store.threads import usual_threads

    return max(1, usual_threads(MachineFile(settings.machine_file)) - polite)


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
        kv_bytes=2 * manifest.kv_layers * manifest.num_kv_heads * _cache_row_bytes(manifest) * position,
        token_s=1.0 / timings.decode_tokens_per_s,
    )
    with suppress(StoreError):
        MachineFile(settings.machine_file).note_run(run)


def _cache_row_bytes(manifest: ModelManifest) -> int:
    """Bytes of one position of one head, in the usual format."""
    from fastslm import ops

    return ops.cache_row_bytes(ops.DEFAULT_CACHE_FORMAT if manifest.target == "native" else "f32", manifest.head_dim)


def _converted_folder(name: str) -> Path | None:
    """The folder itself when a name is the path of a converted model."""
    try:
        return Path(name) if (Path(name) / MANIFEST_NAME).is_file() else None
    except (OSError, ValueError):  # too long, or otherwise no path
        return None


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
