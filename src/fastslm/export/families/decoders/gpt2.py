"""GPT-2 (Radford et al. 2019): learned positions, LayerNorm, matrices that the files hold transposed."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from fastslm.export.decoder.shape import Attention, Block, DecoderShape, FeedForward, Linear
from fastslm.export.decoder.standard import (
    Sizes,
    embedding,
    head,
    layer_norm,
    linear,
    matrix,
    prefix_of,
    read_activation,
    read_attention,
    read_sizes,
)
from fastslm.export.decoder.tensors import Tensor
from fastslm.export.hparams import Hparams

KEYS = {
    "hidden_size": "n_embd",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "max_position_embeddings": "n_positions",
    "intermediate_size": "n_inner",
}
TRANSPOSED = "conv1d_weights"
"""Key by which the GGUF reader says that its matrices are not transposed."""


def read_shape(config: Hparams, tensors: Collection[str]) -> DecoderShape:
    """See ``Family``."""
    config.demand("scale_attn_weights", True, default=True)
    config.demand("scale_attn_by_inverse_layer_idx", False, default=False)
    config.demand("add_cross_attention", False, default=False)
    config = config.renamed(KEYS)
    sizes = read_sizes(config, inner=4 * config.count("hidden_size"))
    prefix = prefix_of(tensors, "transformer.", "wte.weight")
    positions = matrix(f"{prefix}wpe", sizes.context, sizes.hidden)
    tied = {"tie_word_embeddings": config.flag("tie_word_embeddings", default=True)}
    return DecoderShape(
        embedding=replace(embedding(f"{prefix}wte", sizes), positions=positions),
        blocks=tuple(_block(config, sizes, f"{prefix}h.{index}") for index in range(sizes.layers)),
        head=head(Hparams(tied), tensors, sizes),
        context_length=sizes.context,
        final_norm=layer_norm(f"{prefix}ln_f", sizes.hidden, _epsilon(config)),
    )


def _block(config: Hparams, sizes: Sizes, prefix: str) -> Block:
    shape, hidden = read_attention(config), sizes.hidden
    conv1d = _conv1d if config.flag(TRANSPOSED, default=True) else _linear
    inputs = conv1d(f"{prefix}.attn.c_attn", 3 * hidden, hidden)
    up, down = conv1d(f"{prefix}.mlp.c_fc", sizes.inner, hidden), conv1d(f"{prefix}.mlp.c_proj", hidden, sizes.inner)
    return Block(
        attention=Attention(shape, (inputs,), conv1d(f"{prefix}.attn.c_proj", hidden, hidden)),
        feed_forward=FeedForward(up, down, read_activation(config, "activation_function", "gelu_new")),
        before_attention=layer_norm(f"{prefix}.ln_1", hidden, _epsilon(config)),
        before_feed_forward=layer_norm(f"{prefix}.ln_2", hidden, _epsilon(config)),
    )


def _conv1d(name: str, rows: int, columns: int) -> Linear:
    weight = Tensor(f"{name}.weight", (columns, rows), transposed=True)
    return Linear((weight,), (Tensor(f"{name}.bias", (rows,)),))


def _linear(name: str, rows: int, columns: int) -> Linear:
    return linear(name, rows, columns, bias=True)


def _epsilon(config: Hparams) -> float:
    return config.number("layer_norm_epsilon", 1e-5)
