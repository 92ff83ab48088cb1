"""GGUF tensor names in Hugging Face's terms, one table per architecture.

What llama.cpp's converter does to tensors besides renaming them is marked here and undone by the reader: it permutes
the query and key rows of some (GGUF keeps the two halves of each rotary head interleaved, Hugging Face one after the
other), sorts fused heads, and adds one to Gemma's norms.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from fastslm.errors import UnsupportedModel
from fastslm.formats.checked_json import quoted

ROPE_FACTORS_NAME = "rope_freqs.weight"
"""Divisors of the rotary frequencies (llama3 scaling); part of the configuration, not a weight."""

LONG_FACTORS_NAMES = {"short_factor": "rope_factors_short.weight", "long_factor": "rope_factors_long.weight"}
"""The same for longrope, one set for short texts and one for long ones."""

_COMPUTED_AGAIN = "|".join(re.escape(name) for name in (ROPE_FACTORS_NAME, *LONG_FACTORS_NAMES.values()))
_IGNORED = re.compile(rf"{_COMPUTED_AGAIN}|blk\.\d+\.attn(?:_rot_embd|\.rotary_emb\.inv_freq)(?:\.weight)?")

_TOP = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}

_ATTENTION = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
}

_HEAD_NORMS = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}

_NORMS = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}

_GATED = {"ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}

_LLAMA_LAYER = {**_NORMS, **_ATTENTION, **_GATED}

_PHI3_LAYER = {
    **_NORMS,
    "attn_qkv": "self_attn.qkv_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_up": "mlp.gate_up_proj",
    "ffn_down": "mlp.down_proj",
}

_PHI_LAYER = {
    **_ATTENTION,
    "attn_norm": "input_layernorm",
    "attn_output": "self_attn.dense",
    "ffn_up": "mlp.fc1",
    "ffn_down": "mlp.fc2",
}

_NORMS_BEHIND = {"post_attention_norm": "post_attention_layernorm", "post_ffw_norm": "post_feedforward_layernorm"}

_GEMMA2_LAYER = {**_LLAMA_LAYER, **_NORMS_BEHIND, "ffn_norm": "pre_feedforward_layernorm"}

_OLMO2_LAYER = {**_ATTENTION, **_GATED, **_HEAD_NORMS, **_NORMS_BEHIND}

_GPT2_LAYER = {
    "attn_norm": "ln_1",
    "attn_qkv": "attn.c_attn",
    "attn_output": "attn.c_proj",
    "ffn_norm": "ln_2",
    "ffn_up": "mlp.c_fc",
    "ffn_down": "mlp.c_proj",
}

_GPT2_TOP = {
    "token_embd": "transformer.wte",
    "position_embd": "transformer.wpe",
    "output_norm": "transformer.ln_f",
    "output": "lm_head",
}

_NEOX_LAYER = {
    **_NORMS,
    "attn_qkv": "attention.query_key_value",
    "attn_output": "attention.dense",
    "ffn_up": "mlp.dense_h_to_4h",
    "ffn_down": "mlp.dense_4h_to_h",
}

_NEOX_TOP = {
    "token_embd": "gpt_neox.embed_in",
    "output_norm": "gpt_neox.final_layer_norm",
    "output": "embed_out",
}

_EXPERTS = {
    "ffn_gate_inp": "mlp.gate",
    "ffn_gate_exps": "mlp.experts.*.gate_proj",
    "ffn_up_exps": "mlp.experts.*.up_proj",
    "ffn_down_exps": "mlp.experts.*.down_proj",
}
"""The matrices of all experts lie in one tensor; ``*`` in a module's name stands for the expert."""

_MIXTRAL_LAYER = {
    **_NORMS,
    **_ATTENTION,
    "ffn_gate_inp": "block_sparse_moe.gate",
    "ffn_gate_exps": "block_sparse_moe.experts.*.w1",
    "ffn_up_exps": "block_sparse_moe.experts.*.w3",
    "ffn_down_exps": "block_sparse_moe.experts.*.w2",
}

