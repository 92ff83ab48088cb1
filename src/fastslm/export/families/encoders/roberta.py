"""RoBERTa (Liu et al. 2019) and XLM-R: BERT with positions behind the padding token's, and a head of its own."""

from __future__ import annotations

from collections.abc import Collection

from fastslm.export.decoder.standard import prefix_of
from fastslm.export.encoder.shape import EncoderShape
from fastslm.export.families.encoders.bert import read_bert
from fastslm.export.families.encoders.standard import is_classifier, roberta_classifier
from fastslm.export.hparams import Hparams, unsupported

FIRST_POSITION = 2


def read_shape(config: Hparams, tensors: Collection[str]) -> EncoderShape:
    """See ``Family``."""
    config.demand("pad_token_id", FIRST_POSITION - 1, default=FIRST_POSITION - 1)
    if config.count("max_position_embeddings") <= FIRST_POSITION:
        rows = config.count("max_position_embeddings")
        raise unsupported("max_position_embeddings", rows, f"more than {FIRST_POSITION}")
    prefix = prefix_of(tensors, "roberta.", "embeddings.word_embeddings.weight")
    head = roberta_classifier(config, config.count("hidden_size")) if is_classifier(config, tensors) else None
    return read_bert(config, tensors, prefix, head=head, first_position=FIRST_POSITION)
