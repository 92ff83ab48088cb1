"""The Llama block: pre-norm, rotary grouped-query attention, gated SiLU feed-forward (Touvron et al. 2023).

Covers Llama 2 and 3, SmolLM 1 and 2, TinyLlama (``llama``), Mistral with its sliding window (``mistral``) and Qwen2 and
2.5 with biases on query, key and value (``qwen2``). Tensor names are those of Hugging Face.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np

from fastslm.export.families.shape import DecoderShape
from fastslm.export.hparams import Hparams, unsupported
from fastslm.export.layers import AttentionShape, Layers
from fastslm.export.matrices import WantedTensor
from fastslm.export.rope import inverse_frequencies

EMBEDDING = "model.embed_tokens.weight"
FINAL_NORM = "model.norm.weight"
HEAD = "lm_head.weight"

QKV = ("q_proj", "k_proj", "v_proj")


def read_shape(config: Hparams, tensors: Collection[str]) -> DecoderShape:
    """See ``Family``."""
    config.demand("hidden_act", "silu", default="silu")
    attention = _attention(config)
    return DecoderShape(
        hidden_size=config.count("hidden_size"),
        intermediate_size=config.count("intermediate_size"),
        vocab_size=config.count("vocab_size"),
        num_layers=config.count("num_hidden_layers"),
        attention=attention,
        norm_epsilon=config.number("rms_norm_eps", 1e-6),
        context_length=config.count("max_position_embeddings"),
        frequencies=tuple(inverse_frequencies(config, attention.head_dim).tolist()),
        tied=config.flag("tie_word_embeddings", default=HEAD not in tensors),
        biases=_biases(config),
    )


def wanted_tensors(shape: DecoderShape) -> Iterator[WantedTensor]:
    """See ``Family``."""
    yield WantedTensor(EMBEDDING, (shape.vocab_size, shape.hidden_size))
    for index in range(shape.num_layers):
        yield from _layer_tensors(shape, f"model.layers.{index}")
    yield WantedTensor(FINAL_NORM, (shape.hidden_size,))
    if not shape.tied:
        yield WantedTensor(HEAD, (shape.vocab_size, shape.hidden_size))


def build(shape: DecoderShape, layers: Layers) -> None:
    """See ``Family``. In the last layer only the rows whose logits are wanted go past the attention."""
    ids = layers.inputs()
    layers.rotary_tables(np.array(shape.frequencies), shape.context_length)
    embedding = layers.matrices.store(EMBEDDING, is_embedding=True)
    total = layers.embed("embedding", embedding, ids)
    x = layers.norm("model.layers.0.input_layernorm.weight", total, shape.norm_epsilon)
    for index in range(shape.num_layers):
        x = _attention_block(shape, layers, index, x)
        if index == shape.num_layers - 1:
            x, total = layers.only_logit_rows(x), layers.only_logit_rows(total)
        x, total = _rest_of_layer(shape, layers, index, x, total)
    head = embedding if shape.tied else layers.matrices.store(HEAD, is_embedding=True)
    layers.head(head, x)


def _attention_block(shape: DecoderShape, layers: Layers, index: int, x: str) -> str:
    """Attention before its output projection: packed query, key and value if they are encoded alike."""
    prefix = f"model.layers.{index}.self_attn"
    encodings = {layers.matrices.encoding(f"{prefix}.{each}.weight") for each in QKV}
    groups = [QKV] if len(encodings) == 1 else [(each,) for each in QKV]
    qkv = [_projection(shape, layers, prefix, group, x) for group in groups]
    return layers.attention(index, qkv, shape.attention)


def _rest_of_layer(shape: DecoderShape, layers: Layers, index: int, x: str, total: str) -> tuple[str, str]:
    prefix, epsilon = f"model.layers.{index}", shape.norm_epsilon
    x = _projection(shape, layers, f"{prefix}.self_attn", ("o_proj",), x)
    x, total = layers.add_and_norm(f"{prefix}.post_attention_layernorm.weight", x, total, epsilon)
    gate, up = (_projection(shape, layers, f"{prefix}.mlp", (each,), x) for each in ("gate_proj", "up_proj"))
    x = _projection(shape, layers, f"{prefix}.mlp", ("down_proj",), layers.gated_silu(f"{prefix}.mlp", gate, up))
    is_last = index == shape.num_layers - 1
    norm = FINAL_NORM if is_last else f"model.layers.{index + 1}.input_layernorm.weight"
    return layers.add_and_norm(norm, x, total, epsilon)


def _projection(shape: DecoderShape, layers: Layers, prefix: str, parts: tuple[str, ...], x: str) -> str:
    """One linear layer made of one or more projections of the same input."""
    stored = layers.matrices.store(*(f"{prefix}.{part}.weight" for part in parts))
    has_bias = shape.biases.issuperset(parts)
    bias = layers.vector(*(f"{prefix}.{part}.bias" for part in parts)) if has_bias else ""
    return layers.linear(f"{prefix}.{'+'.join(parts)}", stored, x, bias)


def _layer_tensors(shape: DecoderShape, prefix: str) -> Iterator[WantedTensor]:
    hidden, inner, heads = shape.hidden_size, shape.intermediate_size, shape.attention
    query, key = heads.heads * heads.head_dim, heads.kv_heads * heads.head_dim
    projections = {
        "self_attn.q_proj": (query, hidden),
        "self_attn.k_proj": (key, hidden),
        "self_attn.v_proj": (key, hidden),
        "self_attn.o_proj": (hidden, query),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    for norm in ("input_layernorm", "post_attention_layernorm"):
        yield WantedTensor(f"{prefix}.{norm}.weight", (hidden,))
    for name, size in projections.items():
        yield WantedTensor(f"{prefix}.{name}.weight", size)
        if name.rpartition(".")[2] in shape.biases:
            yield WantedTensor(f"{prefix}.{name}.bias", size[:1])


def _attention(config: Hparams) -> AttentionShape:
    heads = config.count("num_attention_heads")
    kv_heads = config.count("num_key_value_heads", heads)
    head_dim = config.count("head_dim", max(1, config.count("hidden_size") // heads))
    if heads % kv_heads:
        raise unsupported("num_key_value_heads", kv_heads, f"a divisor of {heads} attention heads")
    if head_dim % 8:
        raise unsupported("head_dim", head_dim, "a multiple of 8")
    return AttentionShape(heads, kv_heads, head_dim, _window(config))


def _window(config: Hparams) -> int | None:
    """Only Mistral's configuration means what it says: Qwen2 has the key and a switch, Llama ignores it."""
    kinds: Any = config.get("layer_types", [])
    other = [kind for kind in kinds if kind != "full_attention"] if isinstance(kinds, list) else [kinds]
    if other:
        raise unsupported("layer_types", other[0], "full_attention")
    config.demand("use_sliding_window", False, default=False)
    if config.get("model_type") != "mistral" or config.get("sliding_window") is None:
        return None
    return config.count("sliding_window")


def _biases(config: Hparams) -> frozenset[str]:
    attention: tuple[str, ...] = (*QKV, "o_proj") if config.flag("attention_bias") else ()
    if config.get("model_type") == "qwen2":
        attention = QKV
    return frozenset(attention + (("gate_proj", "up_proj", "down_proj") if config.flag("mlp_bias") else ()))
