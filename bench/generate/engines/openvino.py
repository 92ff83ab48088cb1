"""OpenVINO GenAI on the folder that it made of the Q4_0 file itself; its own times, one call for each generation."""

from __future__ import annotations

import numpy as np
import openvino
import openvino_genai

from bench.generate.worker import Load, Prompts


class Engine:
    """A pipeline with its defaults: paged attention, keys and values in 8 bits."""

    PACKAGES = ("openvino-genai", "openvino")

    def __init__(self, load: Load) -> None:
        if load.rows > 1:
            raise ValueError("one sequence only")
        self._pipeline = openvino_genai.LLMPipeline(load.path, "CPU", INFERENCE_NUM_THREADS=load.threads)

    def generate(self, prompts: Prompts, tokens: int) -> tuple[float, list[float]]:
        """See ``worker.Engine``."""
        options = openvino_genai.GenerationConfig(max_new_tokens=tokens + 1, ignore_eos=True)
        inputs = openvino_genai.TokenizedInputs(openvino.Tensor(prompts), openvino.Tensor(np.ones_like(prompts)))
        metrics = self._pipeline.generate(inputs, options).perf_metrics.raw_metrics
        steps = [microseconds / 1e6 for microseconds in metrics.m_durations]
        return metrics.m_times_to_first_token[0] / 1e6, steps[-tokens:] if tokens else []


def save(source: str, folder: str) -> None:
    """Let it read a GGUF file and write its own format into the folder of that file's link."""
    from pathlib import Path

    link = Path(folder) / "model.gguf"
    link.symlink_to(source)
    openvino_genai.LLMPipeline(str(link), "CPU", enable_save_ov_model=True)
    link.unlink()


if __name__ == "__main__":
    import sys

    save(*sys.argv[1:])
