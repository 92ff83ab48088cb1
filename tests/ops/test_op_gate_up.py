"""QGateUp: activation of the gate times up, from one interleaved matrix."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from tests.support.operators import OneOperator, open_session

from fastslm import _native, ops
from reference import packing
from reference.mixture import clamped

ACTIVATIONS = {
    0: lambda x: x / (1 + np.exp(-x)),
    1: lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    2: lambda x: 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))),
}


def halves(rng: np.random.Generator, width: int, inputs: int) -> list[tuple[np.ndarray, np.ndarray]]:
    codes = [rng.integers(0, 16, (width, inputs), dtype=np.uint8) for _ in range(2)]
    return [(each, (rng.random((width, inputs // 32)) * 0.1).astype(np.float32)) for each in codes]


def interleave(parts: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Blocks of 32 rows of gate and up by turns."""
    packed = [_native.pack_linear(codes, scales, bits=4) for codes, scales in parts]
    blocks = -(-len(parts[0][0]) // 32)
    return np.stack([each.reshape(blocks, -1) for each in packed], axis=1).reshape(-1)


@pytest.mark.parametrize("activation", [*ACTIVATIONS, 3])
@pytest.mark.parametrize("width", [96, 70])
def test_gate_times_up(activation: int, width: int, tmp_path: Path, rng: np.random.Generator) -> None:
    """All four activations agree with their definitions, also where the last block is not full."""
    parts, inputs = halves(rng, width, 128), 128
    attributes = {
        "K": inputs,
        "N": -(-width // 32) * 64,
        "bits": 4,
        "group_size": 32,
        "layout": ops.layout_version(),
        "width": width,
    }
    model = OneOperator("QGateUp", ["x", "w"], ["y"], attributes | {"activation": activation}, {"w": interleave(parts)})
    session = open_session(model.save(tmp_path))
    x = rng.normal(size=(30, inputs)).astype(np.float32)
    gate, up = (packing.quantized(x, 32) @ packing.weights(*part, None, 4).T for part in parts)
    expected = clamped(gate, up) if activation == 3 else ACTIVATIONS[activation](gate) * up
    found = session.run(None, {"x": x})[0]
    np.testing.assert_allclose(found, expected, atol=2e-6 * np.abs(expected).max(), rtol=2e-6)
    for count in (1, 2, 5, 12, 13):
        assert session.run(None, {"x": x[:count]})[0].tobytes() == found[:count].tobytes()


def test_biases_come_before_the_activation(tmp_path: Path, rng: np.random.Generator) -> None:
    """The bias has the order of the interleaved blocks."""
    parts = halves(rng, 32, 64)
    attributes = {
        "K": 64,
        "N": 64,
        "bits": 4,
        "group_size": 32,
        "layout": ops.layout_version(),
        "width": 32,
        "activation": 0,
    }
    bias = rng.normal(size=64).astype(np.float32)
    weights = {"w": interleave(parts), "bias": bias}
    session = open_session(OneOperator("QGateUp", ["x", "w", "bias"], ["y"], attributes, weights).save(tmp_path))
    x = rng.normal(size=(3, 64)).astype(np.float32)
    gate, up = (packing.quantized(x, 32) @ packing.weights(*part, None, 4).T for part in parts)
    expected = ACTIVATIONS[0](gate + bias[:32]) * (up + bias[32:])
    np.testing.assert_allclose(session.run(None, {"x": x})[0], expected, atol=1e-5, rtol=1e-5)
