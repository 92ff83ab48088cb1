"""GGUF metadata as the keys of Hugging Face's ``config.json``.

Key names: ggml's docs/gguf.md. What GGUF does not say (a missing ``lm_head`` means tied embeddings, ``rope_freqs``
holds the llama3 divisors) is taken from the tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastslm.errors import FormatError, UnsupportedModel
from fastslm.formats.checked_json import quoted, shorten
from fastslm.formats.gguf.header import GgufHeader, GgufTensor
from fastslm.formats.gguf.names import ROPE_FACTORS_NAME, Architecture, architecture

DEFAULT_ROPE_THETA = 10000.0


class Metadata:
    """Typed look-ups in the metadata of one file; ``{arch}`` in a key stands for the architecture."""

    def __init__(self, header: GgufHeader) -> None:
        self.header = header
        self.subject = str(header.path)
        self.arch = self.text("general.architecture")

    def has(self, key: str) -> bool:
        """Whether the key is there."""
        return self._name(key) in self.header.metadata

    def text(self, key: str, default: str | None = None) -> str:
        """A string. Raises FormatError when it is missing without a default, or of another type."""
        value = self._get(key, default)
        if not isinstance(value, str):
            raise self._wrong(key, value, "a string")
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        """A boolean. Raises FormatError when it is of another type."""
        value = self._get(key, default)
        if not isinstance(value, bool):
            raise self._wrong(key, value, "a boolean")
        return value

    def count(self, key: str, default: int | None = None) -> int:
        """A whole number from 1 to 2**31 - 1; an array counts as its only value. Raises FormatError."""
        value = self._get(key, default)
        if isinstance(value, np.ndarray) and value.dtype.kind in "iu" and len(value):
            value = self._only(key, value)
        if type(value) is not int or not 1 <= value < 1 << 31:
            raise self._wrong(key, value, "a whole number from 1")
        return int(value)

    def number(self, key: str, default: float | None = None) -> float:
        """A finite float above zero. Raises FormatError."""
        value = self._get(key, default)
        if type(value) not in (int, float) or not 0 < value < np.inf:
            raise self._wrong(key, value, "a finite number above zero")
        return float(value)

    def _name(self, key: str) -> str:
        return key.replace("{arch}", self.arch) if "{arch}" in key else key

    def _get(self, key: str, default: Any) -> Any:
        name = self._name(key)
        if name in self.header.metadata:
            return self.header.metadata[name]
        if default is None:
            raise FormatError(f"`{self.subject}` lacks the metadata key `{name}`", subject=self.subject, expected=name)
        return default

    def _only(self, key: str, values: Any) -> int:
        if (values != values[0]).any():
            message = f"`{self._name(key)}` differs from layer to layer, expected one value"
            raise UnsupportedModel(message, feature=self._name(key))
        return int(values[0])

    def _wrong(self, key: str, value: Any, expected: str) -> FormatError:
        name = self._name(key)
        message = f"`{self.subject}`: `{name}` is {shorten(value)}, expected {expected}"
        return FormatError(message, subject=self.subject, expected=expected, found=value)


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
    arch = architecture(data.arch)
    _refuse_experts(data)
    config: dict[str, Any] = {"model_type": arch.model_type, **arch.fixed, **_sizes(data)}
    config["vocab_size"] = _vocab_size(tensors, config["hidden_size"])
    config["rms_norm_eps"] = data.number("{arch}.attention.layer_norm_rms_epsilon")
    config["tie_word_embeddings"] = "output.weight" not in tensors
    config["attention_bias"] = "blk.0.attn_q.bias" in tensors
    config["mlp_bias"] = "blk.0.ffn_up.bias" in tensors
    if data.has("{arch}.attention.sliding_window"):
        config["sliding_window"] = data.count("{arch}.attention.sliding_window")
    return {**config, **_rope(data, arch, config["head_dim"]), **_rope_factors(header, tensors, config["head_dim"])}


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
        "num_key_value_heads": data.count("{arch}.attention.head_count_kv", heads),
        "head_dim": head_dim,
        "intermediate_size": data.count("{arch}.feed_forward_length"),
        "max_position_embeddings": data.count("{arch}.context_length"),
    }


def _refuse_experts(data: Metadata) -> None:
    experts = data.header.metadata.get(f"{data.arch}.expert_count", 0)
    if type(experts) is not int or experts != 0:
        raise UnsupportedModel(f"`{data.subject}` is a mixture of experts, which is not supported", feature="experts")


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
    if tensor.type_name != "F32" or tensor.shape != (head_dim // 2,):
        message = f"tensor `{tensor.name}` is {tensor.type_name} {tensor.shape}, expected F32 ({head_dim // 2},)"
        raise FormatError(message, subject=tensor.name, expected=head_dim // 2, found=tensor.shape)
    factors = header.data[tensor.offset : tensor.offset + tensor.size_bytes].view("<f4")
    if not (np.isfinite(factors).all() and (factors > 0).all()):
        raise FormatError(f"tensor `{tensor.name}` holds values that are not positive", subject=tensor.name)
    return {"rope_freq_factors": [float(factor) for factor in factors]}
