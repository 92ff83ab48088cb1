"""Mixtral (Jiang et al. 2024): Mistral's block with a mixture of experts in every layer."""

from __future__ import annotations

from collections.abc import Collection

from fastslm.export.decoder.shape import DecoderShape
from fastslm.export.decoder.standard import ExpertNames, read_experts, read_sizes
from fastslm.export.families.decoders import mistral
from fastslm.export.hparams import Hparams

NAMES = ExpertNames("w1", "w3", "w2")


def read_shape(config: Hparams, tensors: Collection[str]) -> DecoderShape:
    """See ``Family``."""
    config = Hparams({"rms_norm_eps": 1e-5, **config.values})
    sizes, count = read_sizes(config), config.count("num_local_experts")
    shape = mistral.read_shape(config, tensors)
    return shape.with_feed_forward(
        lambda index: read_experts(config, f"model.layers.{index}.block_sparse_moe", sizes, count, NAMES)
    )
