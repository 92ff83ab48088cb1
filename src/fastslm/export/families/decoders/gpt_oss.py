"""gpt-oss (OpenAI 2025): Llama's block with sinks, windows in every other layer, and experts of a clamped activation.

Experts are read as matrices of their own, see ``formats.stacked``.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from fastslm.export.decoder.shape import Attention, DecoderShape, Mixture
from fastslm.export.decoder.standard import gated, layer_windows, linear, read_expert_counts, read_sizes
from fastslm.export.decoder.tensors import Tensor
from fastslm.export.families.decoders import llama
from fastslm.export.hparams import Hparams
from fastslm.export.layers import CLAMP, CLAMPED_ALPHA

UNSAID = {"rms_norm_eps": 1e-5, "rope_theta": 150000.0}
"""What holds where a configuration does not say."""


def read_shape(config: Hparams, tensors: Collection[str]) -> DecoderShape:
    """See ``Family``."""
    config = Hparams({**UNSAID, **config.values})
    config.demand("hidden_act", "silu", default="silu")
    config.demand("swiglu_limit", CLAMP, default=CLAMP)
    config.demand("swiglu_alpha", CLAMPED_ALPHA, default=CLAMPED_ALPHA)
    biased = ("o_proj", *llama.QKV) if config.flag("attention_bias", default=True) else ()
    shape = llama.read_block_decoder(config, tensors, biased)
    windows = layer_windows(config, shape.num_layers, [index % 2 == 0 for index in range(shape.num_layers)])

    def change(index: int, attention: Attention) -> Attention:
        sinks = Tensor(f"model.layers.{index}.self_attn.sinks", (attention.shape.heads,))
        return replace(attention.windowed(windows[index]), sinks=sinks)

    return shape.with_attention(change).with_feed_forward(lambda index: _mixture(config, index))


def _mixture(config: Hparams, index: int) -> Mixture:
    """Shares are a softmax over the scores of the chosen experts."""
    sizes, prefix = read_sizes(config), f"model.layers.{index}.mlp"
    count, chosen = read_expert_counts(config, config.count("num_local_experts"), sizes.layers)
    experts = (gated(f"{prefix}.experts.{i}", sizes, "clamped_silu", bias=True) for i in range(count))
    return Mixture(linear(f"{prefix}.router", count, sizes.hidden, bias=True), tuple(experts), chosen)
