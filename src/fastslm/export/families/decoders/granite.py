"""Granite 3: the Llama block with a factor on embedding, scores, residual additions and logits."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from fastslm.export.decoder.shape import DecoderShape
from fastslm.export.families.decoders import llama
from fastslm.export.hparams import Hparams


def read_shape(config: Hparams, tensors: Collection[str]) -> DecoderShape:
    """See ``Family``."""
    shape = llama.read_shape(config, tensors)
    scale, residual = config.number("attention_multiplier", 1.0), config.number("residual_multiplier", 1.0)
    shape = shape.with_attention(lambda _, attention: replace(attention, shape=replace(attention.shape, scale=scale)))
    return replace(
        shape,
        embedding=replace(shape.embedding, scale=config.number("embedding_multiplier", 1.0)),
        blocks=tuple(replace(block, residual_scale=residual) for block in shape.blocks),
        head=replace(shape.head, scale=1 / config.number("logits_scaling", 1.0)),
    )
