"""Ours: one sequence as a user's generation runs it; several as the steps of one batch on the same graph."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.generate.worker import Load, Prompts
from fastslm import runtime
from fastslm.engine import measure, session
from fastslm.engine.generate import chunks
from fastslm.engine.session import OrtSession, SessionOptions, open_graph
from fastslm.ops import DEFAULT_CACHE_FORMAT, cache_row_bytes
from fastslm.store.manifest import GRAPH_NAME, ModelManifest

runtime.onnxruntime()  # its import is no part of loading a model


class Engine:
    """A converted folder, ours or the portable one of stock operators."""

    PACKAGES = ("fastslm", "onnxruntime", "numpy")

    def __init__(self, load: Load) -> None:
        folder = Path(load.path)
        if load.spin:  # the load of the last minute is that of the other contestants
            session.is_busy = lambda: False  # type: ignore[attr-defined]  # the name that it looks up
        manifest = ModelManifest.read(folder)
        if load.rows > 1:
            session_ = open_graph(folder / GRAPH_NAME, load.threads, with_ours=manifest.target == "native")
            self._one, self._batch = None, Batch(session_, manifest, load.rows, load.context)
        else:
            self._one = OrtSession(folder, manifest, SessionOptions(load.threads, load.context))
            self._cache = self._one.new_cache()

    def generate(self, prompts: Prompts, tokens: int) -> tuple[float, list[float]]:
        """See ``worker.Engine``."""
        if self._one is None:
            return self._batch.generate(prompts, tokens)
        prefill, token = measure.timed_prefill(self._one, self._cache, prompts[0].tolist())
        return prefill, list(measure.timed_steps(self._one, self._cache, token, tokens))


class Batch:
    """Sequences of equal length side by side, keys and values written in place."""

    def __init__(self, session: Any, manifest: ModelManifest, rows: int, context: int) -> None:
        native = manifest.target == "native"
        self._session = session
        row = cache_row_bytes(DEFAULT_CACHE_FORMAT, manifest.head_dim) if native else manifest.head_dim
        shape = (rows, manifest.num_kv_heads, context, row)
        kind = np.uint8 if native else np.float32
        self._caches = {
            f"{layer}.{name}": np.zeros(shape, kind)
            for layer in range(manifest.num_layers)
            for name in ("key", "value")
        }
        self._rows, self._vocab_size = rows, manifest.vocab_size

    def generate(self, prompts: Prompts, tokens: int) -> tuple[float, list[float]]:
        """See ``worker.Engine``."""
        began = time.perf_counter()
        for first, stop in chunks(0, prompts.shape[1], measure.CHUNK_TOKENS):
            best = self.step(stop - first)(prompts[:, first:stop], first)
        prefill = time.perf_counter() - began
        steps, step = [], self.step(1)
        for position in range(prompts.shape[1], prompts.shape[1] + tokens):
            began = time.perf_counter()
            best = step(best[:, None], position)
            steps.append(time.perf_counter() - began)
        return prefill, steps

    def step(self, length: int) -> Any:
        """A call that takes ids and the number of tokens before them, and gives the best token of each row."""
        numbers: dict[str, npt.NDArray[Any]] = {
            "input_ids": np.zeros((self._rows, length), np.int64),
            "seqlens_k": np.zeros(self._rows, np.int32),
            "total_sequence_length": np.zeros((), np.int32),
            "logit_rows": np.arange(1, self._rows + 1, dtype=np.int64) * length - 1,
        }
        logits = np.empty((self._rows, self._vocab_size), np.float32)
        wrap, binding = runtime.onnxruntime().OrtValue.ortvalue_from_numpy, self._session.io_binding()
        for name, array in numbers.items():
            binding.bind_ortvalue_input(name, wrap(array))
        binding.bind_ortvalue_output("logits", wrap(logits))
        for name, array in self._caches.items():
            binding.bind_ortvalue_input(f"past_key_values.{name}", wrap(array))
            binding.bind_ortvalue_output(f"present.{name}", wrap(array))

        def step(tokens: Prompts, past: int) -> Prompts:
            numbers["input_ids"][:] = tokens  # which also keeps what is bound alive, as ONNX Runtime 1.23 does not
            numbers["seqlens_k"][:] = past + length - 1
            numbers["total_sequence_length"][()] = past + length
            self._session.run_with_iobinding(binding)
            return np.asarray(logits.argmax(axis=1), np.int64)

        return step
