"""From the description of an encoder to its graph, the same way for every family.

Inputs ``input_ids``, ``attention_mask`` and, where the model has kinds of text, ``token_type_ids``, all int64 [batch,
sequence], padded on the right; output ``last_hidden_state`` [batch, sequence, width], or ``logits`` [batch, labels] of
a classifier. These are the names that Optimum uses.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fastslm.export.decoder.attention import add_norm_weights
from fastslm.export.decoder.shape import FeedForward, Norm
from fastslm.export.decoder.tensors import ArrangedTensors
from fastslm.export.encoder.attention import AttentionBuilder
from fastslm.export.encoder.linear import add_linear
from fastslm.export.encoder.shape import Classifier, Embedding, EncoderShape, Layer
from fastslm.export.graph import Graph
from fastslm.export.layers import Layers
from fastslm.export.matrices import MatrixWriter

FLOAT = 1
"""ONNX's number for the element type."""


def build(shape: EncoderShape, graph: Graph, matrices: MatrixWriter, kind: type[Layers]) -> None:
    """Add the whole encoder, from token ids to vectors or scores, to a graph; ``kind`` builds its layers."""
    arranged = ArrangedTensors(matrices.source, shape.tensors())
    layers = kind(graph, replace(matrices, source=arranged), follows_tokens=False)
    x = _embed(shape.embedding, layers, _inputs(layers))
    attention = AttentionBuilder(layers, shape)
    for index, layer in enumerate(shape.layers):
        x = _add_layer(layer, index, attention, x)
    if shape.final_norm:
        x = _norm(layers, shape.final_norm, x)
    name = "last_hidden_state" if shape.classifier is None else "hidden/states"
    hidden = layers.graph.node("Reshape", [x, "hidden/shape"], name)
    if shape.classifier is None:
        layers.graph.output(hidden, np.float32, ["batch", "sequence", shape.embedding.norm.width])
    else:
        _classify(shape.classifier, layers, hidden)


def _inputs(layers: Layers) -> str:
    """Declare what every encoder takes; returns the flat token ids."""
    graph = layers.graph
    ids, mask = (graph.input(name, np.int64, ["batch", "sequence"]) for name in ("input_ids", "attention_mask"))
    graph.node("Cast", [mask], "attention_mask/int32", to=6)
    size = graph.node("Shape", [ids], "input_ids/shape")
    graph.node("Concat", [size, graph.shape(-1)], "hidden/shape", axis=0)
    return graph.node("Reshape", [ids, graph.shape(-1)], "input_ids/flat")


def _embed(embedding: Embedding, layers: Layers, ids: str) -> str:
    graph = layers.graph
    x = layers.embed("embedding", layers.store(embedding.words.key, is_embedding=True), ids)
    if embedding.types:
        x = graph.node("Add", [x, _types(embedding, layers)], "embedding/typed")
    if embedding.positions:
        table = graph.weight(embedding.positions.key, layers.matrices.vector(embedding.positions.key))
        first, axis = graph.shape(embedding.first_position), graph.shape(0)
        width = graph.node("Shape", ["input_ids"], "positions/width", start=1, end=2)
        last = graph.node("Add", [width, first], "positions/end")
        learned = graph.node("Slice", [table, first, last, axis], "positions/learned")
        wide = graph.node("Reshape", [x, "hidden/shape"], "embedding/3d")
        added = graph.node("Add", [wide, learned], "embedding/positioned/3d")
        x = graph.node("Reshape", [added, graph.shape(-1, embedding.words.shape[1])], "embedding/positioned")
    return _norm(layers, embedding.norm, x)


def _types(embedding: Embedding, layers: Layers) -> str:
    """Vectors of the kinds of text; a table of one row is added as it is."""
    graph, types = layers.graph, embedding.types
    assert types is not None  # the caller looked
    table = graph.weight(types.key, layers.matrices.vector(types.key))
    if types.shape[0] == 1:
        return table
    kinds = graph.input("token_type_ids", np.int64, ["batch", "sequence"])
    flat = graph.node("Reshape", [kinds, graph.shape(-1)], "token_type_ids/flat")
    return graph.node("Gather", [table, flat], "embedding/types", axis=0)


def _add_layer(layer: Layer, index: int, attention: AttentionBuilder, x: str) -> str:
    layers = attention.layers
    if layer.before:
        normed = _norm(layers, layer.attention_norm, x) if layer.attention_norm else x
        attended = attention.add(index, layer.attention, normed)
        x = layers.graph.node("Add", [x, attended], f"layers.{index}/attended")
        fed = _feed_forward(layer.feed_forward, layers, _norm(layers, layer.feed_forward_norm, x))
        return layers.graph.node("Add", [x, fed], f"layers.{index}/out")
    assert layer.attention_norm is not None  # a layer with norms behind has both
    attended = attention.add(index, layer.attention, x)
    x = _add_and_norm(layers, layer.attention_norm, attended, x)
    return _add_and_norm(layers, layer.feed_forward_norm, _feed_forward(layer.feed_forward, layers, x), x)


def _feed_forward(parts: FeedForward, layers: Layers, x: str) -> str:
    if parts.gate is None:
        inner = layers.activation(parts.activation, add_linear(layers, parts.up, x))
    else:
        gate, up = (add_linear(layers, each, x) for each in (parts.gate, parts.up))
        inner = layers.graph.node("Mul", [layers.activation(parts.activation, gate), up], f"{up}/gated")
    return add_linear(layers, parts.down, inner, is_sturdy=True)


def _norm(layers: Layers, norm: Norm, x: str) -> str:
    return layers.norm(norm.name, x, add_norm_weights(layers, norm))


def _add_and_norm(layers: Layers, norm: Norm, delta: str, x: str) -> str:
    return layers.add_and_norm(norm.name, delta, x, add_norm_weights(layers, norm))[0]


def _classify(head: Classifier, layers: Layers, hidden: str) -> None:
    graph = layers.graph
    pooled = _first(layers, hidden) if head.pooling == "cls" else _mean(layers, hidden)
    x = add_linear(layers, head.dense, pooled)
    x = (
        graph.node("Tanh", [x], "classifier/tanh")
        if head.activation == "tanh"
        else layers.activation(head.activation, x)
    )
    if head.norm:
        x = _norm(layers, head.norm, x)
    scores = graph.node("Identity", [add_linear(layers, head.output, x)], "logits")
    graph.output(scores, np.float32, ["batch", head.output.weights[0].shape[0]])


def _first(layers: Layers, hidden: str) -> str:
    """Vectors of the first tokens, [batch, width]."""
    graph = layers.graph
    first = graph.node("Gather", [hidden, graph.shape(0)], "classifier/first/3d", axis=1)
    return graph.node("Squeeze", [first, graph.shape(1)], "classifier/first")


def _mean(layers: Layers, hidden: str) -> str:
    """Mean of the vectors that are no padding, [batch, width]."""
    graph = layers.graph
    axis = graph.shape(1)
    mask = graph.node("Cast", ["attention_mask"], "attention_mask/floats", to=FLOAT)
    column = graph.node("Unsqueeze", [mask, graph.shape(-1)], "attention_mask/column")
    masked = graph.node("Mul", [hidden, column], "classifier/masked")
    total = graph.node("ReduceSum", [masked, axis], "classifier/total", keepdims=0)
    count = graph.node("ReduceSum", [column, axis], "classifier/count", keepdims=0)
    return graph.node("Div", [total, count], "classifier/mean")
