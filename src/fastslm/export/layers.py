"""The parts that decoder graphs are made of, each as the ONNX Runtime operators that run it fastest on a CPU.

Hidden states are two-dimensional, [batch * sequence, width], so that plain Gemm can add products to products; only
attention sees [batch, sequence, width].
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from fastslm.export.decoder.shape import Activation, Linear
from fastslm.export.graph import MICROSOFT, Graph
from fastslm.export.matrices import MatrixWriter, StoredMatrix

ACCURACY_LEVEL = 4
"""MatMulNBits rounds activations to 8 bits per block of 32, as llama.cpp does; level 0 would keep them float32.

8 bits have a fast kernel at this level only (25 times the decode speed of level 0). With 4 bits it decodes up to twice
as fast where a matrix does not fit in the cache. What it costs, on SmolLM2-135M with Q4_1 weights: perplexity 28.66
against 28.59 with float activations everywhere; llama.cpp has 28.64.
"""

CLAMPED_ALPHA, CLAMP = 1.702, 7.0
"""Constants of the activation ``clamped_silu``."""

INT64 = 7
"""ONNX's number for the element type."""


@dataclass(frozen=True)
class NormWeights:
    """Operands of a norm: names of initializers, ``bias`` may be empty; ``centred`` subtracts the mean."""

    weight: str
    bias: str
    epsilon: float
    centred: bool


