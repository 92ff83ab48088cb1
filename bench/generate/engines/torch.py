"""transformers on torch, in the bfloat16 of the checkpoint."""

from __future__ import annotations

import time

import torch
from transformers import AutoModelForCausalLM, DynamicCache

from bench.generate.worker import Load, Prompts


class Engine:
    """The model's class, its cache, and the logits of the last position."""

    PACKAGES = ("transformers", "torch")

    def __init__(self, load: Load) -> None:
        torch.set_num_threads(load.threads)
        self._model = AutoModelForCausalLM.from_pretrained(
            load.path, dtype=torch.bfloat16, local_files_only=True
        ).eval()

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def generate(self, prompts: Prompts, tokens: int) -> tuple[float, list[float]]:
        """See ``worker.Engine``."""
        cache = DynamicCache(config=self._model.config)
        began = time.perf_counter()
        best = self._best(torch.from_numpy(prompts), cache)
        prefill, steps = time.perf_counter() - began, []
        for _ in range(tokens):
            began = time.perf_counter()
            best = self._best(best, cache)
            steps.append(time.perf_counter() - began)
        return prefill, steps

    def _best(self, ids: torch.Tensor, cache: DynamicCache) -> torch.Tensor:
        logits = self._model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
        return logits[:, -1].argmax(-1, keepdim=True)
