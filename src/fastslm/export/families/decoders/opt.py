"""OPT (Zhang et al. 2022): learned positions with two rows in front, LayerNorm, ReLU, biases everywhere."""

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
    matrix,
    prefix_of,
    read_activation,
    read_attention,
    read_sizes,
    separate_attention,
)
from fastslm.export.hparams import Hparams

MODULES = ("q_proj", "k_proj", "v_proj", "out_proj")
FIRST_POSITION = 2
EPSILON = 1e-5


def read_shape(config: Hparams, tensors: Collection[str]) -> DecoderShape:
    """See ``Family``. The 350M model has its norms elsewhere and is not one of these."""
    config = config.renamed({"intermediate_size": "ffn_dim"})
    sizes = read_sizes(config)
    for key in ("do_layer_norm_before", "layer_norm_elementwise_affine"):
        config.demand(key, True, default=True)
    config.demand("_remove_final_layer_norm", False, default=False)
    config.demand("word_embed_proj_dim", sizes.hidden, default=sizes.hidden)
    prefix = prefix_of(tensors, "model.", "decoder.embed_tokens.weight") + "decoder"
    positions = matrix(f"{prefix}.embed_positions", sizes.context + FIRST_POSITION, sizes.hidden)
    learned = replace(embedding(f"{prefix}.embed_tokens", sizes), positions=positions, first_position=FIRST_POSITION)
    return DecoderShape(
        embedding=learned,
        blocks=tuple(_block(config, sizes, f"{prefix}.layers.{index}") for index in range(sizes.layers)),
        head=head(config, tensors, sizes),
        context_length=sizes.context,
        final_norm=layer_norm(f"{prefix}.final_layer_norm", sizes.hidden, EPSILON),
    )


def _block(config: Hparams, sizes: Sizes, prefix: str) -> Block:
    shape, bias = read_attention(config), config.flag("enable_bias", default=True)
    modules = MODULES if bias else ()
    up, down = (
        linear(f"{prefix}.{name}", rows, columns, bias=bias)
        for name, rows, columns in (("fc1", sizes.inner, sizes.hidden), ("fc2", sizes.hidden, sizes.inner))
    )
    return Block(
        attention=separate_attention(f"{prefix}.self_attn", sizes.hidden, shape, modules, output="out_proj"),
        feed_forward=FeedForward(up, down, read_activation(config, "activation_function", "relu")),
        before_attention=layer_norm(f"{prefix}.self_attn_layer_norm", sizes.hidden, EPSILON),
        before_feed_forward=layer_norm(f"{prefix}.final_layer_norm", sizes.hidden, EPSILON),
    )
