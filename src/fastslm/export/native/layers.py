"""The parts of decoder graphs as our own operators: packed weights, hidden states [tokens, width] throughout.

A matrix that is not quantised, and a norm that subtracts the mean, stay with the stock operators of ``Layers``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from fastslm.export.decoder.shape import Activation, Linear
from fastslm.export.graph import Graph
from fastslm.export.layers import Layers, NormWeights
from fastslm.export.matrices import MatrixWriter, StoredMatrix
from fastslm.export.native.packing import BLOCK_ROWS, PackedMatrix, store_interleaved, store_packed
from fastslm.ops import DOMAIN

GATES: Mapping[Activation, int] = MappingProxyType({"silu": 0, "gelu_tanh": 1, "gelu": 2, "clamped_silu": 3})
"""Values of QGateUp's attribute ``activation``."""

PASSES = 2
"""Times that a QLinear with 8-bit weights rounds its inputs: the second time what the first left.

Inputs rounded once, to 8 bits per group of 32, cost more than such weights do. SmolLM2-135M in int8, mean KL divergence
from the floats on 2,432 tokens: 0.0043; with float inputs 0.0012; with two passes everywhere but in gate and up, which
are half of the work and forgive most, 0.0020. Decoding stays as fast; half of the products of a prompt are done twice.
An encoder keeps a cosine of 0.999 with one pass.
"""


@dataclass(frozen=True)
class NativeLayers(Layers):
    """``Layers`` for the target ``native``."""

    def store(self, *names: str, is_embedding: bool = False) -> StoredMatrix:
        """See ``Layers``; packed if it is quantised."""
        if self.matrices.encoding(names[0], is_embedding=is_embedding).is_quantized:
            return store_packed(self.matrices, *names, is_embedding=is_embedding)
        return super().store(*names, is_embedding=is_embedding)

    def embed(self, name: str, stored: StoredMatrix, ids: str) -> str:
        """See ``Layers``."""
        if not isinstance(stored, PackedMatrix):
            return super().embed(name, stored, ids)
        operands = [ids, packed_units(self.graph, stored)]
        return self.graph.node("QEmbedding", operands, f"{name}/out", domain=DOMAIN, **stored.attributes)

    def linear(self, name: str, stored: StoredMatrix, x: str, bias: str = "") -> str:
        """See ``Layers``."""
        if not isinstance(stored, PackedMatrix):
            return super().linear(name, stored, x, bias)
        passes = PASSES if stored.encoding.bits == 8 and self.follows_tokens else 1
        operands = [self.in_column_order(stored.name, x), packed_units(self.graph, stored), bias]
        return self.graph.node("QLinear", operands, name, domain=DOMAIN, **stored.attributes, passes=passes)

    def gated(self, kind: Activation, gate: Linear, up: Linear, x: str) -> str:
        """See ``Layers``."""
        if kind not in GATES or not self._are_alike(gate, up):
            return super().gated(kind, gate, up, x)
        gates, values = gate.weights[0].key, up.weights[0].key
        stored = store_interleaved(self.matrices, gates, values)
        options = {"activation": GATES[kind], "width": self.matrices.source.info(gates).shape[0]}
        x = self.in_column_order(gates, x)
        operands = [x, packed_units(self.graph, stored), self._interleaved_bias(gate, up)]
        return self.graph.node("QGateUp", operands, f"{up.name}/gated", domain=DOMAIN, **stored.attributes, **options)

    def norm(self, name: str, x: str, weights: NormWeights) -> str:
        """See ``Layers``."""
        if weights.centred or weights.bias:
            return super().norm(name, x, weights)
        operands, options = [x, weights.weight], {"epsilon": weights.epsilon}
        return self.graph.node("SkipRMSNorm", operands, f"{name}/out", domain=DOMAIN, **options)

    def add_and_norm(self, name: str, x: str, residual: str, weights: NormWeights) -> tuple[str, str]:
        """See ``Layers``."""
        if weights.centred or weights.bias:
            return super().add_and_norm(name, x, residual, weights)
        results, options = (f"{name}/out", f"{name}/sum"), {"epsilon": weights.epsilon}
        self.graph.nodes("SkipRMSNorm", [x, weights.weight, residual], results, domain=DOMAIN, **options)
        return results

    def _are_alike(self, gate: Linear, up: Linear) -> bool:
        """Whether two layers can be one operator."""
        kinds = {self.matrices.kind(weight.key) for each in (gate, up) for weight in each.weights}
        is_simple = len(gate.weights) == len(up.weights) == 1 and len(gate.biases) == len(up.biases)
        return is_simple and len(kinds) == 1 and kinds.pop()[0].is_quantized

    def _interleaved_bias(self, gate: Linear, up: Linear) -> str:
        """Both biases, block by block in turn, as the rows of the matrix lie."""
        if not gate.biases:
            return ""
        return self.graph.weight(f"{up.name}/gate+up.bias", interleaved_bias(self.matrices, gate, up))


def packed_units(graph: Graph, stored: PackedMatrix) -> str:
    """The units of a packed matrix, or of several that lie one after the other, as an initializer."""
    return graph.external(f"{stored.name}/packed", np.uint8, [stored.region.size_bytes], stored.region)


def interleaved_bias(matrices: MatrixWriter, gate: Linear, up: Linear) -> npt.NDArray[np.float32]:
    """The biases of gate and up by turns, a block of each, padded like the rows of ``store_interleaved``."""
    parts = [_in_blocks(matrices.vector(*(bias.key for bias in each.biases))) for each in (gate, up)]
    return np.stack(parts, axis=1).reshape(-1)


def _in_blocks(bias: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.pad(bias, (0, -len(bias) % BLOCK_ROWS)).reshape(-1, BLOCK_ROWS)
