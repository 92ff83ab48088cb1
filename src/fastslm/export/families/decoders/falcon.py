"""Falcon (Almazrouei et al. 2023): one key and value for all heads, or groups of them; rotation or linear biases."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from fastslm.export.decoder.shape import Attention, AttentionShape, Block, DecoderShape, FeedForward, Norm
from fastslm.export.decoder.standard import (
    Sizes,
    embedding,
    head,
    layer_norm,
    linear,
    prefix_of,
    read_activation,
    read_attention,
    read_sizes,
    reordered,
)
from fastslm.export.decoder.tensors import Run
from fastslm.export.hparams import Hparams
from fastslm.export.rope import read_rope

CONTEXT = 2048
KEYS = {
    "intermediate_size": "ffn_hidden_size",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "num_key_value_heads": "num_kv_heads",
}


def read_shape(config: Hparams, tensors: Collection[str]) -> DecoderShape:
    """See ``Family``."""
    config = Hparams({"max_position_embeddings": CONTEXT, **config.values}).renamed(KEYS)
    sizes = read_sizes(config, inner=4 * config.count("hidden_size"))
    prefix = prefix_of(tensors, "transformer.", "word_embeddings.weight")
    return DecoderShape(
        embedding=embedding(f"{prefix}word_embeddings", sizes),
        blocks=tuple(_block(config, sizes, f"{prefix}h.{index}") for index in range(sizes.layers)),
        head=head(config, tensors, sizes),
        context_length=sizes.context,
        final_norm=_norm(config, f"{prefix}ln_f"),
    )


def _block(config: Hparams, sizes: Sizes, prefix: str) -> Block:
    bias = config.flag("bias")
    up = linear(f"{prefix}.mlp.dense_h_to_4h", sizes.inner, sizes.hidden, bias=bias)
    down = linear(f"{prefix}.mlp.dense_4h_to_h", sizes.hidden, sizes.inner, bias=bias)
    before, beside = _norms(config, prefix)
    return Block(
        attention=_attention(config, sizes.hidden, f"{prefix}.self_attention"),
        feed_forward=FeedForward(up, down, read_activation(config, "activation", "gelu")),
        before_attention=before,
        before_feed_forward=beside,
        parallel=_is_grouped(config) or config.flag("parallel_attn", default=True),
    )


def _norms(config: Hparams, prefix: str) -> tuple[Norm, Norm | None]:
    """The norm before the attention, and that before the feed-forward part if it has one of its own."""
    if _is_grouped(config) and config.count("num_ln_in_parallel_attn", 2) == 2:
        return _norm(config, f"{prefix}.ln_attn"), _norm(config, f"{prefix}.ln_mlp")
    before = _norm(config, f"{prefix}.input_layernorm")
    if _is_grouped(config) or config.flag("parallel_attn", default=True):
        return before, None
    return before, _norm(config, f"{prefix}.post_attention_layernorm")


def _attention(config: Hparams, hidden: int, prefix: str) -> Attention:
    shape, bias = _heads(config), config.flag("bias")
    rows = shape.query_rows + 2 * shape.key_rows
    fused = reordered(linear(f"{prefix}.query_key_value", rows, hidden, bias=bias), _runs(shape))
    output = linear(f"{prefix}.dense", hidden, shape.query_rows, bias=bias)
    if config.flag("alibi"):
        return Attention(replace(shape, alibi_scale=shape.head_dim**-0.5), (fused,), output)
    return Attention(shape, (fused,), output, read_rope(config, shape.head_dim))


def _heads(config: Hparams) -> AttentionShape:
    if _is_grouped(config):
        return read_attention(config)
    shape = read_attention(Hparams({**config.values, "num_key_value_heads": None}))
    return replace(shape, kv_heads=1) if config.flag("multi_query", default=True) else shape


def _runs(shape: AttentionShape) -> tuple[Run, ...]:
    """The fused tensor lies group by group: the queries that share a key, that key, its value."""
    size, queries = shape.head_dim, shape.heads // shape.kv_heads * shape.head_dim
    starts = [group * (queries + 2 * size) for group in range(shape.kv_heads)]
    parts = ((0, queries), (queries, queries + size), (queries + size, queries + 2 * size))
    return tuple((start + first, start + last) for first, last in parts for start in starts)


def _is_grouped(config: Hparams) -> bool:
    return config.flag("new_decoder_architecture")


def _norm(config: Hparams, name: str) -> Norm:
    return layer_norm(name, config.count("hidden_size"), config.number("layer_norm_epsilon", 1e-5))
