"""onnxruntime-genai on the folder that its own builder made."""

from __future__ import annotations

import json
import time

import onnxruntime_genai as og

from bench.generate.worker import Load, Prompts


class Engine:
    """One model; a generator for each generation, as its interface wants it."""

    PACKAGES = ("onnxruntime-genai", "numpy")

    def __init__(self, load: Load) -> None:
        config = og.Config(load.path)
        options = {"intra_op_num_threads": load.threads, "inter_op_num_threads": 1}
        config.overlay(
            json.dumps({"model": {"decoder": {"session_options": options}, "eos_token_id": [], "pad_token_id": 0}})
        )
        self._model, self._context = og.Model(config), load.context

    def generate(self, prompts: Prompts, tokens: int) -> tuple[float, list[float]]:
        """See ``worker.Engine``."""
        params = og.GeneratorParams(self._model)
        params.set_search_options(do_sample=False, max_length=self._context, batch_size=len(prompts))
        generator = og.Generator(self._model, params)
        began = time.perf_counter()
        generator.append_tokens(prompts.astype("int32") if len(prompts) > 1 else prompts[0].astype("int32"))
        generator.generate_next_token()
        prefill, steps = time.perf_counter() - began, []
        for _ in range(tokens):
            began = time.perf_counter()
            generator.generate_next_token()
            steps.append(time.perf_counter() - began)
        return prefill, steps
