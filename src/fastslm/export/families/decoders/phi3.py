"""Phi-3, 3.5 and 4-mini: the Llama block with fused tensors, partly turned heads and longrope (Abdin et al. 2024)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from fastslm.export.decoder.shape import Attention, Block, DecoderShape, FeedForward
from fastslm.export.decoder.standard import (
    Sizes,
    embedding,
    head,
    linear,
    partial_rope,
    read_activation,
    read_attention,
    read_sizes,
    reordered,
    rms_norm,
)
from fastslm.export.hparams import Hparams


def read_shape(config: Hparams, tensors: Collection[str]) -> DecoderShape:
    """See ``Family``."""
    config.demand("attention_bias", False, default=False)
    sizes, epsilon = read_sizes(config), config.number("rms_norm_eps", 1e-5)
    blocks = tuple(_block(config, sizes, epsilon, f"model.layers.{index}") for index in range(sizes.layers))
    shape = DecoderShape(
        embedding=embedding("model.embed_tokens", sizes),
        blocks=blocks,
        head=head(config, tensors, sizes),
        context_length=sizes.context,
        final_norm=rms_norm("model.norm", sizes.hidden, epsilon),
    )
    rope = shape.attentions[0].rope
    return replace(shape, usual_context=rope.short_context if rope else 0)


def _block(config: Hparams, sizes: Sizes, epsilon: float, prefix: str) -> Block:
    both = linear(f"{prefix}.mlp.gate_up_proj", 2 * sizes.inner, sizes.hidden)
    gate, up = (reordered(both, ((start, start + sizes.inner),)) for start in (0, sizes.inner))
    down = linear(f"{prefix}.mlp.down_proj", sizes.hidden, sizes.inner)
    return Block(
        attention=_attention(config, sizes, f"{prefix}.self_attn"),
        feed_forward=FeedForward(up, down, read_activation(config, "hidden_act", "silu"), gate),
        before_attention=rms_norm(f"{prefix}.input_layernorm", sizes.hidden, epsilon),
        before_feed_forward=rms_norm(f"{prefix}.post_attention_layernorm", sizes.hidden, epsilon),
    )


def _attention(config: Hparams, sizes: Sizes, prefix: str) -> Attention:
    shape = read_attention(config)
    fused = linear(f"{prefix}.qkv_proj", shape.query_rows + 2 * shape.key_rows, sizes.hidden)
    output = linear(f"{prefix}.o_proj", sizes.hidden, shape.query_rows)
    attention = Attention(shape, (fused,), output, partial_rope(config, shape.head_dim))
    return attention.windowed(None if config.get("sliding_window") is None else config.count("sliding_window"))
