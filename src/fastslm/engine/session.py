"""Run a model's graph: token ids in, logits out, keys and values kept in place.

``Session`` is what the generation loop sees; ``OrtSession`` is ONNX Runtime on a converted model folder. Past and
present keys and values are bound to one buffer, so a step copies nothing and allocates nothing.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fastslm import ops, runtime
from fastslm.engine.kv_cache import CacheShape, KVCache
from fastslm.errors import FileMissing, FormatError, GenerationFailed, UsageError
from fastslm.machine import is_busy
from fastslm.store.manifest import GRAPH_NAME, ModelManifest

Logits = npt.NDArray[np.float32]

LARGE_GRAPH_BYTES = 500_000
"""From this size on ONNX Runtime does not plan which results may share memory: that takes a time that grows with the
square of the operators. Mixtures of experts as stock operators have thousands (3,200 take 5 s instead of 0.7 s), and
neither their speed nor their memory shows the difference."""


class Session(Protocol):
    """A loaded model. One thread at a time."""

    @property
    def kv_cache(self) -> ops.CacheFormat:
        """How keys and values are kept."""

    @property
    def context_length(self) -> int:
        """Most positions of one sequence."""

    @property
    def vocab_size(self) -> int:
        """Width of the logits."""

    def new_cache(self) -> KVCache:
        """An empty cache of ``context_length`` positions."""

    def forward(self, cache: KVCache, ids: Sequence[int], *, every_position: bool = False) -> Logits:
        """Append ``ids`` (at least one) to the sequence in ``cache``.

        Returns:
            Logits ``[1, vocab_size]`` after the last token, or ``[len(ids), vocab_size]`` after each one. The array
            is the caller's to change and is overwritten by the next call.

        Raises:
            GenerationFailed: the graph failed; the cache is as before.
        """


@dataclass(frozen=True)
class SessionOptions:
    """How to run a model.

    Attributes:
        threads: for the computation.
        context_length: positions of one sequence.
        kv_cache: format of keys and values; None for what suits the graph.
    """

    threads: int
    context_length: int
    kv_cache: ops.CacheFormat | None = None


class OrtSession:
    """ONNX Runtime on the CPU."""

    def __init__(self, folder: Path, manifest: ModelManifest, options: SessionOptions) -> None:
        """Load ``model.onnx``; its weights stay memory-mapped.

        Raises:
            UsageError: the graph keeps its cache in float32 only, and another format is wanted.
            FileMissing: there is no graph.
            UnsupportedModel: it needs our operators, which do not load here.
            FormatError: ONNX Runtime does not accept it, or it is not the graph that the manifest describes.
        """
        self._inner = _load(folder / GRAPH_NAME, options.threads, with_ours=manifest.target == "native", fused=True)
        _check_interface(self._inner, manifest, folder)
        sizes = (manifest.num_layers, manifest.num_kv_heads, options.context_length, manifest.head_dim)
        kept = _cache_format(self._inner, options.kv_cache)
        self._shape = CacheShape(*sizes, format=kept, states=_states(self._inner, manifest))
        self._vocab_size = manifest.vocab_size
        self._single: weakref.WeakKeyDictionary[KVCache, _Step] = weakref.WeakKeyDictionary()

    @property
    def kv_cache(self) -> ops.CacheFormat:
        """How keys and values are kept."""
        return self._shape.format or "f32"

    @property
    def context_length(self) -> int:
        """See ``Session``."""
        return self._shape.capacity

    @property
    def vocab_size(self) -> int:
        """See ``Session``."""
        return self._vocab_size

    def new_cache(self) -> KVCache:
        """See ``Session``."""
        return KVCache(self._shape)

    def forward(self, cache: KVCache, ids: Sequence[int], *, every_position: bool = False) -> Logits:
        """See ``Session``."""
        if not ids or len(cache) + len(ids) > cache.capacity:
            room = cache.capacity - len(cache)
            raise GenerationFailed(f"a step has {len(ids)} tokens, the cache has room for {room}")
        try:
            logits = self._step(cache, len(ids), every_position).run(ids, len(cache))
        except Exception as error:  # whatever class ONNX Runtime raises
            raise GenerationFailed(
                f"ONNX Runtime failed at position {len(cache)}: {runtime.first_line(error)}"
            ) from error
        cache.extend(ids)
        return logits

    def _step(self, cache: KVCache, length: int, every_position: bool) -> _Step:
        if length > 1:
            return _Step(self._inner, cache, length, length if every_position else 1, self._vocab_size)
        if cache not in self._single:
            self._single[cache] = _Step(self._inner, cache, 1, 1, self._vocab_size)
        return self._single[cache]


class _Step:
    """Inputs and outputs of one step, bound once: to run it again only numbers in arrays change.

    ONNX Runtime sees addresses; the arrays behind them are kept alive here and in the cache (its older releases do
    not do it).
    """

    def __init__(self, session: Any, cache: KVCache, length: int, rows: int, vocab_size: int) -> None:
        self._session = session
        self._ids = np.zeros((1, length), np.int64)
        self._last_position = np.zeros(1, np.int32)
        self._total = np.zeros((), np.int32)
        self._rows = np.arange(length - rows, length, dtype=np.int64)
        self._logits = np.empty((rows, vocab_size), np.float32)
        self._binding = session.io_binding()
        self._options = _giving_back() if length > 1 else None  # options cost a token 70 us: they are searched in vain
        self._bind(cache)

    def run(self, ids: Sequence[int], past: int) -> Logits:
        self._ids[0] = ids
        self._last_position[0] = past + len(ids) - 1
        self._total[()] = past + len(ids)
        self._session.run_with_iobinding(self._binding, self._options)
        return self._logits

    def _bind(self, cache: KVCache) -> None:
        ort_value = runtime.onnxruntime().OrtValue
        inputs = {
            "input_ids": self._ids,
            "seqlens_k": self._last_position,
            "total_sequence_length": self._total,
            "logit_rows": self._rows,
        }
        for name, array in inputs.items():
            self._binding.bind_ortvalue_input(name, ort_value.ortvalue_from_numpy(array))
        self._binding.bind_ortvalue_output("logits", ort_value.ortvalue_from_numpy(self._logits))
        for name, buffer in cache.buffers.items():
            value = ort_value.ortvalue_from_numpy(buffer)
            self._binding.bind_ortvalue_input(f"past_key_values.{name}", value)
            self._binding.bind_ortvalue_output(f"present.{name}", value)


def _giving_back() -> Any:
    """Options of a run after which what it needed in between is given back: an answer needs a hundredth of it."""
    options = runtime.onnxruntime().RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options


def _load(path: Path, threads: int, *, with_ours: bool, fused: bool = False) -> Any:
    if not path.is_file():
        raise FileMissing(f"the model folder has no graph: `{path}`", what="file", name=str(path))
    onnxruntime = runtime.onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False  # else the arena holds every shape of a prompt twice
    if path.stat().st_size > LARGE_GRAPH_BYTES:
        options.enable_mem_reuse = False
    options.log_severity_level = 4  # what goes wrong is raised, not printed
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    if is_busy():
        # Threads that wait in a loop for the next operator gain a fifth on an idle machine; on a busy one they take
        # the time that their own work needs, and halve the speed.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if with_ours:
        ops.register(options)
    if with_ours and fused:  # to look for more costs ten milliseconds and finds nothing
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    try:
        with ThreadPoolExecutor(1, "load") as other:  # the first session's thread loses its subnormal numbers for good
            providers = ["CPUExecutionProvider"]
            return other.submit(onnxruntime.InferenceSession, str(path), options, providers=providers).result()
    except Exception as error:  # whatever class ONNX Runtime raises
        raise FormatError(f"`{path}` cannot be loaded: {runtime.first_line(error)}", subject=str(path)) from error


def _cache_format(session: Any, wanted: ops.CacheFormat | None) -> ops.CacheFormat | None:
    """The format of caches that are bytes; None for those that are float32."""
    types = {i.type for i in session.get_inputs() if i.name.startswith("past_key_values.")}
    if types == {"tensor(uint8)"}:
        return wanted or ops.DEFAULT_CACHE_FORMAT
    if wanted not in (None, "f32"):
        message = f"`kv_cache` is `{wanted}`, expected f32, as this conversion's operators have it"
        raise UsageError(message, name="kv_cache", value=wanted, allowed=["f32"])
    return None


def _states(session: Any, manifest: ModelManifest) -> tuple[tuple[int, int], ...]:
    """The layers without values, and the heads of what they keep instead. Raises FormatError."""
    sizes, found = {i.name: i.shape for i in session.get_inputs()}, []
    for layer in range(manifest.num_layers):
        key, value = (f"past_key_values.{layer}.{part}" for part in ("key", "value"))
        if value in sizes:
            continue
        heads = sizes.get(key, [None, None])[1]
        if not isinstance(heads, int):
            raise FormatError(f"the graph has neither `{value}` nor `{key}` of a known size", subject=key)
        found.append((layer, heads))
    return tuple(found)


def _check_interface(session: Any, manifest: ModelManifest, folder: Path) -> None:
    """Refuse a graph whose cache or logits have another shape than the manifest tells."""
    inputs = {i.name: i.shape for i in session.get_inputs()}
    caches = [name for name in inputs if name.startswith("past_key_values.")]
    key = next((inputs[name] for name in caches if name.endswith(".value")), [None] * 4)
    logits = next((o.shape for o in session.get_outputs() if o.name == "logits"), [None])
    found = (len(caches), key[1], key[3], logits[-1])
    expected = (manifest.num_layers + manifest.kv_layers, manifest.num_kv_heads, manifest.head_dim, manifest.vocab_size)
    if any(isinstance(f, int) and f != e for f, e in zip(found, expected, strict=True)) or not caches:
        message = f"the graph in `{folder}` has (caches, heads, head size, vocabulary) {found}, expected {expected}"
        raise FormatError(message, subject=str(folder / GRAPH_NAME), expected=expected, found=found)


def open_graph(path: Path, threads: int, *, with_ours: bool = False) -> Any:
    """A session of ONNX Runtime for any graph. Raises FileMissing, FormatError, UnsupportedModel."""
    return _load(path, threads, with_ours=with_ours)
