"""StarCoder2 (Lozhkov et al. 2024): grouped-query attention with a window, LayerNorm, a plain GELU feed-forward."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from fastslm.export.decoder.shape import Block, DecoderShape, FeedForward
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

MODULES = ("q_proj", "k_proj", "v_proj", "o_proj")


def read_shape(config: Hparams, tensors: Collection[str]) -> DecoderShape:
    """See ``Family``."""
    sizes = read_sizes(config)
    return DecoderShape(
        embedding=embedding("model.embed_tokens", sizes),
        blocks=tuple(_block(config, sizes, f"model.layers.{index}") for index in range(sizes.layers)),
        head=head(config, tensors, sizes),
        context_length=sizes.context,
        final_norm=layer_norm("model.norm", sizes.hidden, _epsilon(config)),
    )


def _block(config: Hparams, sizes: Sizes, prefix: str) -> Block:
    bias = config.flag("use_bias", default=True)
    window = None if config.get("sliding_window") is None else config.count("sliding_window")
    shape = replace(read_attention(config), window=window)
    attention = separate_attention(f"{prefix}.self_attn", sizes.hidden, shape, MODULES if bias else ())
    up = linear(f"{prefix}.mlp.c_fc", sizes.inner, sizes.hidden, bias=bias)
    down = linear(f"{prefix}.mlp.c_proj", sizes.hidden, sizes.inner, bias=bias)
    return Block(
        attention=replace(attention, rope=partial_rope(config, shape.head_dim)),
        feed_forward=FeedForward(up, down, read_activation(config, "hidden_act", "gelu_pytorch_tanh")),
        before_attention=layer_norm(f"{prefix}.input_layernorm", sizes.hidden, _epsilon(config)),
        before_feed_forward=layer_norm(f"{prefix}.post_attention_layernorm", sizes.hidden, _epsilon(config)),
    )


def _epsilon(config: Hparams) -> float:
    return config.number("norm_epsilon", 1e-5)
