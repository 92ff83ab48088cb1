"""GGUF metadata as the keys of Hugging Face's ``config.json``.

Key names: ggml's docs/gguf.md. What GGUF does not say (a missing ``lm_head`` means tied embeddings, ``rope_freqs``
holds the llama3 divisors) is taken from the tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastslm.errors import FormatError, UnsupportedModel
from fastslm.formats.checked_json import quoted
from fastslm.formats.gguf.families import family_values
from fastslm.formats.gguf.header import GgufHeader, GgufTensor
from fastslm.formats.gguf.metadata import Metadata
from fastslm.formats.gguf.names import LONG_FACTORS_NAMES, MIXTURES, ROPE_FACTORS_NAME, Architecture, architecture

DEFAULT_ROPE_THETA = 10000.0
RMS_EPSILONS = ("rms_norm_eps", "norm_eps")
EXPERT_COUNT = "{arch}.expert_count"


def build_config(header: GgufHeader, tensors: Mapping[str, GgufTensor]) -> dict[str, Any]:
    """The configuration of a model whose tensors (GGUF names) may lie in several files.

    Raises:
        FormatError: a key is missing or has a value that cannot be.
        UnsupportedModel: the architecture, or a feature of it, is not one that fastslm knows.
    """
    data = Metadata(header)
    kind = data.text("general.type", "model")
    if kind != "model":
        raise UnsupportedModel(f"`{data.subject}` holds a part of type {quoted(kind)}, expected a model", feature=kind)
    arch = read_architecture(data)
    config: dict[str, Any] = {"model_type": arch.model_type, **arch.fixed, **_sizes(data)}
    config["vocab_size"] = _vocab_size(tensors, config["hidden_size"])
    kind_of_norm = "layer_norm_rms_epsilon" if arch.epsilon in RMS_EPSILONS else "layer_norm_epsilon"
    config[arch.epsilon] = data.number(f"{{arch}}.attention.{kind_of_norm}")
    config |= _presence(tensors)
    if data.has("{arch}.attention.sliding_window") and not data.is_zero("{arch}.attention.sliding_window"):
        config["sliding_window"] = data.count("{arch}.attention.sliding_window")
    config |= {**_rope(data, arch, config["head_dim"]), **_rope_factors(header, tensors, config["head_dim"])}
    return {**config, **_long_rope(data, header, tensors), **family_values(data, config)}


def _presence(tensors: Mapping[str, GgufTensor]) -> dict[str, bool]:
    """What the tensors that are there say; each family reads the one that it knows."""
    biased = bool({"blk.0.attn_q.bias", "blk.0.attn_qkv.bias"} & set(tensors))
    return {
        "tie_word_embeddings": "output.weight" not in tensors,
        "mlp_bias": "blk.0.ffn_up.bias" in tensors,
        **dict.fromkeys(("attention_bias", "use_bias", "use_qkv_bias"), biased),
    }


def _sizes(data: Metadata) -> dict[str, int]:
    hidden, heads = data.count("{arch}.embedding_length"), data.count("{arch}.attention.head_count")
    if not data.has("{arch}.attention.key_length") and hidden % heads:
        message = f"`{data.subject}`: {heads} heads do not divide the hidden size {hidden}"
        raise FormatError(message, subject=data.subject, expected=heads, found=hidden)
    head_dim = data.count("{arch}.attention.key_length", max(1, hidden // heads))
    if data.count("{arch}.attention.value_length", head_dim) != head_dim:
        raise UnsupportedModel("keys and values of different lengths are not supported", feature="value_length")
    return {
        "hidden_size": hidden,
        "num_hidden_layers": data.count("{arch}.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": _kv_heads(data, heads),
        "head_dim": head_dim,
        "intermediate_size": data.count("{arch}.feed_forward_length"),
        "max_position_embeddings": data.count("{arch}.context_length"),
    }


def _kv_heads(data: Metadata, heads: int) -> int:
    """One number for all layers that attend; those of LFM2 that do not have none."""
    key = "{arch}.attention.head_count_kv"
    if data.arch != "lfm2":
        return data.count(key, heads)
    found = set(data.by_layer(key, data.count("{arch}.block_count"))) - {0}
    if len(found) != 1:
        message = f"`{data.subject}` has layers of {sorted(found)} KV heads, expected one number"
        raise UnsupportedModel(message, feature="head_count_kv")
    return found.pop()


def read_architecture(data: Metadata) -> Architecture:
    """The architecture of a file.

    Raises:
        FormatError: the number of experts is not one.
        UnsupportedModel: it is none that we know, or has experts where we know none.
    """
    has_experts = data.has(EXPERT_COUNT) and not data.is_zero(EXPERT_COUNT)
    if has_experts:
        data.count(EXPERT_COUNT)
    arch = architecture(data.arch, has_experts=has_experts)
    if has_experts and arch not in MIXTURES.values():
        message = f"`{data.subject}` is a mixture of experts of architecture `{data.arch}`, which is not supported"
        raise UnsupportedModel(message, feature="experts")
    return arch


def _vocab_size(tensors: Mapping[str, GgufTensor], hidden: int) -> int:
    embedding = tensors.get("token_embd.weight")
    if embedding is None:
        raise FormatError("tensor `token_embd.weight` is missing in the model", subject="token_embd.weight")
    if len(embedding.shape) != 2 or embedding.shape[1] != hidden:
        message = f"tensor `token_embd.weight` has shape {embedding.shape}, expected rows of {hidden}"
        raise FormatError(message, subject="token_embd.weight", expected=hidden, found=embedding.shape)
    return embedding.shape[0]


def _rope(data: Metadata, arch: Architecture, head_dim: int) -> dict[str, Any]:
    theta = data.number("{arch}.rope.freq_base", DEFAULT_ROPE_THETA)
    config: dict[str, Any] = {"rope_theta": theta, "rope_scaling": _rope_scaling(data)}
    rotary = data.count("{arch}.rope.dimension_count", head_dim)
    if rotary > head_dim or (arch.interleaved_rope and (head_dim % 2 or rotary != head_dim)):
        message = f"`{data.subject}` rotates {rotary} of {head_dim} dimensions of a head, expected all"
        raise UnsupportedModel(message, feature="rope.dimension_count")
    if rotary != head_dim:
        config["partial_rotary_factor"] = rotary / head_dim
    return config


def _rope_scaling(data: Metadata) -> dict[str, Any] | None:
    kind = data.text("{arch}.rope.scaling.type", "none")
    if kind == "none" and not data.has("{arch}.rope.scale_linear"):
        return None
    if kind in ("linear", "none"):
        key = "{arch}.rope.scaling.factor" if data.has("{arch}.rope.scaling.factor") else "{arch}.rope.scale_linear"
        return {"rope_type": "linear", "factor": data.number(key)}
    if kind != "yarn":
        raise UnsupportedModel(f"rope scaling {quoted(kind)} is not supported, expected linear or yarn", feature=kind)
    scaling: dict[str, Any] = {"rope_type": "yarn", "factor": data.number("{arch}.rope.scaling.factor")}
    scaling["original_max_position_embeddings"] = data.count("{arch}.rope.scaling.original_context_length")
    for key, name in (("yarn_beta_fast", "beta_fast"), ("yarn_beta_slow", "beta_slow")):
        if data.has(f"{{arch}}.rope.scaling.{key}"):
            scaling[name] = data.number(f"{{arch}}.rope.scaling.{key}")
    return scaling


def _rope_factors(header: GgufHeader, tensors: Mapping[str, GgufTensor], head_dim: int) -> dict[str, Any]:
    """``rope_freq_factors``: what each rotary frequency is divided by (llama3 scaling, already worked out)."""
    tensor = tensors.get(ROPE_FACTORS_NAME)
    if tensor is None:
        return {}
    return {"rope_freq_factors": _factors(header, tensor, head_dim // 2)}


def _long_rope(data: Metadata, header: GgufHeader, tensors: Mapping[str, GgufTensor]) -> dict[str, Any]:
    """Longrope: two sets of divisors as tensors, the rest as metadata."""
    found = {key: tensors[name] for key, name in LONG_FACTORS_NAMES.items() if name in tensors}
    if len(found) < len(LONG_FACTORS_NAMES):
        return {}
    count = data.count("{arch}.rope.dimension_count") // 2
    factors = {key: _factors(header, tensor, count) for key, tensor in found.items()}
    scaling: dict[str, Any] = {"rope_type": "longrope", **factors}
    if data.has("{arch}.rope.scaling.attn_factor"):
        scaling["attention_factor"] = data.number("{arch}.rope.scaling.attn_factor")
    original = data.count("{arch}.rope.scaling.original_context_length")
    return {"rope_scaling": scaling, "original_max_position_embeddings": original}


def _factors(header: GgufHeader, tensor: GgufTensor, count: int) -> list[float]:
    if tensor.type_name != "F32" or tensor.shape != (count,):
        message = f"tensor `{tensor.name}` is {tensor.type_name} {tensor.shape}, expected F32 ({count},)"
        raise FormatError(message, subject=tensor.name, expected=count, found=tensor.shape)
    factors = header.data[tensor.offset : tensor.offset + tensor.size_bytes].view("<f4")
    if not (np.isfinite(factors).all() and (factors > 0).all()):
        raise FormatError(f"tensor `{tensor.name}` holds values that are not positive", subject=tensor.name)
    return [float(factor) for factor in factors]