_QWEN2_MOE_LAYER = {
    **_NORMS,
    **_ATTENTION,
    **_EXPERTS,
    "ffn_gate_inp_shexp": "mlp.shared_expert_gate",
    "ffn_gate_shexp": "mlp.shared_expert.gate_proj",
    "ffn_up_shexp": "mlp.shared_expert.up_proj",
    "ffn_down_shexp": "mlp.shared_expert.down_proj",
}

_GPT_OSS_LAYER = {
    **_ATTENTION,
    **_EXPERTS,
    "attn_norm": "input_layernorm",
    "post_attention_norm": "post_attention_layernorm",
    "attn_sinks": "self_attn.sinks",
    "ffn_gate_inp": "mlp.router",
}

_WITHOUT_KIND = frozenset({"self_attn.sinks"})
"""Modules that are one tensor, whose name ends with theirs."""

_LFM2_LAYER = {
    **_ATTENTION,
    "attn_output": "self_attn.out_proj",
    "attn_q_norm": "self_attn.q_layernorm",
    "attn_k_norm": "self_attn.k_layernorm",
    "attn_norm": "operator_norm",
    "ffn_norm": "ffn_norm",
    "ffn_gate": "feed_forward.w1",
    "ffn_up": "feed_forward.w3",
    "ffn_down": "feed_forward.w2",
    "shortconv.in_proj": "conv.in_proj",
    "shortconv.conv": "conv.conv",
    "shortconv.out_proj": "conv.out_proj",
}

_STARCODER2_LAYER = {**_NORMS, **_ATTENTION, "ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj"}


@dataclass(frozen=True)
class Architecture:
    """How one GGUF architecture is called and laid out in Hugging Face's terms.

    Attributes:
        model_type: ``model_type`` of the configuration.
        layer: name of a layer's part to its module name.
        top, layers: the same for the parts outside the layers, and where the layers are.
        epsilon: the configuration's name for what norms add, which also tells the kind of norm.
        interleaved_rope: whether rows of query and key are permuted.
        sorted_heads: whether the rows of the fused tensor are sorted by query, key and value.
        shifted_norms: whether one was added to norm weights.
        fixed: configuration values that the architecture implies and GGUF does not store.
    """

    model_type: str
    layer: dict[str, str]
    top: dict[str, str] = field(default_factory=lambda: _TOP)
    layers: str = "model.layers"
    epsilon: str = "rms_norm_eps"
    interleaved_rope: bool = False
    sorted_heads: bool = False
    shifted_norms: bool = False
    fixed: dict[str, object] = field(default_factory=dict)


_SILU: dict[str, object] = {"hidden_act": "silu"}
_GEMMA: dict[str, object] = {"hidden_activation": "gelu_pytorch_tanh"}

