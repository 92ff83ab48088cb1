"""What an encoder is made of, as a family reads it from a configuration: the whole difference between families.

Law: every tensor that the graph reads is named in here, so that the files are checked before anything is written.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from fastslm.export.decoder.shape import Activation, Attention, AttentionShape, FeedForward, Linear, Norm
from fastslm.export.decoder.tensors import Tensor


@dataclass(frozen=True)
class Embedding:
    """Words, learned positions and kinds of text [.., width], added and normed.

    Attributes:
        first_position: row of ``positions`` that belongs to the first token.
        types: rows for ``token_type_ids``; with one row everything is of that kind.
    """

    words: Tensor
    norm: Norm
    positions: Tensor | None = None
    first_position: int = 0
    types: Tensor | None = None

    def tensors(self) -> Iterator[Tensor]:
        """What it reads."""
        yield from (tensor for tensor in (self.words, self.positions, self.types) if tensor)
        yield from self.norm.tensors()


@dataclass(frozen=True)
class RelativeBias:
    """Biases of the scores by distance, in buckets that widen with it (Raffel et al. 2020), for all layers."""

    table: Tensor
    longest: int = 128


@dataclass(frozen=True)
class Layer:
    """One layer.

    Attributes:
        attention: ``shape.window`` is how many positions before and behind a token it sees, without itself.
        before: norms come before the parts, and are what they read; else behind each addition.
    """

    attention: Attention
    feed_forward: FeedForward
    attention_norm: Norm | None
    feed_forward_norm: Norm
    before: bool = False

    def tensors(self) -> Iterator[Tensor]:
        """What it reads."""
        for part in (self.attention, self.feed_forward, self.attention_norm, self.feed_forward_norm):
            yield from part.tensors() if part else ()


@dataclass(frozen=True)
class Classifier:
    """Scores of a text: output(norm(activation(dense(pooled))))."""

    dense: Linear
    activation: Activation | Literal["tanh"]
    output: Linear
    norm: Norm | None = None
    pooling: Literal["cls", "mean"] = "cls"

    def tensors(self) -> Iterator[Tensor]:
        """What it reads."""
        for part in (self.dense, self.norm, self.output):
            yield from part.tensors() if part else ()


@dataclass(frozen=True)
class EncoderShape:
    """One encoder.

    Attributes:
        context_length: tokens of a text, special ones included.
        classifier: None for a model whose token vectors are wanted.
        ignored: beginnings of tensor names that such models carry for other uses.
    """

    embedding: Embedding
    layers: tuple[Layer, ...]
    context_length: int
    final_norm: Norm | None = None
    relative: RelativeBias | None = None
    classifier: Classifier | None = None
    ignored: tuple[str, ...] = ()

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding."""
        return self.embedding.words.shape[0]

    @property
    def num_layers(self) -> int:
        """Depth."""
        return len(self.layers)

    @property
    def attention(self) -> AttentionShape:
        """Heads; their sizes are the same in every layer."""
        return self.layers[0].attention.shape

    @property
    def tensor_count(self) -> int:
        """How many tensors the graph reads; parts of one count by themselves."""
        return len({tensor.key for tensor in self.tensors()})

    def limited(self, wanted: int | None, most: int) -> EncoderShape:
        """For as many positions as wanted, else for as many as there are but not more than ``most``."""
        return replace(self, context_length=min(self.context_length, wanted or most))

    def tensors(self) -> Iterator[Tensor]:
        """What the graph reads, in order."""
        yield from self.embedding.tensors()
        for part in (*self.layers, self.final_norm, self.classifier):
            yield from part.tensors() if part else ()
        if self.relative:
            yield self.relative.table
