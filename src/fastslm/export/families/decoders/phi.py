"""Phi-1, 1.5 and 2 (Li et al. 2023): attention and feed-forward side by side behind one norm, biases everywhere."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from fastslm.export.decoder.shape import Attention, Block, DecoderShape, FeedForward
from fastslm.export.decoder.standard import (
    Sizes,
    embedding,
    head,
    layer_norm,
    linear,
    partial_rope,
    read_activation,
    read_attention,
    read_sizes,
    separate_attention,
)
from fastslm.export.hparams import Hparams

MODULES = ("q_proj", "k_proj", "v_proj", "dense")
TURNED = 0.5


def read_shape(config: Hparams, tensors: Collection[str]) -> DecoderShape:
    """See ``Family``."""
    sizes = read_sizes(config)
    return DecoderShape(
        embedding=embedding("model.embed_tokens", sizes),
        blocks=tuple(_block(config, sizes, f"model.layers.{index}") for index in range(sizes.layers)),
        head=head(config, tensors, sizes, bias=True),
        context_length=sizes.context,
        final_norm=layer_norm("model.final_layernorm", sizes.hidden, _epsilon(config)),
    )


def _block(config: Hparams, sizes: Sizes, prefix: str) -> Block:
    up = linear(f"{prefix}.mlp.fc1", sizes.inner, sizes.hidden, bias=True)
    down = linear(f"{prefix}.mlp.fc2", sizes.hidden, sizes.inner, bias=True)
    return Block(
        attention=_attention(config, sizes.hidden, f"{prefix}.self_attn"),
        feed_forward=FeedForward(up, down, read_activation(config, "hidden_act", "gelu_new")),
        before_attention=layer_norm(f"{prefix}.input_layernorm", sizes.hidden, _epsilon(config)),
        parallel=True,
    )


def _attention(config: Hparams, hidden: int, prefix: str) -> Attention:
    shape = read_attention(config)
    attention = separate_attention(prefix, hidden, shape, MODULES, output="dense")
    attention = replace(attention, rope=partial_rope(config, shape.head_dim, default=TURNED))
    if not config.flag("qk_layernorm"):
        return attention
    query, key = (layer_norm(f"{prefix}.{part}_layernorm", shape.head_dim, _epsilon(config)) for part in "qk")
    return replace(attention, query_norm=query, key_norm=key)


def _epsilon(config: Hparams) -> float:
    return config.number("layer_norm_eps", 1e-5)