ARCHITECTURES = {
    "llama": Architecture("llama", _LLAMA_LAYER, interleaved_rope=True, fixed=_SILU),
    "qwen2": Architecture("qwen2", _LLAMA_LAYER, fixed=_SILU),
    "qwen3": Architecture("qwen3", {**_LLAMA_LAYER, **_HEAD_NORMS}, fixed=_SILU),
    "phi3": Architecture("phi3", _PHI3_LAYER, fixed=_SILU),
    "gemma": Architecture("gemma", _LLAMA_LAYER, shifted_norms=True, fixed=_GEMMA),
    "gemma2": Architecture("gemma2", _GEMMA2_LAYER, shifted_norms=True, fixed=_GEMMA),
    "gemma3": Architecture("gemma3_text", {**_GEMMA2_LAYER, **_HEAD_NORMS}, shifted_norms=True, fixed=_GEMMA),
    "gpt2": Architecture(
        "gpt2",
        _GPT2_LAYER,
        _GPT2_TOP,
        "transformer.h",
        "layer_norm_epsilon",
        fixed={"activation_function": "gelu_new", "conv1d_weights": False},
    ),
    "gptneox": Architecture(
        "gpt_neox",
        _NEOX_LAYER,
        _NEOX_TOP,
        "gpt_neox.layers",
        "layer_norm_eps",
        sorted_heads=True,
        fixed={"hidden_act": "gelu"},
    ),
    "phi2": Architecture(
        "phi",
        _PHI_LAYER,
        {**_TOP, "output_norm": "model.final_layernorm"},
        epsilon="layer_norm_eps",
        fixed={"hidden_act": "gelu_new"},
    ),
    "stablelm": Architecture("stablelm", _LLAMA_LAYER, epsilon="layer_norm_eps", fixed=_SILU),
    "starcoder2": Architecture(
        "starcoder2", _STARCODER2_LAYER, epsilon="norm_epsilon", fixed={"hidden_act": "gelu_pytorch_tanh"}
    ),
    "olmo": Architecture(
        "olmo", {**_ATTENTION, **_GATED}, epsilon="layer_norm_eps", interleaved_rope=True, fixed=_SILU
    ),
    "olmo2": Architecture("olmo2", _OLMO2_LAYER, fixed=_SILU),
    "lfm2": Architecture(
        "lfm2",
        _LFM2_LAYER,
        {**_TOP, "token_embd_norm": "model.embedding_norm"},
        epsilon="norm_eps",
        fixed={"block_auto_adjust_ff_dim": False},
    ),
    "granite": Architecture("granite", _LLAMA_LAYER, interleaved_rope=True, fixed=_SILU),
    "smollm3": Architecture("smollm3", _LLAMA_LAYER, interleaved_rope=True, fixed=_SILU),
}


MIXTURES = {
    "llama": Architecture("mixtral", _MIXTRAL_LAYER, interleaved_rope=True, fixed=_SILU),
    "qwen2moe": Architecture("qwen2_moe", _QWEN2_MOE_LAYER, fixed={**_SILU, "norm_topk_prob": False}),
    "qwen3moe": Architecture(
        "qwen3_moe", {**_NORMS, **_ATTENTION, **_HEAD_NORMS, **_EXPERTS}, fixed={**_SILU, "norm_topk_prob": True}
    ),
    "gpt-oss": Architecture("gpt_oss", _GPT_OSS_LAYER, fixed=_SILU),
}
"""Those with experts, some of which have the name of one without."""


def architecture(name: str, *, has_experts: bool = False) -> Architecture:
    """Look up an architecture. Raises UnsupportedModel naming it and those that are known."""
    table = {**ARCHITECTURES, **MIXTURES} if has_experts else {**MIXTURES, **ARCHITECTURES}
    try:
        return table[name]
    except KeyError:
        known = ", ".join(f"`{known}`" for known in {**ARCHITECTURES, **MIXTURES})
        raise UnsupportedModel(
            f"GGUF architecture {quoted(name)} is not supported, expected one of {known}", feature=name
        ) from None


def is_ignored(gguf_name: str) -> bool:
    """Whether a tensor carries no weights of the model (tables that are computed again)."""
    return _IGNORED.fullmatch(gguf_name) is not None


def hugging_face_name(arch: Architecture, gguf_name: str) -> str:
    """Translate a tensor name; ``*`` in the result stands for each expert.

    Raises:
        UnsupportedModel: the architecture's table does not have it.
    """
    match = re.fullmatch(r"(?:blk\.(0|[1-9]\d{0,5})\.)?([a-z0-9_]+(?:\.[a-z0-9_]+)?)\.(weight|bias)", gguf_name)
    if match:
        layer, part, kind = match.groups()
        if layer is None and part in arch.top:
            return f"{arch.top[part]}.{kind}"
        if layer is not None and part in arch.layer:
            module = arch.layer[part]
            return f"{arch.layers}.{int(layer)}.{module}" + ("" if module in _WITHOUT_KIND else f".{kind}")
    message = f"tensor `{gguf_name}` is not part of the `{arch.model_type}` block that fastslm knows"
    raise UnsupportedModel(message, feature=gguf_name)
