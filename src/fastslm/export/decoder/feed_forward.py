"""Feed-forward layers, and mixtures of them, as stock operators.

A mixture hands each expert only the tokens that chose it. An expert that nobody chose gets none, and its matrices are
not read. ONNX Runtime's QMoE (1.23 to 1.31) is no alternative on the CPU: it unpacks every chosen matrix at every call,
always normalises the shares, and knows no offsets and, up to 1.23, no zero points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastslm.export.decoder.shape import FeedForward, Mixture
from fastslm.export.layers import Layers

EXPERTS_READ = "experts_read"
"""Key of the graph's metadata: how many experts a token goes to, and of how many, as in ``2/8``."""


def add_feed_forward(layers: Layers, parts: FeedForward, x: str) -> str:
    """The result of one layer: [tokens, width]."""
    if parts.gate is None:
        inner = layers.activation(parts.activation, layers.project(parts.up, x))
    else:
        inner = layers.gated(parts.activation, parts.gate, parts.up, x)
    return layers.project(parts.down, inner)


def add_mixture(layers: Layers, mixture: Mixture, x: str) -> str:
    """The sum of the experts by their shares, and of the shared layer: [tokens, width]."""
    note_share(layers, mixture)
    graph, name = layers.graph, mixture.name
    size = graph.node("Shape", [x], f"{name}/size")
    total = graph.node("ConstantOfShape", [size], f"{name}/zeros")
    for index, (expert, share) in enumerate(zip(mixture.experts, _shares(layers, mixture, x), strict=True)):
        total = _Chosen(layers, f"{name}.{index}", share).add(expert, x, total)
    return add_shared(layers, mixture, x, total)


def add_shared(layers: Layers, mixture: Mixture, x: str, total: str) -> str:
    """The sum of the experts and what the shared layer adds to it; the former where there is no such layer."""
    if mixture.shared is None:
        return total
    graph, result = layers.graph, add_feed_forward(layers, mixture.shared, x)
    if mixture.shared_gate:
        gate = mixture.shared_gate
        stored = layers.store(
            *(weight.key for weight in gate.weights), is_embedding=True
        )  # a row: as precise as it goes
        share = graph.node("Sigmoid", [layers.linear(gate.name, stored, x)], f"{gate.name}/share")
        result = graph.node("Mul", [result, share], f"{result}/shared")
    return graph.node("Add", [total, result], f"{mixture.name}/and shared")


def router_weight(layers: Layers, mixture: Mixture) -> str:
    """The router's matrix as an initializer of floats, whatever the precision."""
    return layers.vector(*(weight.key for weight in mixture.router.weights))


def note_share(layers: Layers, mixture: Mixture) -> None:
    """Leave a word for those who want to know how much of the weights a token reads."""
    layers.graph.note(EXPERTS_READ, f"{mixture.chosen}/{len(mixture.experts)}")


def _shares(layers: Layers, mixture: Mixture, x: str) -> list[str]:
    """What part each expert has in each token, [tokens, 1]; zero where it was not chosen."""
    graph, name = layers.graph, mixture.name
    scores = graph.node(
        "Gemm", [x, router_weight(layers, mixture), layers.bias(mixture.router)], f"{name}/scores", transB=1
    )
    if not mixture.normalised:
        scores = graph.node("Softmax", [scores], f"{name}/parts", axis=-1)
    nobody = graph.constant(f"zeros.1x{len(mixture.experts)}", np.zeros((1, len(mixture.experts)), np.float32))
    # A row that is cut off again: TopK of ONNX Runtime 1.23 divides by the number of rows, which may be none.
    scores = graph.node("Concat", [scores, nobody], f"{name}/scores/all", axis=0)
    count = graph.constant(f"integers.{mixture.chosen}", np.array([mixture.chosen], np.int64))
    best, places = graph.nodes("TopK", [scores, count], [f"{name}/best", f"{name}/places"], axis=-1)
    if mixture.normalised:
        best = graph.node("Softmax", [best], f"{name}/parts", axis=-1)
    zeros = graph.node("ConstantOfShape", [graph.node("Shape", [scores], f"{name}/scores/size")], f"{name}/nobody")
    table = graph.node("ScatterElements", [zeros, places, best], f"{name}/shares/all", axis=1)
    table = graph.node("Slice", [table, graph.shape(0), graph.shape(-1), graph.shape(0)], f"{name}/shares")
    columns = [f"{name}.{index}/share" for index in range(len(mixture.experts))]
    return list(graph.nodes("Split", [table], columns, axis=1, num_outputs=len(columns)))


@dataclass(frozen=True)
class _Chosen:
    """The tokens of one expert, whose shares in all tokens are [tokens, 1]."""

    layers: Layers
    name: str
    share: str

    def add(self, expert: FeedForward, x: str, total: str) -> str:
        """The sum so far and what this expert adds to the rows of its tokens."""
        graph = self.layers.graph
        flat = graph.node("Reshape", [self.share, graph.shape(-1)], f"{self.name}/flat")
        rows = graph.node("Transpose", [graph.node("NonZero", [flat], f"{self.name}/found")], f"{self.name}/rows")
        mine = graph.node("GatherND", [x, rows], f"{self.name}/tokens")
        share = graph.node("GatherND", [self.share, rows], f"{self.name}/parts")
        result = graph.node("Mul", [add_feed_forward(self.layers, expert, mine), share], f"{self.name}/part")
        return graph.node("ScatterND", [total, rows, result], f"{self.name}/sum", reduction="add")
