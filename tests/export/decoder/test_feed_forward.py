"""A mixture of experts is the sum that its definition says, for both targets, whoever goes where."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import pytest

from fastslm.export.decoder.feed_forward import add_mixture
from fastslm.export.decoder.shape import FeedForward, Linear, Mixture
from fastslm.export.decoder.tensors import Tensor
from fastslm.export.graph import Graph
from fastslm.export.layers import Layers
from fastslm.export.matrices import MatrixWriter
from fastslm.export.native.layers import NativeLayers
from fastslm.export.native.mixture import add_packed_mixture
from fastslm.export.weights import WeightsFile
from reference.mixture import chosen_shares
from support.memory_source import MemoryTensors
from support.operators import open_session

WIDTH, INNER, EXPERTS = 64, 96, 5
RNG = np.random.default_rng(4)
X = RNG.normal(size=(9, WIDTH)).astype(np.float32)

Target = Literal["native", "portable"]
TARGETS: Mapping[str, tuple[type[Layers], object]] = {
    "native": (NativeLayers, add_packed_mixture),
    "portable": (Layers, add_mixture),
}


def linear(name: str, rows: int, columns: int) -> Linear:
    return Linear((Tensor(f"{name}.weight", (rows, columns)),))


def gated(prefix: str) -> FeedForward:
    gate, up = (linear(f"{prefix}.{part}", INNER, WIDTH) for part in ("gate", "up"))
    return FeedForward(up, linear(f"{prefix}.down", WIDTH, INNER), "silu", gate)


PLAIN = Mixture(linear("l.0.router", EXPERTS, WIDTH), tuple(gated(f"l.0.experts.{i}") for i in range(EXPERTS)), 2)
SHARED = replace(PLAIN, shared=gated("l.0.shared"), shared_gate=linear("l.0.shared_gate", 1, WIDTH))
ARRAYS = {tensor.name: RNG.normal(0, 0.2, tensor.shape) for tensor in SHARED.tensors()}


@dataclass(frozen=True)
class Model:
    """A source whose matrices of experts are of one kind of blocks, or of two."""

    gates: str
    others: str

    def tensors(self) -> MemoryTensors:
        kinds = {name: self.gates if ".gate." in name else self.others for name in ARRAYS if "router" not in name}
        return MemoryTensors(ARRAYS, {name: kind for name, kind in kinds.items() if kind != "F32"})


def run(folder: Path, target: str, mixture: Mixture, model: Model, precision: str, x: np.ndarray) -> np.ndarray:
    kind, add = TARGETS[target]
    with WeightsFile(folder / "model.onnx.data") as weights, ThreadPoolExecutor(2) as pool:
        graph = Graph(weights)
        layers = kind(graph, MatrixWriter(model.tensors(), weights, precision, pool, lambda name: None))
        graph.input("x", np.float32, [None, WIDTH])
        graph.output(add(layers, mixture, "x"), np.float32, [None, WIDTH])  # type: ignore[operator]
        graph.save(folder / "model.onnx")
    found: np.ndarray = open_session(folder / "model.onnx").run(None, {"x": x})[0]
    return found


def operators(folder: Path) -> list[str]:
    return [node.op_type for node in onnx.load(str(folder / "model.onnx"), load_external_data=False).graph.node]


def expected(mixture: Mixture, model: Model) -> np.ndarray:
    """The definition, in float64, with the numbers that the source has."""
    tensors = model.tensors()

    def weight(part: Linear | None) -> np.ndarray:
        assert part is not None
        return tensors.read(part.weights[0].name).astype(np.float64)

    def fed(parts: FeedForward, row: np.ndarray) -> np.ndarray:
        gate, up = weight(parts.gate) @ row, weight(parts.up) @ row
        return np.asarray(weight(parts.down) @ (gate / (1 + np.exp(-gate)) * up))

    out = np.zeros(X.shape)
    for i, row in enumerate(X.astype(np.float64)):
        shares = chosen_shares(weight(mixture.router) @ row, mixture.chosen, normalized=mixture.normalised)
        out[i] = sum(share * fed(mixture.experts[expert], row) for expert, share in shares.items())
        if mixture.shared:
            share = 1 / (1 + np.exp(-(weight(mixture.shared_gate) @ row))) if mixture.shared_gate else 1.0
            out[i] += share * fed(mixture.shared, row)
    return out


FLOATS, ALIKE, MIXED = Model("F32", "F32"), Model("Q4_1", "Q8_0"), Model("Q8_0", "Q4_1")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("mixture", [PLAIN, replace(PLAIN, normalised=False, chosen=3), SHARED,
                                     replace(SHARED, shared_gate=None), replace(PLAIN, chosen=EXPERTS)])  # fmt: skip
def test_floats_give_the_definition(mixture: Mixture, target: str, tmp_path: Path) -> None:
    """Shares over the chosen or over all, with and without a layer that sees every token."""
    found = run(tmp_path, target, mixture, FLOATS, "fp32", X)
    np.testing.assert_allclose(found, expected(mixture, FLOATS), atol=2e-6 * np.abs(found).max())
    assert "QMoE" not in operators(tmp_path)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("mixture", [PLAIN, SHARED, replace(PLAIN, normalised=False)])
@pytest.mark.parametrize("model", [Model("Q4_0", "Q4_0"), Model("Q8_0", "Q8_0"), Model("Q4_1", "Q4_1")], ids=str)
def test_imported_blocks_keep_their_numbers(model: Model, mixture: Mixture, target: str, tmp_path: Path) -> None:
    """What is left is what rounding the activations to bytes costs."""
    found, exact = run(tmp_path, target, mixture, model, "exact", X), expected(mixture, model)
    assert np.sqrt(((found - exact) ** 2).mean()) < 0.015 * exact.std()
    assert operators(tmp_path).count("QMoE") == (target == "native")


@pytest.mark.parametrize("target", TARGETS)
def test_gates_that_are_packed_otherwise_than_ups_are_told_apart(target: str, tmp_path: Path) -> None:
    """They cannot be one matrix, so each product is an operator; the answer is the same."""
    found, exact = run(tmp_path, target, PLAIN, MIXED, "exact", X), expected(PLAIN, MIXED)
    assert np.sqrt(((found - exact) ** 2).mean()) < 0.015 * exact.std()
    assert "QMoE" not in operators(tmp_path)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("precision", ["fp32", "int4"])
def test_no_tokens_give_no_results(precision: str, target: str, tmp_path: Path) -> None:
    """A chunk of a prompt wants no logits, so nothing goes past its last attention."""
    assert run(tmp_path, target, SHARED, FLOATS, precision, X[:0]).shape == (0, WIDTH)


def test_the_router_stays_in_floats(tmp_path: Path) -> None:
    """A rounded score would send tokens to other experts."""
    run(tmp_path, "native", PLAIN, FLOATS, "int4-fast", X)
    graph = onnx.load(str(tmp_path / "model.onnx"), load_external_data=False).graph
    kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
    assert kinds["l.0.router.weight"] == onnx.TensorProto.FLOAT
    assert sorted(name for name in kinds if "packed" in name) == [
        "l.0.experts.0.down.weight/packed",
        "l.0.experts.0.gate.weight/packed",
    ]
