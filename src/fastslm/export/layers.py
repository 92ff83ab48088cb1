"""The parts that decoder graphs are made of, each as the ONNX Runtime operators that run it fastest on a CPU.

Hidden states are two-dimensional, [batch * sequence, width], so that plain Gemm can add products to products; only
attention sees [batch, sequence, width].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastslm.export.graph import MICROSOFT, Dimension, Graph
from fastslm.export.matrices import MatrixWriter, StoredMatrix
from fastslm.export.quantize import BLOCK
from fastslm.export.rope import rotary_tables

ROTARY_TABLES = ("rotary/cosines", "rotary/sines")

ACCURACY_LEVEL = 4
"""MatMulNBits rounds activations to 8 bits per block of 32, as llama.cpp does; level 0 would keep them float32.

8 bits have a fast kernel at this level only (25 times the decode speed of level 0). With 4 bits it decodes up to twice
as fast where a matrix does not fit in the cache. What it costs, on SmolLM2-135M with Q4_1 weights: perplexity 28.66
against 28.59 with float activations everywhere; llama.cpp has 28.64.
"""


@dataclass(frozen=True)
class AttentionShape:
    """Heads of one attention layer; ``window`` is how many positions a token sees, itself included, or None for all."""

    heads: int
    kv_heads: int
    head_dim: int
    window: int | None = None


@dataclass(frozen=True)
class Layers:
    """Adds layers to a graph and their weights to its weights file. Values are named after the layer."""

    graph: Graph
    matrices: MatrixWriter
    accuracy_level: int = ACCURACY_LEVEL

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
        bits, blocks = stored.encoding.bits, stored.columns // BLOCK
        sizes = [stored.rows, stored.columns * bits // 8], [stored.rows, blocks]
        codes = self.graph.external(f"{stored.name}/codes/rows", np.uint8, sizes[0], stored.planes[0])
        scales = self.graph.external(f"{stored.name}/scales/rows", np.float32, sizes[1], stored.planes[1])
        options = {"bits": bits, "block_size": BLOCK, "gather_axis": 0, "quantize_axis": 1}
        operands = [codes, ids, scales]
        rows = self.graph.node("GatherBlockQuantized", operands, f"{name}/rows", domain=MICROSOFT, **options)
        return self._add_gathered_offsets(name, stored, ids, rows) if stored.encoding.has_offsets else rows

    def linear(self, name: str, stored: StoredMatrix, x: str, bias: str = "") -> str:
        """Multiply by the transposed matrix and add a bias: [tokens, rows of the matrix], a value of the given name.

        A block with an offset m adds m times the sum of its inputs, so the offsets are a second, 32 times smaller
        matrix that multiplies the sums. (MatMulNBits takes float zero points too, but then unpacks the whole matrix at
        every call: 15 to 30 times slower with one row.)
        """
        if not stored.encoding.is_quantized:
            return self.graph.node("Gemm", [x, self._floats(stored), bias], name, transB=1)
        if not stored.encoding.has_offsets:
            return self._product(name, stored, x, bias)
        product = self._product(f"{name}/product", stored, x, bias)
        operands = [self._block_sums(x, stored.columns), self._offsets(stored), product]
        return self.graph.node("Gemm", operands, name, transB=1)

    def norm(self, name: str, x: str, epsilon: float) -> str:
        """Root mean square norm with the weight of this name."""
        return self.graph.node(
            "SimplifiedLayerNormalization", [x, self.vector(name)], f"{name}/out", axis=-1, epsilon=epsilon
        )

    def add_and_norm(self, name: str, x: str, residual: str, epsilon: float) -> tuple[str, str]:
        """The norm of x + residual, and the sum itself."""
        operands = [x, residual, self.vector(name)]
        results = [f"{name}/out", "", "", f"{name}/sum"]
        self.graph.nodes("SkipSimplifiedLayerNormalization", operands, results, domain=MICROSOFT, epsilon=epsilon)
        return results[0], results[3]

    def gated_silu(self, name: str, gate: str, up: str) -> str:
        """silu(gate) * up; QuickGelu with alpha 1 is silu."""
        silu = self.graph.node("QuickGelu", [gate], f"{name}/silu", domain=MICROSOFT, alpha=1.0)
        return self.graph.node("Mul", [silu, up], f"{name}/gated")

    def head(self, stored: StoredMatrix, x: str) -> None:
        """The output layer: logits [rows, vocabulary] become an output of the graph."""
        self.graph.output(self.linear("logits", stored, x), np.float32, ["rows", stored.rows])

    def attention(self, index: int, qkv: list[str], shape: AttentionShape) -> str:
        """Grouped-query attention with rotary positions over the KV cache of layer ``index``.

        ``qkv`` is one packed value [tokens, (heads + 2 * kv_heads) * head_dim], or query, key and value. The result is
        [tokens, heads * head_dim].
        """
        name = f"layers.{index}/attention"
        operands = [self.graph.node("Reshape", [each, "hidden/shape"], f"{each}/3d") for each in qkv]
        operands += [""] * (3 - len(qkv)) + self._kv_inputs(index, shape)
        operands += ["seqlens_k", "total_sequence_length", *ROTARY_TABLES]
        results = [name, *self._kv_outputs(index, shape)]
        options = {"num_heads": shape.heads, "kv_num_heads": shape.kv_heads, "do_rotary": 1}
        if shape.window is not None:  # ONNX Runtime up to 1.23 shows one position more than this
            options["local_window_size"] = shape.window
        self.graph.nodes("GroupQueryAttention", operands, results, domain=MICROSOFT, **options)
        return self.graph.node("Reshape", [name, self.graph.shape(-1, shape.heads * shape.head_dim)], f"{name}/2d")

    def vector(self, *names: str) -> str:
        """An initializer of one or more concatenated vectors."""
        return self.graph.weight(names[0], self.matrices.vector(*names))

    def rotary_tables(self, frequencies: npt.NDArray[np.float64], positions: int) -> None:
        """The cosine and sine tables that every attention layer reads."""
        for name, table in zip(ROTARY_TABLES, rotary_tables(frequencies, positions), strict=True):
            self.graph.weight(name, table)

    def _kv_inputs(self, index: int, shape: AttentionShape) -> list[str]:
        names = [f"past_key_values.{index}.{part}" for part in ("key", "value")]
        return [self.graph.input(name, np.float32, _kv_size(shape)) for name in names]

    def _kv_outputs(self, index: int, shape: AttentionShape) -> list[str]:
        names = [f"present.{index}.{part}" for part in ("key", "value")]
        for name in names:
            self.graph.output(name, np.float32, _kv_size(shape))
        return names

    def _product(self, name: str, stored: StoredMatrix, x: str, bias: str) -> str:
        bits, blocks = stored.encoding.bits, stored.columns // BLOCK
        shape = [stored.rows, blocks, BLOCK * bits // 8]
        codes = self.graph.external(f"{stored.name}/codes", np.uint8, shape, stored.planes[0])
        scales = self.graph.external(f"{stored.name}/scales", np.float32, [stored.rows * blocks], stored.planes[1])
        zeros = self._zeros(stored) if stored.encoding.has_zeros else ""
        operands = [x, codes, scales, zeros, "", bias]
        options = {"K": stored.columns, "N": stored.rows, "bits": bits, "block_size": BLOCK}
        options["accuracy_level"] = self.accuracy_level
        return self.graph.node("MatMulNBits", operands, name, domain=MICROSOFT, **options)

    def _block_sums(self, x: str, columns: int) -> str:
        """Sum of every 32 neighbours, [tokens, columns / 32]; once per value, whoever asks."""
        sums = f"{x}/sums"
        if not self.graph.defines(sums):
            blocks = self.graph.node("Reshape", [x, self.graph.shape(0, columns // BLOCK, BLOCK)], f"{x}/blocks")
            axis = self.graph.constant("last_of_three", np.array([2], np.int64))
            self.graph.node("ReduceSum", [blocks, axis], sums, keepdims=0)
        return sums

    def _add_gathered_offsets(self, name: str, stored: StoredMatrix, ids: str, rows: str) -> str:
        offsets = self.graph.node("Gather", [self._offsets(stored), ids], f"{name}/offsets", axis=0)
        spread = self.graph.node("Unsqueeze", [offsets, self.graph.shape(-1)], f"{name}/offsets/3d")
        in_blocks = self.graph.shape(0, stored.columns // BLOCK, BLOCK)
        blocks = self.graph.node("Reshape", [rows, in_blocks], f"{name}/blocks")
        total = self.graph.node("Add", [blocks, spread], f"{name}/total")
        return self.graph.node("Reshape", [total, self.graph.shape(0, stored.columns)], f"{name}/out")

    def _floats(self, stored: StoredMatrix) -> str:
        return self.graph.external(stored.name, np.float32, [stored.rows, stored.columns], stored.planes[0])

    def _zeros(self, stored: StoredMatrix) -> str:
        size = stored.planes[2].size_bytes
        return self.graph.external(f"{stored.name}/zeros", np.uint8, [size], stored.planes[2])

    def _offsets(self, stored: StoredMatrix) -> str:
        shape = [stored.rows, stored.columns // BLOCK]
        return self.graph.external(f"{stored.name}/offsets", np.float32, shape, stored.planes[2])


def _kv_size(shape: AttentionShape) -> list[Dimension]:
    return ["batch", shape.kv_heads, "capacity", shape.head_dim]
