"""The Llama block: pre-norm, rotary grouped-query attention, gated SiLU feed-forward (Touvron et al. 2023).

Covers Llama 2 and 3, SmolLM 1 and 2, TinyLlama; other families are this one with a change. Tensor names are those of
Hugging Face.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from fastslm.export.decoder.shape import Block, DecoderShape
from fastslm.export.decoder.standard import (
    FULL,
    SLIDING,
    Sizes,
    embedding,
    gated,
    head,
    layer_windows,
    partial_rope,
    read_activation,
    read_attention,
    read_depth,
    read_sizes,
    rms_norm,
    separate_attention,
)
from fastslm.export.hparams import Hparams, unsupported

QKV = ("q_proj", "k_proj", "v_proj")


def read_shape(config: Hparams, tensors: Collection[str]) -> DecoderShape:
    """See ``Family``. Sliding windows are left to the families that have them."""
    for window in layer_windows(config, read_depth(config)):
        if window is not None:
            raise unsupported("layer_types", SLIDING, FULL)
    return read_block_decoder(config, tensors, ("o_proj", *QKV) if config.flag("attention_bias") else ())


def read_block_decoder(config: Hparams, tensors: Collection[str], biased: Collection[str]) -> DecoderShape:
    """A decoder of Llama's blocks; ``biased`` are the attention's modules with a bias. Raises as ``read_shape``."""
    sizes, epsilon = read_sizes(config), config.number("rms_norm_eps", 1e-6)
    return DecoderShape(
        embedding=embedding("model.embed_tokens", sizes),
        blocks=tuple(_block(config, sizes, epsilon, biased, index) for index in range(sizes.layers)),
        head=head(config, tensors, sizes),
        context_length=sizes.context,
        final_norm=rms_norm("model.norm", sizes.hidden, epsilon),
    )


def _block(config: Hparams, sizes: Sizes, epsilon: float, biased: Collection[str], index: int) -> Block:
    prefix, shape = f"model.layers.{index}", read_attention(config)
    activation = read_activation(config, "hidden_act", "silu")
    attention = separate_attention(f"{prefix}.self_attn", sizes.hidden, shape, biased)
    return Block(
        attention=replace(attention, rope=partial_rope(config, shape.head_dim)),
        feed_forward=gated(f"{prefix}.mlp", sizes, activation, bias=config.flag("mlp_bias")),
        before_attention=rms_norm(f"{prefix}.input_layernorm", sizes.hidden, epsilon),
        before_feed_forward=rms_norm(f"{prefix}.post_attention_layernorm", sizes.hidden, epsilon),
    )
