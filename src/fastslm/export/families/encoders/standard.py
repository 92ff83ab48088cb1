"""What most encoders have in common: BERT's layer with other names, and how a configuration asks for scores."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from fastslm.export.decoder.shape import Attention, FeedForward, Linear, Norm
from fastslm.export.decoder.standard import Sizes, layer_norm, linear, read_activation, read_attention
from fastslm.export.decoder.tensors import Tensor
from fastslm.export.encoder.shape import Classifier, Layer
from fastslm.export.hparams import Hparams, unsupported

MAX_LABELS = 10_000
OTHER_USES = ("cls.", "lm_head.", "pooler.", "qa_outputs.", "vocab_", "classifier.", "pre_classifier.", "head.")
"""Beginnings of the names of what stands on an encoder: not needed for vectors, and mostly not for scores."""

OLDER = {"weight": "gamma", "bias": "beta"}
"""How the first BERT models spell the parameters of their norms."""


@dataclass(frozen=True)
class Names:
    """Module names below one layer, in the order of BERT's computation."""

    inputs: tuple[str, str, str]
    output: str
    attention_norm: str
    up: str
    down: str
    feed_forward_norm: str


def bert_layer(config: Hparams, sizes: Sizes, prefix: str, names: Names, tensors: Collection[str]) -> Layer:
    """Attention, norm, two-layer feed-forward, norm, with biases everywhere."""
    hidden = sizes.hidden
    inputs = tuple(linear(f"{prefix}.{name}", hidden, hidden, bias=True) for name in names.inputs)
    up = linear(f"{prefix}.{names.up}", sizes.inner, hidden, bias=True)
    down = linear(f"{prefix}.{names.down}", hidden, sizes.inner, bias=True)
    output = linear(f"{prefix}.{names.output}", hidden, hidden, bias=True)
    epsilon = config.number("layer_norm_eps", 1e-12)
    first, second = (
        norm(f"{prefix}.{name}", hidden, epsilon, tensors) for name in (names.attention_norm, names.feed_forward_norm)
    )
    return Layer(
        attention=Attention(read_attention(config), inputs, output),
        feed_forward=FeedForward(up, down, read_activation(config, "hidden_act", "gelu")),
        attention_norm=first,
        feed_forward_norm=second,
    )


def norm(name: str, width: int, epsilon: float, tensors: Collection[str]) -> Norm:
    """LayerNorm under its newer or its older parameter names."""
    if f"{name}.gamma" not in tensors:
        return layer_norm(name, width, epsilon)
    weight, bias = (Tensor(f"{name}.{OLDER[kind]}", (width,)) for kind in ("weight", "bias"))
    return Norm(name, width, epsilon, centred=True, weight=weight, bias=bias)


def is_classifier(config: Hparams, tensors: Collection[str]) -> bool:
    """Whether the model gives scores; where its configuration does not say, its tensors do."""
    names = config.get("architectures")
    if isinstance(names, list) and names:
        return str(names[0]).endswith("ForSequenceClassification")
    return any(name.startswith("classifier.") for name in tensors)


def read_labels(config: Hparams) -> int:
    """How many scores there are. Raises FormatError, UnsupportedModel."""
    named = config.section("id2label").values
    labels = len(named) or config.count("num_labels", 2)
    if labels > MAX_LABELS:
        raise unsupported("num_labels", labels, f"at most {MAX_LABELS}")
    return labels


def roberta_classifier(config: Hparams, hidden: int) -> Classifier:
    """RoBERTa's head, which MPNet has too."""
    output = linear("classifier.out_proj", read_labels(config), hidden, bias=True)
    return Classifier(linear("classifier.dense", hidden, hidden, bias=True), "tanh", output)


def dense_then_output(dense: Linear, config: Hparams, hidden: int) -> Classifier:
    """BERT's head: the pooler, then one layer."""
    return Classifier(dense, "tanh", linear("classifier", read_labels(config), hidden, bias=True))


def other_uses(prefix: str) -> tuple[str, ...]:
    """Beginnings of tensor names that a graph may leave unread."""
    return tuple(dict.fromkeys((*OTHER_USES, f"{prefix}pooler.", f"{prefix}embeddings.position_ids")))
