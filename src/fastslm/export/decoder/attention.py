"""Grouped-query attention over the KV cache, as one ONNX Runtime operator with what a family needs around it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastslm.errors import UnsupportedModel
from fastslm.export.decoder.shape import Attention, AttentionShape, DecoderShape, Linear, Norm, ShortConv
from fastslm.export.graph import MICROSOFT, Dimension
from fastslm.export.layers import Layers, NormWeights
from fastslm.export.rope import Rope

Tables = tuple[str, str]


@dataclass(frozen=True)
class AttentionBuilder:
    """Adds attention layers to a graph; ``tables`` holds the cosines and sines of every rotation in use."""

    layers: Layers
    tables: Mapping[Rope, Tables]

    def add(self, index: int, attention: Attention | ShortConv, x: str) -> str:
        """Attention of layer ``index`` before its output projection: [tokens, heads * head_dim].

        Args:
            attention: or what is in its place.
            x: hidden states [tokens, width].
        """
        if isinstance(attention, ShortConv):
            return self.convolve(index, attention, self.layers.project(attention.gates, x))
        return self.attend(index, attention, self._inputs(attention, x))

    def attend(self, index: int, attention: Attention, values: Sequence[str]) -> str:
        """The operator itself: [tokens, heads * head_dim].

        Args:
            values: query, key and value, or all of them as one value; normed ones have a row for each norm.
        """
        graph, name, shape = self.layers.graph, f"layers.{index}/attention", attention.shape
        operands = [graph.node("Reshape", [each, "hidden/shape"], f"{each}/3d") for each in values]
        tables = self.tables[attention.rope] if attention.rope else ("", "")
        if attention.rope and not turns_inside(shape, attention.rope):
            operands, tables = self._turned(operands, attention, tables), ("", "")
        operands += [""] * (3 - len(operands)) + self.kv_inputs(index, shape)
        operands += ["seqlens_k", "total_sequence_length", *tables, "", self._linear_biases(shape)]
        operands.append(self.sinks(attention))
        results = [name, *self.kv_outputs(index, shape)]
        options = {**_options(shape), "do_rotary": int(bool(tables[0]))}
        graph.nodes("GroupQueryAttention", operands, results, domain=MICROSOFT, **options)
        return graph.node("Reshape", [name, graph.shape(-1, shape.query_rows)], f"{name}/2d")

    def convolve(self, index: int, convolution: ShortConv, gates: str) -> str:
        """A short convolution before its output projection: [tokens, width]. Stock operators cannot keep its past."""
        raise UnsupportedModel(f"`{convolution.name}` needs the target `native`", feature=convolution.name)

    def _inputs(self, attention: Attention, x: str) -> list[str]:
        """Query, key and value, or all of them as one value."""
        values = [self.layers.project(each, x) for each in self._packed(attention)]
        values = [self.layers.clip(value, attention.clip) for value in values]
        for place, norm in enumerate((attention.query_norm, attention.key_norm)):
            if norm and not self.norms_inside(attention):
                values[place] = self._head_norm(norm, values[place])
        return values

    def _turned(self, operands: list[str], attention: Attention, tables: Tables) -> list[str]:
        """Query and key turned by an operator of their own, and the value as it is."""
        graph, shape, rope = self.layers.graph, attention.shape, attention.rope
        if len(operands) == 1:
            sizes = np.array([shape.query_rows, shape.key_rows, shape.key_rows], np.int64)
            names = [f"{operands[0]}/{part}" for part in ("query", "key", "value")]
            operands = [*graph.nodes("Split", [operands[0], graph.constant("qkv/sizes", sizes)], names, axis=2)]
        options = {"rotary_embedding_dim": 2 * len(rope.frequencies) if rope else 0}
        for place, heads in enumerate((shape.heads, shape.kv_heads)):
            values = [operands[place], self.layers.positions(), *tables]
            turned = f"{operands[place]}/turned"
            graph.node("RotaryEmbedding", values, turned, domain=MICROSOFT, num_heads=heads, **options)
            operands[place] = turned
        return operands

    def _packed(self, attention: Attention) -> tuple[Linear, ...]:
        """Three layers become one if they are encoded alike and their results need not be told apart."""
        inputs, kind = attention.inputs, self.layers.matrices.kind
        kinds = {kind(weight.key) for each in inputs for weight in each.weights}
        biased = {bool(each.biases) for each in inputs}
        is_normed = bool(attention.query_norm or attention.key_norm) and not self.norms_inside(attention)
        if len(kinds) > 1 or len(biased) > 1 or is_normed:
            return inputs
        weights = tuple(weight for each in inputs for weight in each.weights)
        return (Linear(weights, tuple(bias for each in inputs for bias in each.biases)),)

    def _head_norm(self, norm: Norm, x: str) -> str:
        """A norm over the width of a head, or over all heads; the shape does not matter to what follows."""
        flat = self.layers.graph.node("Reshape", [x, self.layers.graph.shape(-1, norm.width)], f"{x}/heads")
        return self.layers.norm(norm.name, flat, add_norm_weights(self.layers, norm))

    def _linear_biases(self, shape: AttentionShape) -> str:
        """ALiBi as a bias of the scores, [1, heads, sequence, total]: a slope for each head times the key's position.

        What is the same for all keys of a query falls out of the softmax, so the query's position does not matter.
        """
        if shape.alibi_scale is None:
            return ""
        graph, name = self.layers.graph, "alibi"
        if graph.defines(name):
            return name
        slopes = (alibi_slopes(shape.heads) * shape.alibi_scale).astype(np.float32).reshape(1, -1, 1, 1)
        steps = [graph.constant(f"{name}/{value}", np.array(value, np.int32)) for value in (0, 1)]
        keys = graph.node("Range", [steps[0], "total_sequence_length", steps[1]], f"{name}/keys")
        floats = graph.node("Cast", [keys], f"{name}/floats", to=1)
        row = graph.node("Mul", [floats, graph.constant(f"{name}/slopes", slopes)], f"{name}/row")
        width = graph.node("Reshape", [self.layers.width(), graph.shape(1)], f"{name}/width")
        ones = graph.constant(f"{name}/ones", np.ones(1, np.int64))
        size = graph.node("Concat", [ones, ones, width, ones], f"{name}/size", axis=0)
        return graph.node("Expand", [row, size], name)

    def sinks(self, attention: Attention) -> str:
        """The sinks as an initializer; no name when there are none."""
        return self.layers.vector(attention.sinks.key) if attention.sinks else ""

    def kv_inputs(self, index: int, shape: AttentionShape) -> list[str]:
        """Keys and values before a step become inputs of the graph."""
        names = [f"past_key_values.{index}.{part}" for part in ("key", "value")]
        return [self.layers.graph.input(name, *self.kv_type(shape)) for name in names]

    def kv_outputs(self, index: int, shape: AttentionShape) -> list[str]:
        """Keys and values after it become outputs."""
        names = [f"present.{index}.{part}" for part in ("key", "value")]
        for name in names:
            self.layers.graph.output(name, *self.kv_type(shape))
        return names

    def kv_type(self, shape: AttentionShape) -> tuple[npt.DTypeLike, Sequence[Dimension]]:
        """Type and shape of the keys, or the values, of a layer."""
        return np.float32, ["batch", shape.kv_heads, "capacity", shape.head_dim]

    def norms_inside(self, attention: Attention) -> bool:
        """Whether the operator norms query and key itself."""
        return False


def add_tables(shape: DecoderShape, layers: Layers) -> dict[Rope, Tables]:
    """Write the cosines and sines of every rotation of a decoder, each once."""
    ropes = dict.fromkeys(attention.rope for attention in shape.attentions if attention.rope)
    found: dict[Rope, Tables] = {}
    for number, rope in enumerate(ropes):
        where = "rotary" if not number else f"rotary.{number}"
        tables = zip(("cosines", "sines"), rope.tables(shape.context_length), strict=True)
        cosines, sines = (layers.graph.weight(f"{where}/{name}", table) for name, table in tables)
        found[rope] = (cosines, sines)
    return found


def add_norm_weights(layers: Layers, norm: Norm) -> NormWeights:
    """The weights of a norm as initializers; ones where it has none."""
    if norm.weight:
        weight = layers.vector(norm.weight.key)
    else:
        weight = layers.graph.constant(f"ones.{norm.width}", np.ones(norm.width, np.float32))
    bias = layers.vector(norm.bias.key) if norm.bias else ""
    return NormWeights(weight, bias, norm.epsilon, norm.centred)


def alibi_slopes(heads: int) -> npt.NDArray[np.float64]:
    """Slope of each head (Press et al. 2022): a geometric series, with a second one between when heads are no 2^n."""
    power = 2 ** math.floor(math.log2(heads))
    first = 2.0 ** (-8 / power * np.arange(1, power + 1))
    between = 2.0 ** (-4 / power * np.arange(1, 2 * (heads - power), 2))
    return np.concatenate([first, between])


def turns_inside(shape: AttentionShape, rope: Rope) -> bool:
    """Whether GroupQueryAttention can turn heads of this size itself, which saves two operators."""
    return shape.head_dim % 16 == 0 and len(rope.frequencies) % 8 == 0


def _options(shape: AttentionShape) -> dict[str, float | int]:
    options: dict[str, float | int] = {"num_heads": shape.heads, "kv_num_heads": shape.kv_heads}
    if shape.scale is not None:
        options["scale"] = shape.scale
    if shape.softcap is not None:
        options["softcap"] = shape.softcap
    if shape.window is not None:  # ONNX Runtime up to 1.23 shows one position more than this
        options["local_window_size"] = shape.window
    return options
