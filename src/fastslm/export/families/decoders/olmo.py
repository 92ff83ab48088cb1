"""OLMo (Groeneveld et al. 2024) with norms without weights; OLMo 2 (2025) with norms behind both parts of a layer."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from fastslm.export.decoder.shape import Attention, Block, DecoderShape, Norm
from fastslm.export.decoder.standard import rms_norm
from fastslm.export.families.decoders import llama
from fastslm.export.hparams import Hparams

EPSILON = 1e-5


def read_shape1(config: Hparams, tensors: Collection[str]) -> DecoderShape:
    """See ``Family``; OLMo."""
    shape = llama.read_shape(config, tensors)
    clip = None if config.get("clip_qkv") is None else config.number("clip_qkv")
    shape = shape.with_attention(lambda _, attention: replace(attention, clip=clip))
    blocks = []
    for block in shape.blocks:
        first, second = _bare(block.before_attention), _bare(block.before_feed_forward)
        blocks.append(replace(block, before_attention=first, before_feed_forward=second))
    return replace(shape, blocks=tuple(blocks), final_norm=_bare(shape.final_norm))


def read_shape2(config: Hparams, tensors: Collection[str]) -> DecoderShape:
    """See ``Family``; OLMo 2. Query and key get a norm over all heads together."""
    config.demand("sliding_window", None)  # OLMo 3 goes by the same name in GGUF
    shape, epsilon = llama.read_shape(config, tensors), config.number("rms_norm_eps", 1e-5)
    shape = replace(shape, final_norm=rms_norm("model.norm", config.count("hidden_size"), epsilon))

    def with_norms(index: int, attention: Attention) -> Attention:
        prefix, heads = f"model.layers.{index}.self_attn", attention.shape
        query = rms_norm(f"{prefix}.q_norm", heads.query_rows, epsilon)
        return replace(attention, query_norm=query, key_norm=rms_norm(f"{prefix}.k_norm", heads.key_rows, epsilon))

    blocks = enumerate(shape.with_attention(with_norms).blocks)
    return replace(shape, blocks=tuple(_norms_behind(config, block, index, epsilon) for index, block in blocks))


def _norms_behind(config: Hparams, block: Block, index: int, epsilon: float) -> Block:
    attention, feed_forward = (
        rms_norm(f"model.layers.{index}.post_{part}_layernorm", config.count("hidden_size"), epsilon)
        for part in ("attention", "feedforward")
    )
    bare = replace(block, before_attention=None, before_feed_forward=None)
    return replace(bare, after_attention=attention, after_feed_forward=feed_forward)


def _bare(norm: Norm | None) -> Norm | None:
    return norm and replace(norm, weight=None, centred=True, epsilon=EPSILON)
