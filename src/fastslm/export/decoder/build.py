"""From the description of a decoder to its graph, the same way for every family."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from fastslm.export.decoder.attention import AttentionBuilder, add_norm_weights, add_tables
from fastslm.export.decoder.feed_forward import add_feed_forward, add_mixture
from fastslm.export.decoder.shape import Block, DecoderShape, Embedding, Head, Mixture, Norm
from fastslm.export.decoder.tensors import ArrangedTensors
from fastslm.export.encoder.shape import EncoderShape
from fastslm.export.graph import Graph
from fastslm.export.layers import Layers
from fastslm.export.matrices import MatrixWriter, StoredMatrix, WantedTensor


def wanted_tensors(shape: DecoderShape | EncoderShape) -> Iterator[WantedTensor]:
    """Every tensor that ``build`` reads, as the files have it, each once."""
    seen = set()
    for tensor in shape.tensors():
        if tensor.name not in seen:
            seen.add(tensor.name)
            yield WantedTensor(tensor.name, tensor.shape)


@dataclass(frozen=True)
class Operators:
    """What a graph is made of: the builders of its layers, of its attention and of its mixtures of experts.

    ``for_others`` adds what other programs need to run it, see ``interchange``.
    """

    layers: type[Layers]
    attention: type[AttentionBuilder]
    mixture: Callable[[Layers, Mixture, str], str] = add_mixture
    for_others: bool = False


def build(shape: DecoderShape, graph: Graph, matrices: MatrixWriter, operators: Operators) -> None:
    """Add the whole decoder, from token ids to logits, to a graph."""
    arranged = ArrangedTensors(matrices.source, shape.tensors())
    layers = operators.layers(graph, replace(matrices, source=arranged))
    ids = layers.inputs()
    attention = operators.attention(layers, add_tables(shape, layers))
    matrix = layers.store(shape.embedding.weight.key, is_embedding=True)
    stream = Residual(layers, _embed(shape.embedding, layers, matrix, ids))
    for index, block in enumerate(shape.blocks):
        x = _add_attention(block, index, attention, stream, is_last=index == shape.num_layers - 1)
        stream.add(_scaled_norm(block, block.after_feed_forward, layers, _fed(block, operators, layers, x)))
    _add_head(shape.head, layers, matrix, stream.normed(shape.final_norm))


class Residual:
    """The hidden state that every layer adds to; an addition waits for the norm that follows, to be one operator."""

    def __init__(self, layers: Layers, total: str) -> None:
        self._layers = layers
        self._total = total
        self._pending = ""

    def add(self, delta: str) -> None:
        """Add the result of a layer."""
        total = self.value()
        self._total, self._pending = total, delta

    def value(self) -> str:
        """The sum so far."""
        if self._pending:
            operands = [self._total, self._pending]
            self._total, self._pending = self._layers.graph.node("Add", operands, f"{self._pending}/added"), ""
        return self._total

    def normed(self, norm: Norm | None) -> str:
        """The norm of the sum so far; the sum itself without a norm."""
        if norm is None:
            return self.value()
        weights = add_norm_weights(self._layers, norm)
        if not self._pending:
            return self._layers.norm(norm.name, self._total, weights)
        result, self._total = self._layers.add_and_norm(norm.name, self._pending, self._total, weights)
        self._pending = ""
        return result

    def keep_logit_rows(self) -> None:
        """From here on only the rows whose logits are wanted."""
        self._total = self._layers.only_logit_rows(self.value())


def _embed(embedding: Embedding, layers: Layers, matrix: StoredMatrix, ids: str) -> str:
    x = layers.times(layers.embed("embedding", matrix, ids), embedding.scale)
    if embedding.positions:
        table = layers.graph.weight(embedding.positions.key, layers.matrices.vector(embedding.positions.key))
        x = layers.add_positions(x, table, embedding.first_position)
    if embedding.norm:
        x = layers.norm(embedding.norm.name, x, add_norm_weights(layers, embedding.norm))
    return x


def _add_attention(block: Block, index: int, attention: AttentionBuilder, stream: Residual, *, is_last: bool) -> str:
    """The first half of a layer. In the last one only the rows whose logits are wanted go past the attention.

    Returns:
        What goes into the second half.
    """
    layers, x = attention.layers, stream.normed(block.before_attention)
    beside = ""
    if block.parallel:
        beside = stream.normed(block.before_feed_forward) if block.before_feed_forward else x
    x = attention.add(index, block.attention, x)
    if is_last:
        x, beside = layers.only_logit_rows(x), beside and layers.only_logit_rows(beside)
        stream.keep_logit_rows()
    x = layers.project(block.attention.output, x)
    stream.add(_scaled_norm(block, block.after_attention, layers, x))
    return beside or stream.normed(block.before_feed_forward)


def _fed(block: Block, operators: Operators, layers: Layers, x: str) -> str:
    """The second half."""
    parts = block.feed_forward
    return operators.mixture(layers, parts, x) if isinstance(parts, Mixture) else add_feed_forward(layers, parts, x)


def _scaled_norm(block: Block, norm: Norm | None, layers: Layers, x: str) -> str:
    """What a part of a layer adds to the hidden state."""
    normed = layers.norm(norm.name, x, add_norm_weights(layers, norm)) if norm else x
    return layers.times(normed, block.residual_scale)


def _add_head(head: Head, layers: Layers, embedding: StoredMatrix, x: str) -> None:
    x = layers.times(x, head.scale)
    if head.linear is None:
        stored, bias = embedding, ""
    else:
        stored = layers.store(*(weight.key for weight in head.linear.weights), is_embedding=True)
        bias = layers.bias(head.linear)
    layers.head(stored, x, bias, head.softcap)
