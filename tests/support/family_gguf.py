"""Tiny models of every family as GGUF files, written the way llama.cpp's converter writes them.

Names come from the gguf package's own table. What the converter does to the tensors was checked by running such files
in llama.cpp: it gave the logits that we compute from them, but for Phi-3's window, which it ignores.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import gguf
import numpy as np

from fastslm.formats import open_model
from fastslm.formats.source import TensorSource
from support.golden import TOKENIZER, golden_model

ARCHITECTURES: dict[str, str] = {
    "tied": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "qwen3_yarn": "qwen3",
    "phi3": "phi3",
    "phi4_mini": "phi3",
    "gemma": "gemma",
    "gemma2": "gemma2",
    "gemma3": "gemma3",
    "gpt2": "gpt2",
    "gpt_neox": "gptneox",
    "gpt_neox_sequential": "gptneox",
    "phi": "phi2",
    "stablelm": "stablelm",
    "olmo": "olmo",
    "olmo2": "olmo2",
    "granite": "granite",
    "smollm3": "smollm3",
    "starcoder2": "starcoder2",
    "mixtral": "llama",
    "qwen2_moe": "qwen2moe",
    "qwen3_moe": "qwen3moe",
    "lfm2": "lfm2",
    "gpt_oss": "gpt-oss",
    "gpt_oss_mxfp4": "gpt-oss",
}
"""Golden variant to the architecture that GGUF calls it."""

KEYS: dict[str, tuple[str, ...]] = {
    "context_length": ("max_position_embeddings", "n_positions"),
    "embedding_length": ("hidden_size", "n_embd"),
    "block_count": ("num_hidden_layers", "n_layer"),
    "attention.head_count": ("num_attention_heads", "n_head"),
    "attention.head_count_kv": ("num_key_value_heads",),
    "attention.key_length": ("head_dim",),
    "attention.value_length": ("head_dim",),
    "attention.sliding_window": ("sliding_window",),
    "expert_count": ("num_local_experts", "num_experts"),
    "expert_used_count": ("num_experts_per_tok",),
    "expert_feed_forward_length": ("moe_intermediate_size",),
    "expert_shared_feed_forward_length": ("shared_expert_intermediate_size",),
    "attention.clamp_kqv": ("clip_qkv",),
    "attention.scale": ("attention_multiplier",),
    "embedding_scale": ("embedding_multiplier",),
    "residual_scale": ("residual_multiplier",),
    "logit_scale": ("logits_scaling",),
    "attn_logit_softcapping": ("attn_logit_softcapping",),
    "final_logit_softcapping": ("final_logit_softcapping",),
}
EPSILONS = {"starcoder2": 1e-5, "gpt2": 1e-5, "gptneox": 1e-5, "phi2": 1e-5, "stablelm": 1e-5, "olmo": 1e-5}
RMS_EPSILONS = {
    "mixtral": 1e-5,
    "lfm2": 1e-5,
    "gpt_oss": 1e-5,
    "gpt_oss_mxfp4": 1e-5,
    "granite": 1e-6,
    "tied": 1e-5,
    "qwen2": 1e-5,
    "phi3": 1e-5,
    "phi4_mini": 1e-5,
    "olmo2": 1e-5,
}
PERMUTED = frozenset({"llama", "olmo", "granite", "smollm3"})
NEVER_TIED = frozenset({"olmo2", "stablelm"})
NEVER_BLOCKS = ("position", "gate_inp", "shortconv.conv")
VOCABULARY = 288
GEMMAS = frozenset({"gemma", "gemma2", "gemma3"})


UNSAID: dict[str, dict[str, Any]] = {
    "gemma2": {"query_pre_attn_scalar": 16},
    "gemma3": {"query_pre_attn_scalar": 16, "layer_types": ["sliding_attention"] * 3},
    "smollm3": {"no_rope_layers": [1, 1]},
    "starcoder2": {"sliding_window": None},
}
"""What the architecture fixes and no GGUF file says, as configuration."""


def write_family_gguf(
    variant: str, folder: Path, kind: str = "F32", changes: Mapping[str, Any] = MappingProxyType({})
) -> Path:
    """Write the golden model of a variant, its matrices as blocks of a kind; ``changes`` replace metadata,
    and None takes it away."""
    golden = golden_model(variant, folder / "source")
    arch, config = ARCHITECTURES[variant], {**golden.config, **UNSAID.get(variant, {})}
    path = folder / f"{variant}.gguf"
    writer = gguf.GGUFWriter(path, arch)
    if variant == "lfm2":
        heads = {"conv": 0, "full_attention": config["num_key_value_heads"]}
        counts = [heads[layer] for layer in config["layer_types"]]
        changes = {"shortconv.l_cache": config["conv_L_cache"], "attention.head_count_kv": counts, **changes}
    for key, value in {**_sizes(config), **_rope(arch, config), **_norms(variant, arch), **changes}.items():
        if value is None:
            continue
        if isinstance(value, list):
            writer.add_array(f"{arch}.{key}", value)
            continue
        add = writer.add_float32 if isinstance(value, float) else writer.add_uint32
        (writer.add_string if isinstance(value, str) else add)(f"{arch}.{key}", value)
    if arch in ("gptneox", "stablelm"):
        writer.add_bool(f"{arch}.use_parallel_residual", config.get("use_parallel_residual", arch == "gptneox"))
    _add_tokenizer(writer)
    for name, value in _tensors(arch, config, golden.folder).items():
        is_matrix = value.ndim > 1 and name.endswith(".weight") and not any(part in name for part in NEVER_BLOCKS)
        quantized = gguf.GGMLQuantizationType[kind if is_matrix else "F32"]
        writer.add_tensor(name, gguf.quantize(np.ascontiguousarray(value), quantized), raw_dtype=quantized)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _sizes(config: dict[str, Any]) -> dict[str, Any]:
    found = {key: config[name] for key, names in KEYS.items() for name in names if config.get(name) is not None}
    inner = config.get("intermediate_size", 4 * found["embedding_length"])
    widths = {"feed_forward_length": inner}
    if config["model_type"] == "gpt_oss":
        widths["expert_feed_forward_length"] = inner
    return {**found, **widths}


def _norms(variant: str, arch: str) -> dict[str, float]:
    if arch in EPSILONS:
        return {"attention.layer_norm_epsilon": EPSILONS[arch]}
    return {"attention.layer_norm_rms_epsilon": RMS_EPSILONS.get(variant, 1e-6)}


def _rope(arch: str, config: dict[str, Any]) -> dict[str, Any]:
    if arch == "gpt2":
        return {}
    head = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    part = config.get("partial_rotary_factor", config.get("rotary_pct", 1.0))
    found = {"rope.dimension_count": int(part * head), "rope.freq_base": float(config.get("rope_theta", 10000.0))}
    scaling = config.get("rope_scaling") or {}
    kind = scaling.get("rope_type", scaling.get("type"))
    if kind in ("linear", "yarn"):
        found |= {"rope.scaling.type": kind, "rope.scaling.factor": scaling["factor"]}
    if kind == "yarn":
        found["rope.scaling.original_context_length"] = scaling["original_max_position_embeddings"]
        found["rope.scaling.yarn_beta_fast"] = scaling["beta_fast"]
    if kind == "longrope":
        original = config["original_max_position_embeddings"]
        factor = config["max_position_embeddings"] / original
        found["rope.scaling.original_context_length"] = original
        found["rope.scaling.attn_factor"] = float(np.sqrt(1 + np.log(factor) / np.log(original)))
    return found


def _tensors(arch: str, config: dict[str, Any], folder: Path) -> dict[str, np.ndarray]:
    source = open_model(folder).tensors
    kind = next(each for each, name in gguf.MODEL_ARCH_NAMES.items() if name == arch)
    names = gguf.get_tensor_name_map(kind, config.get("num_hidden_layers", 2))
    found: dict[str, np.ndarray] = {}
    for name, value in _stacked(source).items():
        if name.endswith(".sinks"):
            name += ".weight"
        renamed = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if renamed is None:
            raise AssertionError(f"the gguf package does not know `{name}`")
        found[renamed] = _changed(arch, config, renamed, value)
    if arch in NEVER_TIED:
        found["output.weight"] = found["token_embd.weight"]
    scaling = config.get("rope_scaling") or {}
    if scaling.get("type") == "longrope":
        for length in ("long", "short"):
            found[f"rope_factors_{length}.weight"] = np.array(scaling[f"{length}_factor"], np.float32)
    return found


def _stacked(source: TensorSource) -> dict[str, np.ndarray]:
    """Tensors by name; the matrices of all experts as one, as the converter merges them."""
    found: dict[str, np.ndarray] = {}
    stacks: dict[str, list[np.ndarray]] = {}
    for name in sorted(source, key=lambda name: [int(part) if part.isdigit() else 0 for part in name.split(".")]):
        merged = re.sub(r"\.experts\.\d+\.", ".experts.", name)
        if merged == name:
            found[name] = source.read(name)
        else:
            stacks.setdefault(merged, []).append(source.read(name))
    return found | {name: np.stack(matrices) for name, matrices in stacks.items()}


def _changed(arch: str, config: dict[str, Any], name: str, value: np.ndarray) -> np.ndarray:
    """What the converter does to a tensor."""
    part = name.split(".")[-2]
    if arch in PERMUTED and part in ("attn_q", "attn_k"):
        heads = config["num_attention_heads" if part == "attn_q" else "num_key_value_heads"]
        return value.reshape(heads, 2, len(value) // heads // 2, -1).swapaxes(1, 2).reshape(value.shape)
    if arch == "gptneox" and part == "attn_qkv":
        heads = config["num_attention_heads"]
        return value.reshape(heads, 3, len(value) // heads // 3, -1).swapaxes(0, 1).reshape(value.shape)
    if arch == "gpt2" and value.ndim == 2 and name.startswith("blk."):
        return value.T
    if name.endswith("shortconv.conv.weight"):
        return value[:, 0]
    if part == "ffn_gate_inp_shexp":
        return value.reshape(-1)
    return value + 1 if arch in GEMMAS and name.endswith("norm.weight") else value


def _add_tokenizer(writer: gguf.GGUFWriter) -> None:
    described = json.loads(TOKENIZER.read_text(encoding="utf-8"))
    ids: dict[str, int] = described["model"]["vocab"]
    added = {token["content"]: token["id"] for token in described["added_tokens"]}
    tokens = sorted({**ids, **added}.items(), key=lambda item: item[1])
    texts = [text for text, _ in tokens][:VOCABULARY]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(texts)
    writer.add_token_types([3 if text in added else 1 for text in texts])
    merges: list[Any] = described["model"]["merges"]
    join: Callable[[Any], str] = lambda merge: merge if isinstance(merge, str) else " ".join(merge)  # noqa: E731
    writer.add_token_merges([join(merge) for merge in merges])
    writer.add_bos_token_id(2)
    writer.add_eos_token_id(1)
