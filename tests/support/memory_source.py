"""Models that live in arrays: the smallest thing that satisfies ``formats.source``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import gguf
import numpy as np

from fastslm.errors import FormatError
from fastslm.formats.source import Extent, ModelSource, TensorInfo

TINY_CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 40,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
}


@dataclass
class MemoryTensors:
    """Float arrays; those named in ``kinds`` are quantised to that GGUF type and read back from its blocks."""

    arrays: Mapping[str, np.ndarray]
    kinds: Mapping[str, str] = field(default_factory=dict)

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def __contains__(self, name: object) -> bool:
        return name in self.arrays

    def info(self, name: str) -> TensorInfo:
        return TensorInfo(name, self.kinds.get(name, "F32"), self.arrays[name].shape)

    def read(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        if name not in self.kinds:
            return self.arrays[name][start:stop].astype(np.float32)
        return gguf.dequantize(self._raw(name)[start:stop], gguf.GGMLQuantizationType[self.kinds[name]])

    def blocks(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        if name not in self.kinds:
            raise FormatError(f"tensor `{name}` is not quantised")
        size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[self.kinds[name]]][1]
        raw = self._raw(name)[start:stop]
        return raw.reshape(len(raw), -1, size)

    def extents(self, name: str) -> tuple[Extent, ...]:
        return ()

    def _raw(self, name: str) -> np.ndarray:
        return gguf.quantize(self.arrays[name].astype(np.float32), gguf.GGMLQuantizationType[self.kinds[name]])


def random_tensors(config: Mapping[str, Any], seed: int = 0) -> dict[str, np.ndarray]:
    """Weights of a Llama block for a configuration, large enough that rounding them shows."""
    rng = np.random.default_rng(seed)
    hidden, inner, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    head = config.get("head_dim", hidden // config["num_attention_heads"])
    query, key = head * config["num_attention_heads"], head * config["num_key_value_heads"]
    sizes = {"q_proj": (query, hidden), "k_proj": (key, hidden), "v_proj": (key, hidden), "o_proj": (hidden, query)}
    ffn = {"gate_proj": (inner, hidden), "up_proj": (inner, hidden), "down_proj": (hidden, inner)}
    tensors = {"model.embed_tokens.weight": rng.normal(0, 0.3, (vocab, hidden)), "model.norm.weight": np.ones(hidden)}
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}"
        for name, size in sizes.items():
            tensors[f"{prefix}.self_attn.{name}.weight"] = rng.normal(0, 0.15, size)
        for name, size in ffn.items():
            tensors[f"{prefix}.mlp.{name}.weight"] = rng.normal(0, 0.15, size)
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{prefix}.{norm}.weight"] = rng.normal(1, 0.2, hidden)
    if not config.get("tie_word_embeddings"):
        tensors["lm_head.weight"] = rng.normal(0, 0.3, (vocab, hidden))
    return {name: value.astype(np.float32) for name, value in tensors.items()}


def memory_model(
    tensors: Mapping[str, np.ndarray] | None = None, kinds: Mapping[str, str] | None = None, **changes: Any
) -> ModelSource:
    """A two-layer Llama. ``changes`` replace keys of the configuration; None removes one."""
    config = {key: value for key, value in {**TINY_CONFIG, **changes}.items() if value is not None}
    arrays = random_tensors(TINY_CONFIG | config) if tensors is None else tensors
    return ModelSource(
        config=config,
        tensors=MemoryTensors(arrays, kinds or {}),
        tokenizer_json='{"version": "1.0"}',
        chat_template="{{ messages }}",
        special_tokens={"eos_token": "</s>"},
        bos_token_id=None,
        eos_token_ids=(1, 2),
        add_bos=False,
        generation={"temperature": 0.7},
        files={"model.safetensors": 123},
    )
