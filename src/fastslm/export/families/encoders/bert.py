"""BERT (Devlin et al. 2019): MiniLM, BGE, E5, GTE and most other embedding models and cross-encoders."""

from __future__ import annotations

from collections.abc import Collection

from fastslm.export.decoder.standard import linear, matrix, prefix_of, read_sizes
from fastslm.export.encoder.shape import Classifier, Embedding, EncoderShape
from fastslm.export.families.encoders.standard import (
    Names,
    bert_layer,
    dense_then_output,
    is_classifier,
    norm,
    other_uses,
)
from fastslm.export.hparams import Hparams

NAMES = Names(
    inputs=("attention.self.query", "attention.self.key", "attention.self.value"),
    output="attention.output.dense",
    attention_norm="attention.output.LayerNorm",
    up="intermediate.dense",
    down="output.dense",
    feed_forward_norm="output.LayerNorm",
)


def read_shape(config: Hparams, tensors: Collection[str]) -> EncoderShape:
    """See ``Family``."""
    prefix = prefix_of(tensors, "bert.", "embeddings.word_embeddings.weight")
    hidden, classifies = config.count("hidden_size"), is_classifier(config, tensors)
    pooler = linear(f"{prefix}pooler.dense", hidden, hidden, bias=True)
    head = dense_then_output(pooler, config, hidden) if classifies else None
    return read_bert(config, tensors, prefix, head=head)


def read_bert(
    config: Hparams, tensors: Collection[str], prefix: str, *, head: Classifier | None = None, first_position: int = 0
) -> EncoderShape:
    """BERT below a prefix; RoBERTa is one whose positions begin later and which has another head."""
    config.demand("position_embedding_type", "absolute", default="absolute")
    config.demand("is_decoder", False, default=False)
    sizes = read_sizes(config)
    epsilon = config.number("layer_norm_eps", 1e-12)
    embedding = Embedding(
        words=matrix(f"{prefix}embeddings.word_embeddings", sizes.vocab, sizes.hidden),
        norm=norm(f"{prefix}embeddings.LayerNorm", sizes.hidden, epsilon, tensors),
        positions=matrix(f"{prefix}embeddings.position_embeddings", sizes.context, sizes.hidden),
        first_position=first_position,
        types=matrix(f"{prefix}embeddings.token_type_embeddings", config.count("type_vocab_size", 2), sizes.hidden),
    )
    layers = (
        bert_layer(config, sizes, f"{prefix}encoder.layer.{index}", NAMES, tensors) for index in range(sizes.layers)
    )
    return EncoderShape(
        embedding=embedding,
        layers=tuple(layers),
        context_length=sizes.context - first_position,
        classifier=head,
        ignored=other_uses(prefix),
    )