@dataclass(frozen=True)
class Layers:
    """Adds layers to a graph and their weights to its weights file. Values are named after the layer.

    Attributes:
        follows_tokens: a decoder, where rounding adds up from token to token.
    """

    graph: Graph
    matrices: MatrixWriter
    accuracy_level: int = ACCURACY_LEVEL
    follows_tokens: bool = True

    def inputs(self) -> str:
        """Declare the inputs that every decoder has. Returns the flat token ids."""
        ids = self.graph.input("input_ids", np.int64, ["batch", "sequence"])
        self.graph.input("seqlens_k", np.int32, ["batch"])
        self.graph.input("total_sequence_length", np.int32, [])
        self.graph.input("logit_rows", np.int64, ["rows"])
        size = self.graph.node("Shape", [ids], "input_ids/shape")
        self.graph.node("Concat", [size, self.graph.shape(-1)], "hidden/shape", axis=0)
        return self.graph.node("Reshape", [ids, self.graph.shape(-1)], "input_ids/flat")

    def only_logit_rows(self, x: str) -> str:
        """Keep the rows whose logits are wanted."""
        return self.graph.node("Gather", [x, "logit_rows"], f"{x}/logit_rows", axis=0)

    def embed(self, name: str, stored: StoredMatrix, ids: str) -> str:
        """Rows of the embedding matrix: [tokens, width]."""
        if not stored.encoding.is_quantized:
            return self.graph.node("Gather", [self._floats(stored), ids], f"{name}/out", axis=0)
        bits, group = stored.encoding.bits, stored.encoding.group
        sizes = [stored.rows, stored.columns * bits // 8], [stored.rows, stored.columns // group]
        codes = self.graph.external(f"{stored.name}/codes/rows", np.uint8, sizes[0], stored.planes[0])
        scales = self.graph.external(f"{stored.name}/scales/rows", np.float32, sizes[1], stored.planes[1])
        options = {"bits": bits, "block_size": group, "gather_axis": 0, "quantize_axis": 1}
        operands = [codes, ids, scales, *self._row_zeros(stored)]
        rows = self.graph.node("GatherBlockQuantized", operands, f"{name}/rows", domain=MICROSOFT, **options)
        return self._add_gathered_offsets(name, stored, ids, rows) if stored.encoding.has_offsets else rows

    def store(self, *names: str, is_embedding: bool = False) -> StoredMatrix:
        """Write tensors below each other as one matrix, see ``MatrixWriter``."""
        return self.matrices.store(*names, is_embedding=is_embedding)

    def project(self, linear: Linear, x: str) -> str:
        """The product of x with a linear layer, [tokens, rows]."""
        stored = self.store(*(weight.key for weight in linear.weights))
        return self.linear(linear.name, stored, x, self.bias(linear))

    def gated(self, kind: Activation, gate: Linear, up: Linear, x: str) -> str:
        """activation(gate(x)) * up(x), the inner half of a feed-forward layer: [tokens, width]."""
        gates, values = self.project(gate, x), self.project(up, x)
        if kind == "clamped_silu":
            return self._clamped(gates, values)
        return self.graph.node("Mul", [self.activation(kind, gates), values], f"{values}/gated")

    def linear(self, name: str, stored: StoredMatrix, x: str, bias: str = "") -> str:
        """Multiply by the transposed matrix and add a bias: [tokens, rows of the matrix], a value of the given name.

        A group with an offset m adds m times the sum of its inputs, so the offsets are a second, much smaller
        matrix that multiplies the sums. (MatMulNBits takes float zero points too, but then unpacks the whole matrix at
        every call: 15 to 30 times slower with one row.)
        """
        x = self.in_column_order(stored.name, x)
        if not stored.encoding.is_quantized:
            return self.graph.node("Gemm", [x, self._floats(stored), bias], name, transB=1)
        if not stored.encoding.has_offsets:
            return self._product(name, stored, x, bias)
        product = self._product(f"{name}/product", stored, x, bias)
        operands = [self._group_sums(x, stored), self._offsets(stored), product]
        return self.graph.node("Gemm", operands, name, transB=1)

    def in_column_order(self, key: str, x: str) -> str:
        """Inputs as the columns of this matrix want them; x itself where they lie so."""
        order = self.matrices.source.info(key).column_order
        if order is None:
            return x
        columns = np.array(order, np.int64)
        name = self.graph.constant(f"columns.{sha256(columns.tobytes()).hexdigest()[:16]}", columns)
        result = f"{x}/{name}"
        return result if self.graph.defines(result) else self.graph.node("Gather", [x, name], result, axis=1)

    def norm(self, name: str, x: str, weights: NormWeights) -> str:
        """The norm of x, a value named after the layer."""
        operator = "LayerNormalization" if weights.centred else "SimplifiedLayerNormalization"
        operands = [x, weights.weight, weights.bias]
        return self.graph.node(operator, operands, f"{name}/out", axis=-1, epsilon=weights.epsilon)

    def add_and_norm(self, name: str, x: str, residual: str, weights: NormWeights) -> tuple[str, str]:
        """The norm of x + residual, and the sum itself."""
        operator = "SkipLayerNormalization" if weights.centred else "SkipSimplifiedLayerNormalization"
        operands = [x, residual, weights.weight, weights.bias]
        results = [f"{name}/out", "", "", f"{name}/sum"]
        self.graph.nodes(operator, operands, results, domain=MICROSOFT, epsilon=weights.epsilon)
        return results[0], results[3]

    def activation(self, kind: Activation, x: str) -> str:
        """``silu``, ``gelu`` (exact), ``gelu_tanh`` or ``relu`` of x; QuickGelu with alpha 1 is silu."""
        name = f"{x}/{kind}"
        if kind == "silu":
            return self.graph.node("QuickGelu", [x], name, domain=MICROSOFT, alpha=1.0)
        if kind == "relu":
            return self.graph.node("Relu", [x], name)
        return self.graph.node("Gelu" if kind == "gelu" else "FastGelu", [x], name, domain=MICROSOFT)

    def _clamped(self, gate: str, up: str) -> str:
        """See ``Activation``."""
        small, bounded = self._number(-CLAMP), self._number(CLAMP)
        gate = self.graph.node("Clip", [gate, "", bounded], f"{gate}/clamped")
        gate = self.graph.node("QuickGelu", [gate], f"{gate}/silu", domain=MICROSOFT, alpha=CLAMPED_ALPHA)
        shifted = self.graph.node("Clip", [up, small, bounded], f"{up}/clamped")
        shifted = self.graph.node("Add", [shifted, self._number(1.0)], f"{up}/shifted")
        return self.graph.node("Mul", [gate, shifted], f"{up}/gated")

    def times(self, x: str, factor: float) -> str:
        """The product of x and a number; x itself when that is one."""
        if factor == 1.0:
            return x
        return self.graph.node("Mul", [x, self._number(factor)], f"{x}/times.{factor!r}")

    def softcap(self, x: str, bound: float | None) -> str:
        """Values bounded softly, as bound * tanh(x / bound); x itself without a bound."""
        if bound is None:
            return x
        small = self.graph.node("Tanh", [self.times(x, 1 / bound)], f"{x}/tanh")
        return self.times(small, bound)

    def clip(self, x: str, bound: float | None) -> str:
        """Values cut off at -bound and bound; x itself without a bound."""
        if bound is None:
            return x
        return self.graph.node("Clip", [x, self._number(-bound), self._number(bound)], f"{x}/clipped")

    def positions(self) -> str:
        """Position of every token in its row, [batch, sequence]: counted from what the cache held before this step."""
        name = "positions"
        if self.graph.defines(name):
            return name
        width = self.width()
        held = self.graph.node("Cast", ["seqlens_k"], f"{name}/last", to=INT64)
        after = self.graph.node("Add", [held, self._int64(1)], f"{name}/after")
        before = self.graph.node("Sub", [after, width], f"{name}/before")
        start = self.graph.node("Max", [before, self._int64(0)], f"{name}/start")  # padded rows of a first prompt
        column = self.graph.node("Unsqueeze", [start, self.graph.shape(-1)], f"{name}/column")
        steps = self.graph.node("Range", [self._int64(0), width, self._int64(1)], f"{name}/steps")
        return self.graph.node("Add", [column, steps], name)

    def add_positions(self, x: str, table: str, first: int) -> str:
        """The sum of x [tokens, width] and learned positions, whose table begins with ``first`` rows for other uses."""
        rows = self.graph.node("Reshape", [self.positions(), self.graph.shape(-1)], "positions/flat")
        if first:
            rows = self.graph.node("Add", [rows, self._int64(first)], "positions/rows")
        learned = self.graph.node("Gather", [table, rows], "positions/learned", axis=0)
        return self.graph.node("Add", [x, learned], f"{x}/positioned")

    def head(self, stored: StoredMatrix, x: str, bias: str = "", softcap: float | None = None) -> None:
        """The output layer: logits [rows, vocabulary] become an output of the graph."""
        logits = self.linear("logits" if softcap is None else "logits/unbounded", stored, x, bias)
        if softcap is not None:
            logits = self.graph.node("Identity", [self.softcap(logits, softcap)], "logits")
        self.graph.output(logits, np.float32, ["rows", stored.rows])

    def width(self) -> str:
        """Tokens per row of this step, a scalar."""
        if self.graph.defines("width"):
            return "width"
        size = self.graph.node("Shape", ["input_ids"], "width/shape", start=1, end=2)
        return self.graph.node("Squeeze", [size], "width")

    def _number(self, value: float) -> str:
        return self.graph.constant(f"number.{value!r}", np.array(value, np.float32))

    def _int64(self, value: int) -> str:
        return self.graph.constant(f"integer.{value}", np.array(value, np.int64))

    def vector(self, *names: str) -> str:
        """An initializer of one or more concatenated vectors."""
        return self.graph.weight(names[0], self.matrices.vector(*names))

    def bias(self, linear: Linear) -> str:
        """The bias of a linear layer; no name when it has none."""
        return self.vector(*(each.key for each in linear.biases)) if linear.biases else ""

    def _product(self, name: str, stored: StoredMatrix, x: str, bias: str) -> str:
        bits, group = stored.encoding.bits, stored.encoding.group
        blocks = stored.columns // group
        shape = [stored.rows, blocks, group * bits // 8]
        codes = self.graph.external(f"{stored.name}/codes", np.uint8, shape, stored.planes[0])
        scales = self.graph.external(f"{stored.name}/scales", np.float32, [stored.rows * blocks], stored.planes[1])
        zeros = self._zeros(stored) if stored.encoding.has_zeros else ""
        operands = [x, codes, scales, zeros, "", bias]
        options = {"K": stored.columns, "N": stored.rows, "bits": bits, "block_size": group}
        options["accuracy_level"] = self.accuracy_level
        return self.graph.node("MatMulNBits", operands, name, domain=MICROSOFT, **options)

    def _group_sums(self, x: str, stored: StoredMatrix) -> str:
        """Sum of the inputs of every group, [tokens, groups]; once per value and size, whoever asks."""
        group = stored.encoding.group
        sums = f"{x}/sums.{group}"
        if not self.graph.defines(sums):
            in_groups = self.graph.shape(0, stored.columns // group, group)
            blocks = self.graph.node("Reshape", [x, in_groups], f"{x}/groups.{group}")
            axis = self.graph.constant("last_of_three", np.array([2], np.int64))
            self.graph.node("ReduceSum", [blocks, axis], sums, keepdims=0)
        return sums

    def _add_gathered_offsets(self, name: str, stored: StoredMatrix, ids: str, rows: str) -> str:
        offsets = self.graph.node("Gather", [self._offsets(stored), ids], f"{name}/offsets", axis=0)
        spread = self.graph.node("Unsqueeze", [offsets, self.graph.shape(-1)], f"{name}/offsets/3d")
        group = stored.encoding.group
        in_blocks = self.graph.shape(0, stored.columns // group, group)
        blocks = self.graph.node("Reshape", [rows, in_blocks], f"{name}/blocks")
        total = self.graph.node("Add", [blocks, spread], f"{name}/total")
        return self.graph.node("Reshape", [total, self.graph.shape(0, stored.columns)], f"{name}/out")

    def _floats(self, stored: StoredMatrix) -> str:
        return self.graph.external(stored.name, np.float32, [stored.rows, stored.columns], stored.planes[0])

    def _zeros(self, stored: StoredMatrix) -> str:
        size = stored.planes[2].size_bytes
        return self.graph.external(f"{stored.name}/zeros", np.uint8, [size], stored.planes[2])

    def _row_zeros(self, stored: StoredMatrix) -> list[str]:
        """The zero points once more, as a table of rows to gather from."""
        if not stored.encoding.has_zeros:
            return []
        shape = [stored.rows, stored.planes[2].size_bytes // stored.rows]
        return [self.graph.external(f"{stored.name}/zeros/rows", np.uint8, shape, stored.planes[2])]

    def _offsets(self, stored: StoredMatrix) -> str:
        shape = [stored.rows, stored.columns // stored.encoding.group]
        return self.graph.external(f"{stored.name}/offsets", np.float32, shape, stored.planes[2])
