"""Run a converted folder in ONNX Runtime as the engine does: KV buffers that are bound as past and present at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort

from fastslm import ops
from fastslm.store.manifest import GRAPH_NAME, ModelManifest


class Decoder:
    """A batch of sequences of one model with room for ``capacity`` positions each."""

    def __init__(self, folder: Path, *, batch: int = 1, capacity: int = 64) -> None:
        manifest = ModelManifest.read(folder)
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        if manifest.target == "native":
            ops.register(options)
        self.session = ort.InferenceSession(str(folder / GRAPH_NAME), options, providers=["CPUExecutionProvider"])
        self._binding = self.session.io_binding()
        self.lengths = np.zeros(batch, np.int32)
        self._buffers = []  # the binding does not keep them alive
        in_bytes = manifest.target == "native"
        row = ops.cache_row_bytes("f32", manifest.head_dim) if in_bytes else manifest.head_dim
        for cache in self.session.get_inputs():
            if not cache.name.startswith("past_key_values."):
                continue
            size = (batch, cache.shape[1], capacity, row)
            buffer = ort.OrtValue.ortvalue_from_numpy(np.zeros(size, np.uint8 if in_bytes else np.float32))
            self._buffers.append(buffer)
            self._binding.bind_ortvalue_input(cache.name, buffer)
            self._binding.bind_ortvalue_output(cache.name.replace("past_key_values", "present"), buffer)

    def step(self, ids: np.ndarray, rows: list[int], lengths: list[int] | None = None) -> np.ndarray:
        """Feed ids [batch, sequence], of which row i has ``lengths[i]`` real ones; logits [rows, vocabulary]."""
        self.lengths += np.array(lengths or [ids.shape[1]] * len(ids), np.int32)
        inputs = {
            "input_ids": ids.astype(np.int64),
            "seqlens_k": self.lengths - 1,
            "total_sequence_length": np.array(self.lengths.max(), np.int32),
            "logit_rows": np.array(rows, np.int64),
        }
        for name, value in inputs.items():
            self._binding.bind_cpu_input(name, value)
        self._binding.bind_output("logits")
        self.session.run_with_iobinding(self._binding)
        return self._binding.get_outputs()[-1].numpy()  # in the order of binding, logits were bound last


def all_logits(folder: Path, prompt: np.ndarray) -> np.ndarray:
    """Logits at every position of a prompt that is fed in one go."""
    return Decoder(folder).step(prompt[None], list(range(len(prompt))))
