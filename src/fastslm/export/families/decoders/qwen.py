"""Qwen: the Llama block with biases on query, key and value (2 and 2.5) or with norms of query and key (3)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from fastslm.export.decoder.shape import Attention, DecoderShape
from fastslm.export.decoder.standard import layer_windows, rms_norm
from fastslm.export.families.decoders import llama
from fastslm.export.hparams import Hparams


def read_shape2(config: Hparams, tensors: Collection[str]) -> DecoderShape:
    """See ``Family``; Qwen2, Qwen2.5 and the DeepSeek-R1 distillations of them."""
    return _with_windows(config, llama.read_block_decoder(config, tensors, llama.QKV))


def read_shape3(config: Hparams, tensors: Collection[str]) -> DecoderShape:
    """See ``Family``; Qwen3. Query and key get a norm over each head."""
    biased = ("o_proj", *llama.QKV) if config.flag("attention_bias") else ()
    epsilon = config.number("rms_norm_eps", 1e-6)

    def with_norms(index: int, attention: Attention) -> Attention:
        prefix, width = f"model.layers.{index}.self_attn", attention.shape.head_dim
        query, key = (rms_norm(f"{prefix}.{part}_norm", width, epsilon) for part in "qk")
        return replace(attention, query_norm=query, key_norm=key)

    return _with_windows(config, llama.read_block_decoder(config, tensors, biased)).with_attention(with_norms)


def _with_windows(config: Hparams, shape: DecoderShape) -> DecoderShape:
    """The configuration has a window and a switch; the last layers slide when it is on."""
    if not config.flag("use_sliding_window"):
        return shape
    first = config.get("max_window_layers", 28)
    slides = [isinstance(first, int) and index >= first for index in range(shape.num_layers)]
    windows = layer_windows(config, shape.num_layers, slides)
    return shape.with_attention(lambda index, attention: attention.windowed(windows[index]))
