"""Mixtures of experts as our own operator, which reads the packed matrices of the chosen experts only.

Experts that are not all quantised alike stay with stock operators around our layers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastslm.export.decoder.feed_forward import add_mixture, add_shared, note_share, router_weight
from fastslm.export.decoder.shape import FeedForward, Linear, Mixture
from fastslm.export.layers import Layers
from fastslm.export.native.layers import GATES, interleaved_bias, packed_units
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
    operands += [layers.bias(mixture.router), *_biases(layers, mixture.experts)]
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
    """Whether the operator can have these experts: gated, quantised alike, all or none with biases, inputs in order."""
    kind_of, kinds, biased = layers.matrices.kind, set(), set()
    for expert in experts:
        parts = (expert.gate, expert.up, expert.down)
        if any(part is None or len(part.weights) != 1 for part in parts):
            return False
        biased |= {bool(part.biases) for part in parts if part}
        kinds.add(tuple(kind_of(_key(part)) for part in parts if part))
    activations = {expert.activation for expert in experts}
    if len(kinds) != 1 or len(biased) != 1 or len(activations) != 1 or not activations <= set(GATES):
        return False
    gate, up, down = kinds.pop()
    in_order = all(order is None for _, order in (gate, up, down))
    return in_order and gate == up and gate[0].is_quantized and down[0].is_quantized


def _biases(layers: Layers, experts: Sequence[FeedForward]) -> list[str]:
    """Biases of gate and up, and of down, of all experts one after the other; no names when they have none."""
    if not experts[0].down.biases:
        return []
    matrices, (name, _, _) = layers.matrices, experts[0].down.name.rpartition(".")
    inner = [interleaved_bias(matrices, expert.gate, expert.up) for expert in experts if expert.gate]
    outer = [matrices.vector(*(bias.key for bias in expert.down.biases)) for expert in experts]
    found = {"gate+up": np.stack(inner), "down": np.stack(outer)}
    return [layers.graph.weight(f"{name}.{part}.biases", values) for part, values in found.items()]


def _key(linear: Linear) -> str:
    return linear.weights[0].key
