"""Nomic BERT (Nussbaum et al. 2024): rotation instead of learned positions, a gated feed-forward layer, few biases.

Configurations come in the wording of Nomic's own code and in that of transformers; the tensors have the same names.
"""

from __future__ import annotations

from collections.abc import Collection

from fastslm.export.decoder.shape import Attention, FeedForward
from fastslm.export.decoder.standard import Sizes, linear, matrix, prefix_of, read_attention, read_sizes, reordered
from fastslm.export.encoder.shape import Embedding, EncoderShape, Layer
from fastslm.export.families.encoders.standard import is_classifier, norm, other_uses
from fastslm.export.hparams import Hparams, unsupported
from fastslm.export.rope import Rope, read_rope

KEYS = {
    "hidden_size": "n_embd",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "intermediate_size": "n_inner",
    "max_position_embeddings": "n_positions",
    "layer_norm_eps": "layer_norm_epsilon",
    "hidden_act": "activation_function",
    "rope_theta": "rotary_emb_base",
}
THETA = 1000.0
PLAIN = ("prenorm", "parallel_block", "qkv_proj_bias", "mlp_fc1_bias", "mlp_fc2_bias", "rotary_emb_interleaved")
"""Switches of Nomic's code that its embedding models leave off."""


def read_shape(config: Hparams, tensors: Collection[str]) -> EncoderShape:
    """See ``Family``."""
    config = Hparams({"rope_theta": THETA, **config.renamed(KEYS).values})
    _check(config, tensors)
    sizes = read_sizes(config)
    prefix = prefix_of(tensors, "bert.", "embeddings.word_embeddings.weight")
    epsilon = config.number("layer_norm_eps", 1e-12)
    embedding = Embedding(
        words=matrix(f"{prefix}embeddings.word_embeddings", sizes.vocab, sizes.hidden),
        norm=norm(f"{prefix}emb_ln", sizes.hidden, epsilon, tensors),
        types=matrix(f"{prefix}embeddings.token_type_embeddings", config.count("type_vocab_size", 2), sizes.hidden),
    )
    rope = read_rope(config, read_attention(config).head_dim)
    layers = (_layer(config, sizes, f"{prefix}encoder.layers.{index}", rope, tensors) for index in range(sizes.layers))
    return EncoderShape(embedding, tuple(layers), sizes.context, ignored=other_uses(prefix))


def _check(config: Hparams, tensors: Collection[str]) -> None:
    for key in PLAIN:
        config.demand(key, False, default=False)
    config.demand("hidden_act", "silu", "swiglu", default="silu")
    config.demand("rotary_emb_fraction", 1.0, default=1.0)
    config.demand("rotary_scaling_factor", None)
    if is_classifier(config, tensors):
        raise unsupported("architectures", config.get("architectures"), "a model for vectors")


def _layer(config: Hparams, sizes: Sizes, prefix: str, rope: Rope, tensors: Collection[str]) -> Layer:
    hidden, epsilon = sizes.hidden, config.number("layer_norm_eps", 1e-12)
    fused = linear(f"{prefix}.attn.Wqkv", 3 * hidden, hidden)
    inputs = tuple(reordered(fused, ((part * hidden, (part + 1) * hidden),)) for part in range(3))
    up, gate = (linear(f"{prefix}.mlp.{name}", sizes.inner, hidden) for name in ("fc11", "fc12"))
    down = linear(f"{prefix}.mlp.fc2", hidden, sizes.inner)
    return Layer(
        attention=Attention(read_attention(config), inputs, linear(f"{prefix}.attn.out_proj", hidden, hidden), rope),
        feed_forward=FeedForward(up, down, "silu", gate),
        attention_norm=norm(f"{prefix}.norm1", hidden, epsilon, tensors),
        feed_forward_norm=norm(f"{prefix}.norm2", hidden, epsilon, tensors),
    )
