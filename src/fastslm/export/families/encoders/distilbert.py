"""DistilBERT (Sanh et al. 2019): BERT without kinds of text and without pooler, under other names."""

from __future__ import annotations

from collections.abc import Collection

from fastslm.export.decoder.standard import linear, matrix, prefix_of, read_sizes
from fastslm.export.encoder.shape import Classifier, Embedding, EncoderShape
from fastslm.export.families.encoders.standard import (
    Names,
    bert_layer,
    is_classifier,
    norm,
    other_uses,
    read_labels,
)
from fastslm.export.hparams import Hparams

KEYS = {
    "hidden_size": "dim",
    "intermediate_size": "hidden_dim",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "n_heads",
    "hidden_act": "activation",
}
NAMES = Names(
    inputs=("attention.q_lin", "attention.k_lin", "attention.v_lin"),
    output="attention.out_lin",
    attention_norm="sa_layer_norm",
    up="ffn.lin1",
    down="ffn.lin2",
    feed_forward_norm="output_layer_norm",
)
EPSILON = 1e-12


def read_shape(config: Hparams, tensors: Collection[str]) -> EncoderShape:
    """See ``Family``. Positions that were made of sines are in the files like learned ones."""
    config = Hparams({**config.renamed(KEYS).values, "layer_norm_eps": EPSILON})
    sizes = read_sizes(config)
    prefix = prefix_of(tensors, "distilbert.", "embeddings.word_embeddings.weight")
    embedding = Embedding(
        words=matrix(f"{prefix}embeddings.word_embeddings", sizes.vocab, sizes.hidden),
        norm=norm(f"{prefix}embeddings.LayerNorm", sizes.hidden, EPSILON, tensors),
        positions=matrix(f"{prefix}embeddings.position_embeddings", sizes.context, sizes.hidden),
    )
    layers = (
        bert_layer(config, sizes, f"{prefix}transformer.layer.{index}", NAMES, tensors) for index in range(sizes.layers)
    )
    return EncoderShape(
        embedding=embedding,
        layers=tuple(layers),
        context_length=sizes.context,
        classifier=_classifier(config, sizes.hidden) if is_classifier(config, tensors) else None,
        ignored=other_uses(prefix),
    )


def _classifier(config: Hparams, hidden: int) -> Classifier:
    output = linear("classifier", read_labels(config), hidden, bias=True)
    return Classifier(linear("pre_classifier", hidden, hidden, bias=True), "relu", output)
