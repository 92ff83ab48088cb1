"""Gemma 1, 2 and 3 (text): scaled embeddings, norm weights around zero, GELU gates (Gemma Team 2024, 2025).

Gemma 2 adds norms behind both parts of a layer, bounds on scores and logits, and a sliding window in every other layer;
Gemma 3 has norms of query and key instead of the bounds, and five sliding layers with a rotation of their own for each
one that sees everything.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace

from fastslm.export.decoder.shape import Attention, Block, DecoderShape, Norm
from fastslm.export.decoder.standard import (
    Sizes,
    embedding,
    gated,
    head,
    layer_windows,
    read_activation,
    read_attention,
    read_sizes,
    rms_norm,
    separate_attention,
)
from fastslm.export.hparams import Hparams
from fastslm.export.rope import Rope, read_rope

QKV = ("q_proj", "k_proj", "v_proj")
HEAD_DIM = 256
LOCAL_THETA = 10000.0
SLIDING_PATTERN = 6


def read_shape1(config: Hparams, tensors: Collection[str]) -> DecoderShape:
    """See ``Family``; Gemma 1."""
    config = _with_head_dim(config)
    shape = _decoder(config, tensors)
    rope = read_rope(config, shape.attention.head_dim)
    return shape.with_attention(lambda _, attention: replace(attention, rope=rope))


def read_shape2(config: Hparams, tensors: Collection[str]) -> DecoderShape:
    """See ``Family``; Gemma 2."""
    config = _with_head_dim(config)
    shape = _with_norms_behind(config, _decoder(config, tensors))
    rope = read_rope(config, shape.attention.head_dim)
    windows = layer_windows(config, shape.num_layers, [index % 2 == 0 for index in range(shape.num_layers)])
    scale, softcap = _scale(config), _bound(config, "attn_logit_softcapping", 50.0)

    def change(index: int, attention: Attention) -> Attention:
        heads = replace(attention.shape, window=windows[index], scale=scale, softcap=softcap)
        return replace(attention, rope=rope, shape=heads)

    bounded = replace(shape.head, softcap=_bound(config, "final_logit_softcapping", 30.0))
    return replace(shape.with_attention(change), head=bounded)


def read_shape3(config: Hparams, tensors: Collection[str]) -> DecoderShape:
    """See ``Family``; the text models of Gemma 3."""
    config = _with_head_dim(config)
    config.demand("use_bidirectional_attention", False, default=False)
    shape = _with_norms_behind(config, _decoder(config, tensors))
    pattern = config.count("sliding_window_pattern", config.count("_sliding_window_pattern", SLIDING_PATTERN))
    slides = [(index + 1) % pattern != 0 for index in range(shape.num_layers)]
    windows = layer_windows(config, shape.num_layers, slides)
    ropes = {True: _local_rope(config), False: _global_rope(config)}
    scale, softcap = _scale(config), _bound(config, "attn_logit_softcapping", None)

    def change(index: int, attention: Attention) -> Attention:
        prefix, width = f"model.layers.{index}.self_attn", attention.shape.head_dim
        query, key = (_norm(config, f"{prefix}.{part}_norm", width) for part in "qk")
        heads = replace(attention.shape, window=windows[index], scale=scale, softcap=softcap)
        rope = ropes[windows[index] is not None]
        return replace(attention, shape=heads, rope=rope, query_norm=query, key_norm=key)

    bounded = replace(shape.head, softcap=_bound(config, "final_logit_softcapping", None))
    return replace(shape.with_attention(change), head=bounded)


def _decoder(config: Hparams, tensors: Collection[str]) -> DecoderShape:
    sizes = read_sizes(config)
    return DecoderShape(
        embedding=embedding("model.embed_tokens", sizes, scale=math.sqrt(sizes.hidden)),
        blocks=tuple(_block(config, sizes, f"model.layers.{index}") for index in range(sizes.layers)),
        head=head(config, tensors, sizes),
        context_length=sizes.context,
        final_norm=_norm(config, "model.norm", sizes.hidden),
    )


def _block(config: Hparams, sizes: Sizes, prefix: str) -> Block:
    """Gemma 1's layer. Its first configurations wrote ``gelu`` and meant the other one."""
    activation = read_activation(config, "hidden_activation", "gelu_pytorch_tanh")
    biased = ("o_proj", *QKV) if config.flag("attention_bias") else ()
    return Block(
        attention=separate_attention(f"{prefix}.self_attn", sizes.hidden, read_attention(config), biased),
        feed_forward=gated(f"{prefix}.mlp", sizes, activation),
        before_attention=_norm(config, f"{prefix}.input_layernorm", sizes.hidden),
        before_feed_forward=_norm(config, f"{prefix}.post_attention_layernorm", sizes.hidden),
    )


def _with_norms_behind(config: Hparams, shape: DecoderShape) -> DecoderShape:
    """Four norms for each layer; the one that Gemma 1 has before the feed-forward part comes behind the attention."""
    blocks = []
    for index, block in enumerate(shape.blocks):
        before, behind = (
            _norm(config, f"model.layers.{index}.{place}_feedforward_layernorm", config.count("hidden_size"))
            for place in ("pre", "post")
        )
        attention = block.before_feed_forward
        blocks.append(replace(block, after_attention=attention, before_feed_forward=before, after_feed_forward=behind))
    return replace(shape, blocks=tuple(blocks))


def _norm(config: Hparams, name: str, width: int) -> Norm:
    return rms_norm(name, width, config.number("rms_norm_eps", 1e-6), added=1.0)


def _with_head_dim(config: Hparams) -> Hparams:
    """Gemma's heads are 256 wide where the configuration does not say."""
    return Hparams({**config.values, "head_dim": config.count("head_dim", HEAD_DIM)})


def _scale(config: Hparams) -> float:
    return 1 / math.sqrt(config.number("query_pre_attn_scalar", HEAD_DIM))


def _bound(config: Hparams, key: str, default: float | None) -> float | None:
    """A bound that null switches off."""
    if key not in config.values:
        return default
    return None if config.get(key) is None else config.number(key)


def _local_rope(config: Hparams) -> Rope:
    """Sliding layers turn faster and are not scaled."""
    newer = config.section("rope_parameters").get("sliding_attention")
    if newer is not None:
        return read_rope(Hparams({"rope_parameters": newer}), config.count("head_dim"))
    return read_rope(
        Hparams({"rope_theta": config.number("rope_local_base_freq", LOCAL_THETA)}), config.count("head_dim")
    )


def _global_rope(config: Hparams) -> Rope:
    newer = config.section("rope_parameters").get("full_attention")
    values = {**config.values, "rope_parameters": newer} if newer is not None else config.values
    return read_rope(Hparams({"rope_theta": 1e6, **values}), config.count("head_dim"))
