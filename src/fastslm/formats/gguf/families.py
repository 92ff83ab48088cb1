"""Metadata that only some architectures have, under the configuration keys of their families.

What llama.cpp does not store but knows by the size of the model is filled in here as it does: the largest Gemma 2 and 3
scale their scores by the width of the model over the number of heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastslm.formats.gguf.metadata import Metadata

NUMBERS: Mapping[str, Mapping[str, str]] = {
    "gemma2": {
        "attn_logit_softcapping": "attn_logit_softcapping",
        "final_logit_softcapping": "final_logit_softcapping",
    },
    "gemma3_text": {
        "final_logit_softcapping": "final_logit_softcapping",
        "rope.freq_base_swa": "rope_local_base_freq",
    },
    "granite": {
        "attention.scale": "attention_multiplier",
        "embedding_scale": "embedding_multiplier",
        "residual_scale": "residual_multiplier",
        "logit_scale": "logits_scaling",
    },
    "olmo": {"attention.clamp_kqv": "clip_qkv"},
}
"""Per ``model_type``: metadata key without the architecture, and the configuration's name for it."""

EXPERTS: Mapping[str, str] = {
    "mixtral": "num_local_experts",
    "qwen2_moe": "num_experts",
    "qwen3_moe": "num_experts",
    "gpt_oss": "num_local_experts",
}
"""Models with experts: the configuration's name for their number."""

FLAGS: Mapping[str, str] = {"gpt_neox": "use_parallel_residual", "stablelm": "use_parallel_residual"}

SCALED_BY_WIDTH = {"gemma2": 46, "gemma3_text": 62}
"""Layers of the models whose scores are scaled otherwise, the 27B ones."""


def family_values(data: Metadata, config: Mapping[str, Any]) -> dict[str, Any]:
    """The values of one file. Raises FormatError for one of the wrong type."""
    kind = config["model_type"]
    found: dict[str, Any] = {}
    for key, name in NUMBERS.get(kind, {}).items():
        if data.has(f"{{arch}}.{key}"):
            found[name] = data.number(f"{{arch}}.{key}")
    if kind in EXPERTS:
        found |= _expert_values(data, EXPERTS[kind], config["intermediate_size"])
    if kind == "gpt_oss":
        found |= _gpt_oss(data, config)
    if kind == "lfm2":
        heads = data.by_layer("{arch}.attention.head_count_kv", config["num_hidden_layers"])
        found["layer_types"] = ["full_attention" if count else "conv" for count in heads]
        found["conv_L_cache"] = data.count("{arch}.shortconv.l_cache")
    if kind in FLAGS:
        found[FLAGS[kind]] = data.flag(f"{{arch}}.{FLAGS[kind]}", default=kind == "gpt_neox")
    if kind in SCALED_BY_WIDTH:
        is_largest = config["num_hidden_layers"] == SCALED_BY_WIDTH[kind]
        width = config["hidden_size"] / config["num_attention_heads"] if is_largest else config["head_dim"]
        found["query_pre_attn_scalar"] = width
    return found


def _gpt_oss(data: Metadata, config: Mapping[str, Any]) -> dict[str, Any]:
    """The width of its experts; and that its rotation's ramp lies between two frequencies, which no file says."""
    inner = data.count("{arch}.expert_feed_forward_length", config["intermediate_size"])
    scaling = config["rope_scaling"]
    return {"intermediate_size": inner, "rope_scaling": scaling and {**scaling, "truncate": False}}


def _expert_values(data: Metadata, name: str, inner: int) -> dict[str, int]:
    """Numbers of experts and their widths, which older files leave to be worked out; Mixtral ignores the widths."""
    chosen = data.count("{arch}.expert_used_count")
    return {
        name: data.count("{arch}.expert_count"),
        "num_experts_per_tok": chosen,
        "moe_intermediate_size": data.count("{arch}.expert_feed_forward_length", max(1, inner // chosen)),
        "shared_expert_intermediate_size": data.count("{arch}.expert_shared_feed_forward_length", inner),
    }
