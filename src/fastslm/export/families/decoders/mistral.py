"""Mistral (Jiang et al. 2023): the Llama block with a sliding window, where the configuration has one."""

from __future__ import annotations

from collections.abc import Collection

from fastslm.export.decoder.shape import DecoderShape
from fastslm.export.families.decoders import llama
from fastslm.export.hparams import Hparams


def read_shape(config: Hparams, tensors: Collection[str]) -> DecoderShape:
    """See ``Family``."""
    shape = llama.read_block_decoder(config, tensors, ())
    window = None if config.get("sliding_window") is None else config.count("sliding_window")
    return shape.with_attention(lambda _, attention: attention.windowed(window))
