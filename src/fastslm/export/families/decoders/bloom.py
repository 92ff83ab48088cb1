"""BLOOM (Le Scao et al. 2022): linear biases instead of positions, a norm behind the embedding."""

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
    prefix_of,
    read_attention,
    read_sizes,
    reordered,
)
from fastslm.export.decoder.tensors import head_runs
from fastslm.export.hparams import Hparams

KEYS = {
    "hidden_size": "n_embed",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "max_position_embeddings": "seq_length",
}
CONTEXT = 2048


def read_shape(config: Hparams, tensors: Collection[str]) -> DecoderShape:
    """See ``Family``."""
    config.demand("apply_residual_connection_post_layernorm", False, default=False)
    config = Hparams({"seq_length": CONTEXT, **config.values}).renamed(KEYS)
    sizes = read_sizes(config, inner=4 * config.count("hidden_size"))
    prefix, epsilon = prefix_of(tensors, "transformer.", "word_embeddings.weight"), _epsilon(config)
    norm = layer_norm(f"{prefix}word_embeddings_layernorm", sizes.hidden, epsilon)
    return DecoderShape(
        embedding=replace(embedding(f"{prefix}word_embeddings", sizes), norm=norm),
        blocks=tuple(_block(config, sizes, f"{prefix}h.{index}") for index in range(sizes.layers)),
        head=head(config, tensors, sizes),
        context_length=sizes.context,
        final_norm=layer_norm(f"{prefix}ln_f", sizes.hidden, epsilon),
    )


def _block(config: Hparams, sizes: Sizes, prefix: str) -> Block:
    hidden, shape = sizes.hidden, replace(read_attention(config), alibi_scale=1.0)
    fused = linear(f"{prefix}.self_attention.query_key_value", 3 * hidden, hidden, bias=True)
    inputs = reordered(fused, head_runs(shape.heads, shape.head_dim, 3))
    output = linear(f"{prefix}.self_attention.dense", hidden, hidden, bias=True)
    up = linear(f"{prefix}.mlp.dense_h_to_4h", sizes.inner, hidden, bias=True)
    down = linear(f"{prefix}.mlp.dense_4h_to_h", hidden, sizes.inner, bias=True)
    return Block(
        attention=Attention(shape, (inputs,), output),
        feed_forward=FeedForward(up, down, "gelu_tanh"),
        before_attention=layer_norm(f"{prefix}.input_layernorm", hidden, _epsilon(config)),
        before_feed_forward=layer_norm(f"{prefix}.post_attention_layernorm", hidden, _epsilon(config)),
    )


def _epsilon(config: Hparams) -> float:
    return config.number("layer_norm_epsilon", 1e-5)
