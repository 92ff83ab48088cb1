"""MPNet (Song et al. 2020): BERT with learned biases by distance beside its positions."""

from __future__ import annotations

from collections.abc import Collection

from fastslm.export.decoder.standard import matrix, prefix_of, read_sizes
from fastslm.export.encoder.shape import Embedding, EncoderShape, RelativeBias
from fastslm.export.families.encoders.standard import (
    Names,
    bert_layer,
    is_classifier,
    norm,
    other_uses,
    roberta_classifier,
)
from fastslm.export.hparams import Hparams, unsupported

NAMES = Names(
    inputs=("attention.attn.q", "attention.attn.k", "attention.attn.v"),
    output="attention.attn.o",
    attention_norm="attention.LayerNorm",
    up="intermediate.dense",
    down="output.dense",
    feed_forward_norm="output.LayerNorm",
)
FIRST_POSITION = 2
BUCKETS = 32


def read_shape(config: Hparams, tensors: Collection[str]) -> EncoderShape:
    """See ``Family``. The library computes with 32 buckets whatever the configuration says."""
    config.demand("relative_attention_num_buckets", BUCKETS, default=BUCKETS)
    sizes = read_sizes(config)
    if sizes.context <= FIRST_POSITION:
        raise unsupported("max_position_embeddings", sizes.context, f"more than {FIRST_POSITION}")
    prefix = prefix_of(tensors, "mpnet.", "embeddings.word_embeddings.weight")
    epsilon = config.number("layer_norm_eps", 1e-12)
    embedding = Embedding(
        words=matrix(f"{prefix}embeddings.word_embeddings", sizes.vocab, sizes.hidden),
        norm=norm(f"{prefix}embeddings.LayerNorm", sizes.hidden, epsilon, tensors),
        positions=matrix(f"{prefix}embeddings.position_embeddings", sizes.context, sizes.hidden),
        first_position=FIRST_POSITION,
    )
    layers = tuple(
        bert_layer(config, sizes, f"{prefix}encoder.layer.{index}", NAMES, tensors) for index in range(sizes.layers)
    )
    heads = layers[0].attention.shape.heads
    return EncoderShape(
        embedding=embedding,
        layers=layers,
        context_length=sizes.context - FIRST_POSITION,
        relative=RelativeBias(matrix(f"{prefix}encoder.relative_attention_bias", BUCKETS, heads)),
        classifier=roberta_classifier(config, sizes.hidden) if is_classifier(config, tensors) else None,
        ignored=other_uses(prefix),
    )
