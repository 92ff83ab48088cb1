"""LFM2 (Liquid AI 2025): gated short convolutions, and attention with norms of query and key in some layers."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from fastslm.export.decoder.shape import Attention, Block, DecoderShape, ShortConv
from fastslm.export.decoder.standard import (
    FULL,
    ExpertNames,
    Sizes,
    embedding,
    gated,
    head,
    linear,
    partial_rope,
    read_attention,
    read_sizes,
    rms_norm,
    separate_attention,
)
from fastslm.export.decoder.tensors import Tensor
from fastslm.export.hparams import Hparams, unsupported

CONV = "conv"
MAX_TAPS = 64
NAMES = ExpertNames("w1", "w3", "w2")
UNSAID = {"norm_eps": 1e-5, "rope_theta": 1e6, "conv_L_cache": 3}
"""What holds where a configuration does not say."""


def read_shape(config: Hparams, tensors: Collection[str]) -> DecoderShape:
    """See ``Family``."""
    config = Hparams({**UNSAID, **config.values})
    config = config.renamed({"tie_word_embeddings": "tie_embedding", "intermediate_size": "block_ff_dim"})
    sizes, epsilon = read_sizes(config), config.number("norm_eps")
    sizes = replace(sizes, inner=_inner_width(config, sizes.inner))
    blocks = (_block(config, sizes, index, kind) for index, kind in enumerate(_layer_kinds(config, sizes.layers)))
    return DecoderShape(
        embedding=embedding("model.embed_tokens", sizes),
        blocks=tuple(blocks),
        head=head(config, tensors, sizes),
        context_length=sizes.context,
        final_norm=rms_norm("model.embedding_norm", sizes.hidden, epsilon),
    )


def _inner_width(config: Hparams, width: int) -> int:
    """The configuration's width, or the next multiple of something from two thirds of it on."""
    if not config.flag("block_auto_adjust_ff_dim", default=True):
        return width
    width, factor = int(2 * width / 3), config.number("block_ffn_dim_multiplier", 1.0)
    step = config.count("block_multiple_of", 256)
    return -(-int(factor * width) // step) * step


def _layer_kinds(config: Hparams, layers: int) -> list[str]:
    """Convolution or attention, by layer; at least one of them is attention."""
    attending = config.get("full_attn_idxs", list(range(layers)))
    if not isinstance(attending, list):
        raise unsupported("full_attn_idxs", attending, "a list of layers")
    kinds = config.get("layer_types", [FULL if index in attending else CONV for index in range(layers)])
    if not isinstance(kinds, list) or len(kinds) != layers or FULL not in kinds:
        raise unsupported("layer_types", kinds, f"a list of {layers} kinds, {FULL} among them")
    for kind in kinds:
        if kind not in (FULL, CONV):
            raise unsupported("layer_types", kind, FULL, CONV)
    return kinds


def _block(config: Hparams, sizes: Sizes, index: int, kind: str) -> Block:
    prefix, epsilon = f"model.layers.{index}", config.number("norm_eps")
    return Block(
        attention=_attention(config, sizes, prefix) if kind == FULL else _convolution(config, sizes, prefix),
        feed_forward=gated(f"{prefix}.feed_forward", sizes, "silu", names=NAMES),
        before_attention=rms_norm(f"{prefix}.operator_norm", sizes.hidden, epsilon),
        before_feed_forward=rms_norm(f"{prefix}.ffn_norm", sizes.hidden, epsilon),
    )


def _attention(config: Hparams, sizes: Sizes, prefix: str) -> Attention:
    shape, module, epsilon = read_attention(config), f"{prefix}.self_attn", config.number("norm_eps")
    query, key = (rms_norm(f"{module}.{part}_layernorm", shape.head_dim, epsilon) for part in "qk")
    attention = separate_attention(module, sizes.hidden, shape, output="out_proj")
    return replace(attention, query_norm=query, key_norm=key, rope=partial_rope(config, shape.head_dim))


def _convolution(config: Hparams, sizes: Sizes, prefix: str) -> ShortConv:
    module, width, biased = f"{prefix}.conv", sizes.hidden, config.flag("conv_bias")
    taps, head_dim = config.count("conv_L_cache"), read_attention(config).head_dim
    if taps > MAX_TAPS:
        raise unsupported("conv_L_cache", taps, f"at most {MAX_TAPS}")
    if width % head_dim:
        raise unsupported("head_dim", head_dim, f"a divisor of the width {width}")
    return ShortConv(
        name=module,
        gates=linear(f"{module}.in_proj", 3 * width, width, bias=biased),
        taps=Tensor(f"{module}.conv.weight", (width, 1, taps)),
        output=linear(f"{module}.out_proj", width, width, bias=biased),
        head_dim=head_dim,
        bias=Tensor(f"{module}.conv.bias", (width,)) if biased else None,
    )
