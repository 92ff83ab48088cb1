"""GPT-NeoX and Pythia (Black et al. 2022): parallel residual, partly turned heads, one tensor for query, key, value."""

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
    reordered,
)
from fastslm.export.decoder.tensors import head_runs
from fastslm.export.hparams import Hparams

KEYS = {"partial_rotary_factor": "rotary_pct", "rope_theta": "rotary_emb_base"}
TURNED = 0.25


def read_shape(config: Hparams, tensors: Collection[str]) -> DecoderShape:
    """See ``Family``."""
    config = config.renamed(KEYS)
    sizes = read_sizes(config)
    tied = {"tie_word_embeddings": config.flag("tie_word_embeddings", default=False)}
    return DecoderShape(
        embedding=embedding("gpt_neox.embed_in", sizes),
        blocks=tuple(_block(config, sizes, f"gpt_neox.layers.{index}") for index in range(sizes.layers)),
        head=head(Hparams(tied), tensors, sizes, "embed_out"),
        context_length=sizes.context,
        final_norm=layer_norm("gpt_neox.final_layer_norm", sizes.hidden, config.number("layer_norm_eps", 1e-5)),
    )


def _block(config: Hparams, sizes: Sizes, prefix: str) -> Block:
    hidden, epsilon = sizes.hidden, config.number("layer_norm_eps", 1e-5)
    up = linear(f"{prefix}.mlp.dense_h_to_4h", sizes.inner, hidden, bias=True)
    down = linear(f"{prefix}.mlp.dense_4h_to_h", hidden, sizes.inner, bias=True)
    return Block(
        attention=_attention(config, hidden, f"{prefix}.attention"),
        feed_forward=FeedForward(up, down, read_activation(config, "hidden_act", "gelu")),
        before_attention=layer_norm(f"{prefix}.input_layernorm", hidden, epsilon),
        before_feed_forward=layer_norm(f"{prefix}.post_attention_layernorm", hidden, epsilon),
        parallel=config.flag("use_parallel_residual", default=True),
    )


def _attention(config: Hparams, hidden: int, prefix: str) -> Attention:
    """The fused tensor lies head by head: query, key and value of the first, then of the second."""
    shape, bias = read_attention(config), config.flag("attention_bias", default=True)
    shape = replace(shape, kv_heads=shape.heads)
    fused = linear(f"{prefix}.query_key_value", 3 * shape.query_rows, hidden, bias=bias)
    inputs = reordered(fused, head_runs(shape.heads, shape.head_dim, 3))
    output = linear(f"{prefix}.dense", hidden, shape.query_rows, bias=bias)
    return Attention(shape, (inputs,), output, partial_rope(config, shape.head_dim, default=TURNED))
