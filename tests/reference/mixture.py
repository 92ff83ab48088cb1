"""A mixture of experts, one row and one expert after the other, in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from reference import packing

Expert = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Weights of gate, up and down; or biases of them."""


def clamped(gate: np.ndarray, up: np.ndarray) -> np.ndarray:
    """The gate of gpt-oss."""
    gate, up = np.minimum(gate, 7.0), np.clip(up, -7.0, 7.0)
    return gate / (1 + np.exp(-1.702 * gate)) * (up + 1)


def chosen_shares(scores: np.ndarray, chosen: int, *, normalized: bool) -> dict[int, float]:
    """Which experts a row goes to, and with what share; of equal scores the first expert wins."""
    parts = np.exp(scores - scores.max())
    best = sorted(range(len(scores)), key=lambda expert: (-scores[expert], expert))[:chosen]
    whole = sum(parts[expert] for expert in best) if normalized else parts.sum()
    return {expert: parts[expert] / whole for expert in best}


def mixture(
    x: np.ndarray,
    router: np.ndarray,
    experts: Sequence[Expert],
    chosen: int,
    gated: Callable[[np.ndarray, np.ndarray], np.ndarray],
    *,
    normalized: bool,
    groups: tuple[int, int] = (32, 32),
    biases: tuple[np.ndarray, Sequence[Expert]] | None = None,
) -> np.ndarray:
    """Results [rows, width], with the activations rounded to bytes in groups before both products.

    ``biases`` are those of the router and of the experts.
    """
    out = np.zeros(x.shape)
    router_bias, expert_biases = biases or (np.zeros(len(experts)), [(np.zeros(1),) * 3] * len(experts))
    rounded = packing.quantized(x, groups[0])
    for row, scores in enumerate(x.astype(np.float64) @ router.astype(np.float64).T + router_bias):
        for expert, share in chosen_shares(scores, chosen, normalized=normalized).items():
            (gate, up, down), (gate_bias, up_bias, down_bias) = experts[expert], expert_biases[expert]
            inner = gated(gate @ rounded[row] + gate_bias, up @ rounded[row] + up_bias)
            out[row] += share * (down @ packing.quantized(inner[None], groups[1])[0] + down_bias)
    return out
