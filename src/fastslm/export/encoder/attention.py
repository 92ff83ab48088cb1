"""Attention of every token to every other, as one ONNX Runtime operator with what a family needs around it."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from fastslm.export.decoder.attention import Tables
from fastslm.export.decoder.shape import Attention
from fastslm.export.encoder.linear import add_linear
from fastslm.export.encoder.shape import EncoderShape
from fastslm.export.graph import MICROSOFT
from fastslm.export.layers import Layers
from fastslm.export.rope import Rope

SCORES = {"hidden": -1e9, "seen": 0.0}
"""What is added to the score of two tokens that are too far from each other, and of others."""


class AttentionBuilder:
    """Adds the attention of each layer; tables and biases that layers share are written once."""

    def __init__(self, layers: Layers, shape: EncoderShape) -> None:
        self.layers = layers
        self._shape = shape
        self._tables: dict[Rope, Tables] = {}

    def add(self, index: int, attention: Attention, x: str) -> str:
        """Attention of one layer, its output projection included: [tokens, width].

        Args:
            x: hidden states [tokens, width].
        """
        graph, name, sizes = self.layers.graph, f"layers.{index}/attention", attention.shape
        values = [add_linear(self.layers, each, x) for each in attention.inputs]
        operands = [graph.node("Reshape", [each, "hidden/shape"], f"{each}/3d") for each in values]
        if attention.rope:
            operands[:2] = [self._turned(each, attention.rope, sizes.heads) for each in operands[:2]]
        operands += ["", "attention_mask/int32", self._bias(sizes.window)]
        graph.node("MultiHeadAttention", operands, name, domain=MICROSOFT, num_heads=sizes.heads)
        flat = graph.node("Reshape", [name, graph.shape(-1, sizes.query_rows)], f"{name}/2d")
        return add_linear(self.layers, attention.output, flat)

    def _turned(self, x: str, rope: Rope, heads: int) -> str:
        graph = self.layers.graph
        start = graph.constant("positions/start", np.zeros(1, np.int64))
        operands = [x, start, *self._table(rope)]
        options = {"num_heads": heads, "rotary_embedding_dim": 2 * len(rope.frequencies)}
        return graph.node("RotaryEmbedding", operands, f"{x}/turned", domain=MICROSOFT, **options)

    def _table(self, rope: Rope) -> Tables:
        if rope not in self._tables:
            where, both = f"rotary.{len(self._tables)}", rope.tables(self._shape.context_length)
            cosines, sines = (
                self.layers.graph.weight(f"{where}/{name}", table)
                for name, table in zip(("cosines", "sines"), both, strict=True)
            )
            self._tables[rope] = (cosines, sines)
        return self._tables[rope]

    def _bias(self, window: int | None) -> str:
        """What is added to the scores, [1, heads or 1, sequence, sequence]; empty for nothing."""
        if self._shape.relative is not None:
            return self._relative()
        return "" if window is None else self._window(window)

    def _window(self, size: int) -> str:
        """Nothing within ``size`` positions, as good as minus infinity beyond."""
        graph, name = self.layers.graph, f"window.{size}"
        if graph.defines(name):
            return name
        steps = graph.node("Abs", [self._distances()], f"{name}/steps")
        far = graph.node("Greater", [steps, graph.shape(size)], f"{name}/far")
        hidden, seen = (graph.constant(f"{name}/{word}", np.array(v, np.float32)) for word, v in SCORES.items())
        square = graph.node("Where", [far, hidden, seen], f"{name}/square")
        return graph.node("Unsqueeze", [square, graph.shape(0, 1)], name)

    def _relative(self) -> str:
        """A learned number for every head and bucket of distances."""
        graph, name, relative = self.layers.graph, "relative_bias", self._shape.relative
        assert relative is not None  # the caller looked
        if graph.defines(name):
            return name
        most, (buckets, heads) = self._shape.context_length, relative.table.shape
        by_distance = distance_buckets(most, buckets, relative.longest)
        values = self.layers.matrices.vector(relative.table.key).reshape(buckets, heads)[by_distance]
        table = graph.weight(f"{name}/table", np.ascontiguousarray(values.T))
        columns = graph.node("Add", [self._distances(), graph.shape(most - 1)], f"{name}/columns")
        square = graph.node("Gather", [table, columns], f"{name}/square", axis=1)
        return graph.node("Unsqueeze", [square, graph.shape(0)], name)

    def _distances(self) -> str:
        """Position of the key minus that of the query, [sequence, sequence]."""
        graph, name = self.layers.graph, "distances"
        if graph.defines(name):
            return name
        zero, one = (graph.constant(f"integer.{value}", np.array(value, np.int64)) for value in (0, 1))
        row = graph.node("Range", [zero, self.layers.width(), one], f"{name}/row")
        column = graph.node("Unsqueeze", [row, graph.shape(-1)], f"{name}/column")
        return graph.node("Sub", [row, column], name)


def distance_buckets(most: int, buckets: int, longest: int) -> npt.NDArray[np.int64]:
    """Bucket of every distance from ``1 - most`` to ``most - 1`` (key minus query).

    Half of the buckets are for each direction; half of those for one distance each, the others widen evenly on a
    logarithmic scale up to ``longest`` (Raffel et al. 2020, as MPNet uses it).
    """
    distance = np.arange(1 - most, most, dtype=np.int64)
    half, near = buckets // 2, buckets // 4
    steps = np.abs(distance)
    scale = np.float32(math.log(longest / near))
    logs = np.log(np.maximum(steps, 1).astype(np.float32) / np.float32(near)) / scale * np.float32(half - near)
    wide = np.minimum(near + logs.astype(np.int64), half - 1)
    return np.where(distance > 0, half, 0) + np.where(steps < near, steps, wide)
