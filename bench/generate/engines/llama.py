"""llama.cpp through the C functions of llama-cpp-python: batches as its own benchmark makes them, no Python between."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Sequence

import llama_cpp
import numpy as np

from bench.generate.worker import Load, Prompts


class Engine:
    """One GGUF file; logits of the last token of each sequence only."""

    PACKAGES = ("llama-cpp-python", "numpy")

    def __init__(self, load: Load) -> None:
        self._quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
        llama_cpp.llama_log_set(self._quiet, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        self._model = llama_cpp.llama_model_load_from_file(load.path.encode(), llama_cpp.llama_model_default_params())
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_seq_max = load.context * load.rows, load.rows
        params.n_threads = params.n_threads_batch = load.threads
        params.n_outputs_max = load.rows
        self._context = llama_cpp.llama_init_from_model(self._model, params)
        if not self._context:
            raise RuntimeError(f"`{load.path}` cannot be loaded")
        self._batch = llama_cpp.llama_batch_init(params.n_batch, 0, 1)
        self._most = params.n_batch
        self._vocab_size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self._model))

    def generate(self, prompts: Prompts, tokens: int) -> tuple[float, list[float]]:
        """See ``worker.Engine``."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), False)
        length, best = prompts.shape[1], [0] * len(prompts)
        began = time.perf_counter()
        for row, prompt in enumerate(prompts.tolist()):
            for first in range(0, length, self._most):
                part = prompt[first : first + self._most]
                places = [(first + i, row) for i in range(len(part))]
                [best[row]] = self._decode(part, places, wanted=[len(part) - 1])
        prefill, steps = time.perf_counter() - began, []
        for position in range(length, length + tokens):
            began = time.perf_counter()
            best = self._decode(best, [(position, row) for row in range(len(best))], wanted=range(len(best)))
            steps.append(time.perf_counter() - began)
        return prefill, steps

    def _decode(self, ids: Sequence[int], places: Sequence[tuple[int, int]], wanted: Sequence[int]) -> list[int]:
        """Append tokens at (position, sequence); the best next token after each of the ``wanted`` ones."""
        batch = self._batch
        batch.n_tokens = len(ids)
        for i, (id_, (position, sequence)) in enumerate(zip(ids, places, strict=True)):
            batch.token[i], batch.pos[i], batch.logits[i] = id_, position, i in wanted
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
        if failed := llama_cpp.llama_decode(self._context, batch):
            raise RuntimeError(f"llama_decode gave {failed}")
        rows = [llama_cpp.llama_get_logits_ith(self._context, i) for i in wanted]
        return [int(np.ctypeslib.as_array(row, (self._vocab_size,)).argmax()) for row in rows]
