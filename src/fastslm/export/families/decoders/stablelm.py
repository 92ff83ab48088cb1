"""StableLM 2 and 3B (Bellagente et al. 2024): Llama's block with LayerNorm, partly turned heads and some biases."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from fastslm.export.decoder.shape import Attention, Block, DecoderShape
from fastslm.export.decoder.standard import (
    Sizes,
    embedding,
    gated,
    head,
    layer_norm,
    partial_rope,
    read_activation,
    read_attention,
    read_sizes,
    separate_attention,
)
from fastslm.export.hparams import Hparams

QKV = ("q_proj", "k_proj", "v_proj")
TURNED = 0.25


def read_shape(config: Hparams, tensors: Collection[str]) -> DecoderShape:
    """See ``Family``."""
    config.demand("qk_layernorm", False, default=False)
    sizes = read_sizes(config)
    return DecoderShape(
        embedding=embedding("model.embed_tokens", sizes),
        blocks=tuple(_block(config, sizes, f"model.layers.{index}") for index in range(sizes.layers)),
        head=head(config, tensors, sizes),
        context_length=sizes.context,
        final_norm=layer_norm("model.norm", sizes.hidden, _epsilon(config)),
    )


def _block(config: Hparams, sizes: Sizes, prefix: str) -> Block:
    parallel = config.flag("use_parallel_residual")
    behind = layer_norm(f"{prefix}.post_attention_layernorm", sizes.hidden, _epsilon(config))
    return Block(
        attention=_attention(config, sizes.hidden, f"{prefix}.self_attn"),
        feed_forward=gated(f"{prefix}.mlp", sizes, read_activation(config, "hidden_act", "silu")),
        before_attention=layer_norm(f"{prefix}.input_layernorm", sizes.hidden, _epsilon(config)),
        before_feed_forward=None if parallel else behind,
        parallel=parallel,
    )


def _attention(config: Hparams, hidden: int, prefix: str) -> Attention:
    shape = read_attention(config)
    attention = separate_attention(prefix, hidden, shape, QKV if config.flag("use_qkv_bias") else ())
    return replace(attention, rope=partial_rope(config, shape.head_dim, default=TURNED))


def _epsilon(config: Hparams) -> float:
    return config.number("layer_norm_eps", 1e-5)
