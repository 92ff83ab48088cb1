"""Mixtures of experts as our own operator, which reads the packed matrices of the chosen experts only.

Experts that are not all quantised alike stay with stock operators around our layers.
"""

from __future__ import annotations

from collections.abc import Sequence

from fastslm.export.decoder.feed_forward import add_mixture, add_shared, note_share, router_weight
from fastslm.export.decoder.shape import FeedForward, Linear, Mixture
from fastslm.export.layers import Layers
from fastslm.export.native.layers import GATES, packed_units
from fastslm.export.native.packing import store_stacked
from fastslm.ops import DOMAIN


def add_packed_mixture(layers: Layers, mixture: Mixture, x: str) -> str:
    """See ``add_mixture``."""
    if not _fits(layers, mixture.experts):
        return add_mixture(layers, mixture, x)
    note_share(layers, mixture)
    gates = [[_key(expert.gate), _key(expert.up)] for expert in mixture.experts if expert.gate]
    downs = [[_key(expert.down)] for expert in mixture.experts]
    stored = {"gate_up": store_stacked(layers.matrices, gates), "down": store_stacked(layers.matrices, downs)}
    operands = [x, router_weight(layers, mixture), *(packed_units(layers.graph, each) for each in stored.values())]
    options = {
        "experts": len(mixture.experts),
        "chosen": mixture.chosen,
        "normalized": int(mixture.normalised),
        "activation": GATES[mixture.experts[0].activation],
        **{f"{part}_{key}": value for part, matrix in stored.items() for key, value in matrix.attributes.items()},
    }
    total = layers.graph.node("QMoE", operands, mixture.name, domain=DOMAIN, **options)
    return add_shared(layers, mixture, x, total)


def _fits(layers: Layers, experts: Sequence[FeedForward]) -> bool:
    """Whether the operator can have these experts: gated, without biases, quantised alike, inputs as they lie."""
    kind_of, kinds = layers.matrices.kind, set()
    for expert in experts:
        parts = (expert.gate, expert.up, expert.down)
        if any(part is None or part.biases or len(part.weights) != 1 for part in parts):
            return False
        kinds.add(tuple(kind_of(_key(part)) for part in parts if part))
    activations = {expert.activation for expert in experts}
    if len(kinds) != 1 or len(activations) != 1 or not activations <= set(GATES):
        return False
    gate, up, down = kinds.pop()
    in_order = all(order is None for _, order in (gate, up, down))
    return in_order and gate == up and gate[0].is_quantized and down[0].is_quantized


def _key(linear: Linear) -> str:
    return linear.weights[0].key
