"""GGUF tensor names in Hugging Face's terms, one table per architecture.

Architectures whose converter permutes the query and key rows (llama) are marked: GGUF keeps the two halves of each
rotary head interleaved, Hugging Face one after the other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from fastslm.errors import UnsupportedModel
from fastslm.formats.checked_json import quoted

ROPE_FACTORS_NAME = "rope_freqs.weight"
"""Divisors of the rotary frequencies (llama3 scaling); part of the configuration, not a weight."""

_IGNORED = re.compile(
    rf"{re.escape(ROPE_FACTORS_NAME)}|blk\.\d+\.attn(?:_rot_embd|\.rotary_emb\.inv_freq)(?:\.weight)?"
)

_TOP = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}

_LLAMA_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}

_QWEN3_LAYER = {**_LLAMA_LAYER, "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}


@dataclass(frozen=True)
class Architecture:
    """How one GGUF architecture is called and laid out in Hugging Face's terms.

    Attributes:
        model_type: ``model_type`` of the configuration.
        layer: name of a layer's part to its module name.
        interleaved_rope: whether rows of query and key are permuted.
        fixed: configuration values that the architecture implies and GGUF does not store.
    """

    model_type: str
    layer: dict[str, str]
    interleaved_rope: bool = False
    fixed: dict[str, object] = field(default_factory=dict)


ARCHITECTURES = {
    "llama": Architecture("llama", _LLAMA_LAYER, interleaved_rope=True, fixed={"hidden_act": "silu"}),
    "qwen2": Architecture("qwen2", _LLAMA_LAYER, fixed={"hidden_act": "silu"}),
    "qwen3": Architecture("qwen3", _QWEN3_LAYER, fixed={"hidden_act": "silu"}),
}


def architecture(name: str) -> Architecture:
    """Look up an architecture. Raises UnsupportedModel naming it and those that are known."""
    try:
        return ARCHITECTURES[name]
    except KeyError:
        known = ", ".join(f"`{known}`" for known in ARCHITECTURES)
        raise UnsupportedModel(
            f"GGUF architecture {quoted(name)} is not supported, expected one of {known}", feature=name
        ) from None


def is_ignored(gguf_name: str) -> bool:
    """Whether a tensor carries no weights of the model (tables that are computed again)."""
    return _IGNORED.fullmatch(gguf_name) is not None


def hugging_face_name(arch: Architecture, gguf_name: str) -> str:
    """Translate a tensor name. Raises UnsupportedModel when the architecture's table does not have it."""
    match = re.fullmatch(r"(?:blk\.(0|[1-9]\d{0,5})\.)?([a-z0-9_]+)\.(weight|bias)", gguf_name)
    if match:
        layer, part, kind = match.groups()
        if layer is None and part in _TOP:
            return f"{_TOP[part]}.{kind}"
        if layer is not None and part in arch.layer:
            return f"model.layers.{int(layer)}.{arch.layer[part]}.{kind}"
    message = f"tensor `{gguf_name}` is not part of the `{arch.model_type}` block that fastslm knows"
    raise UnsupportedModel(message, feature=gguf_name)
