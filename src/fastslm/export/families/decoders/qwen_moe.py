"""Qwen's mixtures of experts: the blocks of Qwen2 or Qwen3 with experts in some or all layers."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from fastslm.export.decoder.shape import DecoderShape, Mixture
from fastslm.export.decoder.standard import gated, linear, read_activation, read_experts, read_sizes
from fastslm.export.families.decoders import qwen
from fastslm.export.hparams import Hparams, unsupported


def read_shape2(config: Hparams, tensors: Collection[str]) -> DecoderShape:
    """See ``Family``; Qwen1.5-MoE and Qwen2-MoE. A layer beside the experts sees every token."""
    config.demand("qkv_bias", True, default=True)
    sizes, inner = read_sizes(config), config.count("shared_expert_intermediate_size")
    activation = read_activation(config, "hidden_act", "silu")

    def with_shared(prefix: str, mixture: Mixture) -> Mixture:
        shared = gated(f"{prefix}.shared_expert", replace(sizes, inner=inner), activation)
        return replace(mixture, shared=shared, shared_gate=linear(f"{prefix}.shared_expert_gate", 1, sizes.hidden))

    shape = _with_experts(config, qwen.read_shape2(config, tensors))
    mixtures = (block.feed_forward for block in shape.blocks)
    parts = [
        with_shared(f"model.layers.{index}.mlp", part) if isinstance(part, Mixture) else part
        for index, part in enumerate(mixtures)
    ]
    return shape.with_feed_forward(lambda index: parts[index])


def read_shape3(config: Hparams, tensors: Collection[str]) -> DecoderShape:
    """See ``Family``; Qwen3-MoE."""
    return _with_experts(config, qwen.read_shape3(config, tensors))


def _with_experts(config: Hparams, shape: DecoderShape) -> DecoderShape:
    """Experts in every layer whose number, counted from 1, is a multiple of the step, but for those that are named."""
    step, dense = config.count("decoder_sparse_step", 1), config.get("mlp_only_layers", [])
    if not isinstance(dense, list):
        raise unsupported("mlp_only_layers", dense, "a list of layers")
    sizes = replace(read_sizes(config), inner=config.count("moe_intermediate_size"))
    count = config.renamed({"num_experts": "num_local_experts"}).count("num_experts")
    return shape.with_feed_forward(
        lambda index: (
            shape.blocks[index].feed_forward
            if index in dense or (index + 1) % step
            else read_experts(config, f"model.layers.{index}.mlp", sizes, count)
        )
    )
