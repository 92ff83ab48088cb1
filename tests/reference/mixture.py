"""A mixture of experts, one row and one expert after the other, in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from reference import packing

Expert = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Weights of gate, up and down."""


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
    activation: Callable[[np.ndarray], np.ndarray],
    *,
    normalized: bool,
    groups: tuple[int, int] = (32, 32),
) -> np.ndarray:
    """Results [rows, width], with the activations rounded to bytes in groups before both products."""
    out = np.zeros(x.shape)
    rounded = packing.quantized(x, groups[0])
    for row, scores in enumerate(x.astype(np.float64) @ router.astype(np.float64).T):
        for expert, share in chosen_shares(scores, chosen, normalized=normalized).items():
            gate, up, down = experts[expert]
            inner = activation(gate @ rounded[row]) * (up @ rounded[row])
            out[row] += share * (down @ packing.quantized(inner[None], groups[1])[0])
    return out
