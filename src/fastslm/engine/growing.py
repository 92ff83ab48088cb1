"""Run decoders that others exported: keys and values go in and come back longer, as Optimum and genai write them.

What comes back of a step is kept for the next one of the same cache; when the cache was cut, so is what goes in.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastslm import runtime
from fastslm.engine.kv_cache import CacheShape, KVCache
from fastslm.engine.session import Logits, SessionOptions, open_graph
from fastslm.errors import FormatError, GenerationFailed, UsageError
from fastslm.ops import CacheFormat
from fastslm.store.manifest import GRAPH_NAME, ModelManifest

TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}

Arrays = dict[str, npt.NDArray[Any]]


class GrowingSession:
    """ONNX Runtime on a graph with ``past_key_values.*`` and ``present.*``; see ``Session``."""

    def __init__(self, folder: Path, manifest: ModelManifest, options: SessionOptions) -> None:
        """Load ``model.onnx``.

        Raises:
            UsageError: keys and values are wanted in another format than the graph has.
            FileMissing: there is no graph.
            FormatError: ONNX Runtime does not accept it, or it is not the graph that the manifest describes.
        """
        self._inner = open_graph(folder / GRAPH_NAME, options.threads)
        self._manifest = manifest
        self._context_length = options.context_length
        self._inputs = {value.name: value.type for value in self._inner.get_inputs()}
        self._pasts = [name for name in self._inputs if name.startswith("past_key_values.")]
        self._outputs = ["logits", *(name.replace("past_key_values", "present") for name in self._pasts)]
        missing = sorted(set(self._outputs) - {value.name for value in self._inner.get_outputs()})
        if missing or len(self._pasts) != 2 * manifest.num_layers:
            what = f"no output `{missing[0]}`" if missing else f"{len(self._pasts)} caches"
            message = f"the graph in `{folder}` has {what}, expected keys and values of {manifest.num_layers} layers"
            raise FormatError(message, subject=str(folder / GRAPH_NAME))
        if options.kv_cache not in (None, self.kv_cache):
            message = f"`kv_cache` is `{options.kv_cache}`, expected {self.kv_cache}, as this graph has it"
            raise UsageError(message, name="kv_cache", value=options.kv_cache, allowed=[self.kv_cache])
        self._held: weakref.WeakKeyDictionary[KVCache, Arrays] = weakref.WeakKeyDictionary()

    @property
    def kv_cache(self) -> CacheFormat:
        """See ``Session``."""
        return "f16" if any(self._inputs[name] == "tensor(float16)" for name in self._pasts) else "f32"

    @property
    def context_length(self) -> int:
        """See ``Session``."""
        return self._context_length

    @property
    def vocab_size(self) -> int:
        """See ``Session``."""
        return self._manifest.vocab_size

    def new_cache(self) -> KVCache:
        """See ``Session``; the arrays are kept here, because each step makes new ones."""
        manifest = self._manifest
        return KVCache(CacheShape(0, manifest.num_kv_heads, self._context_length, manifest.head_dim))

    def forward(self, cache: KVCache, ids: Sequence[int], *, every_position: bool = False) -> Logits:
        """See ``Session``."""
        past = len(cache)
        if not ids or past + len(ids) > cache.capacity:
            room = cache.capacity - past
            raise GenerationFailed(f"a step has {len(ids)} tokens, the cache has room for {room}")
        feeds = {**self._tokens(ids, past, every_position), **self._past(cache, past)}
        try:
            logits, *presents = self._inner.run(self._outputs, feeds)
        except Exception as error:  # whatever class ONNX Runtime raises
            raise GenerationFailed(f"ONNX Runtime failed at position {past}: {runtime.first_line(error)}") from error
        if every_position and logits.shape[1] != len(ids):
            raise GenerationFailed(f"the graph gives logits of {logits.shape[1]} positions, expected {len(ids)}")
        self._held[cache] = dict(zip(self._pasts, presents, strict=True))
        cache.extend(ids)
        rows = logits[0] if every_position else logits[0, -1:]
        return np.array(rows[:, : self.vocab_size], np.float32)

    def _tokens(self, ids: Sequence[int], past: int, every_position: bool) -> Arrays:
        total = past + len(ids)
        arrays: Arrays = {
            "input_ids": np.array([ids], np.int64),
            "attention_mask": np.ones((1, total), np.int64),
            "position_ids": np.arange(past, total, dtype=np.int64)[None],
            "num_logits_to_keep": np.array(0 if every_position else 1, np.int64),
        }
        return {name: array for name, array in arrays.items() if name in self._inputs}

    def _past(self, cache: KVCache, length: int) -> Arrays:
        held = self._held.get(cache)
        if held is None or not length:
            shape = (1, self._manifest.num_kv_heads, 0, self._manifest.head_dim)
            return {name: np.zeros(shape, TYPES.get(self._inputs[name], np.float32)) for name in self._pasts}
        return {name: np.ascontiguousarray(array[:, :, :length]) for name, array in held.items()}
