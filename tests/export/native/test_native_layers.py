"""The native target: packed weights hold the numbers of the source, and the graph computes with them."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest

from fastslm.errors import ConversionFailed
from fastslm.export.decoder.shape import Activation, Linear
from fastslm.export.decoder.tensors import Tensor
from fastslm.export.graph import Graph
from fastslm.export.layers import NormWeights
from fastslm.export.matrices import CHUNK_WEIGHTS, MatrixWriter
from fastslm.export.native.layers import NativeLayers
from fastslm.export.weights import WeightsFile
from support.memory_source import MemoryTensors
from support.operators import open_session

RNG = np.random.default_rng(1)
MATRIX = RNG.normal(0.02, 0.1, (70, 96))
BIAS = RNG.normal(size=70).astype(np.float32)
ONE_HOT = np.eye(96, dtype=np.float32)  # rounded without error, so that products show the weights themselves


def layer(weight: str, bias: str = "") -> Linear:
    return Linear((Tensor(weight, MATRIX.shape),), (Tensor(bias, BIAS.shape),) if bias else ())


def run(folder: Path, tensors: MemoryTensors, precision: str, add: object, **inputs: np.ndarray) -> list[np.ndarray]:
    with WeightsFile(folder / "model.onnx.data") as weights, ThreadPoolExecutor(2) as pool:
        graph = Graph(weights)
        layers = NativeLayers(graph, MatrixWriter(tensors, weights, precision, pool, lambda name: None))
        for name, value in inputs.items():
            graph.input(name, value.dtype, [None] * value.ndim)
        for name in add(layers):
            graph.output(name, np.float32, [None, None])
        graph.save(folder / "model.onnx")
    return open_session(folder / "model.onnx").run(None, inputs)


def operators(folder: Path) -> list[str]:
    return [node.op_type for node in onnx.load(str(folder / "model.onnx"), load_external_data=False).graph.node]


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q8_0"])
def test_imported_blocks_keep_their_numbers(kind: str, tmp_path: Path) -> None:
    """Also the minima of Q4_1, which are no multiples of the scales."""
    tensors = MemoryTensors({"w": MATRIX, "b": BIAS}, {"w": kind})
    (found,) = run(tmp_path, tensors, "exact", lambda m: [m.project(layer("w", "b"), "x")], x=ONE_HOT)
    np.testing.assert_allclose(found, tensors.read("w").T + BIAS, atol=1e-6)
    assert operators(tmp_path) == ["QLinear"]


@pytest.mark.parametrize(("precision", "step"), [("int4", 0.05), ("int8", 0.002)])
def test_floats_are_quantised(precision: str, step: float, tmp_path: Path) -> None:
    """To within about half a step of a block, more where its ends are cut; zero points become offsets."""
    tensors = MemoryTensors({"w": MATRIX})
    (found,) = run(tmp_path, tensors, precision, lambda m: [m.linear("y", m.store("w"), "x")], x=ONE_HOT)
    assert np.abs(found - MATRIX.T).max() < step
    assert operators(tmp_path) == ["QLinear"]


def test_unquantised_matrices_stay_with_stock_operators(tmp_path: Path) -> None:
    """Under fp32, and where rows are no multiple of 32."""
    tensors = MemoryTensors({"w": MATRIX})
    (found,) = run(tmp_path, tensors, "fp32", lambda m: [m.linear("y", m.store("w"), "x")], x=ONE_HOT)
    np.testing.assert_allclose(found, MATRIX.T, atol=1e-6)
    assert operators(tmp_path) == ["Gemm"]


def test_matrices_stored_together_stay_in_order(tmp_path: Path) -> None:
    """Also where a part ends inside a block of 32 rows, and where a matrix takes several chunks."""
    rows = CHUNK_WEIGHTS // 96 + 50
    parts = {name: RNG.normal(0, 0.1, (count, 96)) for name, count in (("q", 40), ("k", 8), ("v", rows))}
    tensors = MemoryTensors(parts, dict.fromkeys(parts, "Q8_0"))
    (found,) = run(tmp_path, tensors, "exact", lambda m: [m.linear("y", m.store(*parts), "x")], x=ONE_HOT)
    expected = np.concatenate([tensors.read(name) for name in parts])
    np.testing.assert_allclose(found, expected.T, atol=1e-6)


FUNCTIONS = {
    "silu": lambda v: v / (1 + np.exp(-v)),
    "gelu": lambda v: v / 2 * (1 + np.vectorize(math.erf)(v / math.sqrt(2))),
    "gelu_tanh": lambda v: v / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3))),
    "relu": lambda v: np.maximum(v, 0),
}


@pytest.mark.parametrize(
    ("kind", "activation", "bias"),
    [("Q4_1", "silu", ""), ("Q8_0", "silu", "b"), ("Q8_0", "gelu", ""), ("Q4_0", "gelu_tanh", "b")],
)
def test_gate_and_up_are_one_operator(kind: str, activation: Activation, bias: str, tmp_path: Path) -> None:
    """activation(gate) * up with the numbers of both, whose last blocks are not full."""
    tensors = MemoryTensors({"g": MATRIX, "u": MATRIX[::-1], "b": BIAS}, {"g": kind, "u": kind})
    add = lambda m: [m.gated(activation, layer("g", bias), layer("u", bias), "x")]  # noqa: E731
    (found,) = run(tmp_path, tensors, "exact", add, x=ONE_HOT)
    gates, ups = (tensors.read(name).T + (BIAS if bias else 0) for name in ("g", "u"))
    np.testing.assert_allclose(found, FUNCTIONS[activation](gates) * ups, atol=2e-6)
    assert operators(tmp_path) == ["QGateUp"]


@pytest.mark.parametrize(("kinds", "activation"), [(("Q4_0", "Q8_0"), "silu"), (("Q8_0", "Q8_0"), "relu")])
def test_what_one_operator_does_not_do_is_several(
    kinds: tuple[str, str], activation: Activation, tmp_path: Path
) -> None:
    """A mixed file, or another activation, gives its answer with two products."""
    tensors = MemoryTensors({"g": MATRIX, "u": MATRIX[::-1]}, dict(zip(("g", "u"), kinds, strict=True)))
    (found,) = run(tmp_path, tensors, "exact", lambda m: [m.gated(activation, layer("g"), layer("u"), "x")], x=ONE_HOT)
    gates, ups = tensors.read("g").T, tensors.read("u").T
    np.testing.assert_allclose(found, FUNCTIONS[activation](gates) * ups, atol=1e-6)
    assert "QGateUp" not in operators(tmp_path)


def test_embedding_and_head_share_their_bytes(tmp_path: Path) -> None:
    """A tied table is in the file once and in the graph once."""
    tensors = MemoryTensors({"w": MATRIX})

    def add(layers: NativeLayers) -> list[str]:
        table = layers.store("w", is_embedding=True)
        return [layers.embed("embedding", table, "ids"), layers.linear("y", table, "x")]

    ids = np.array([69, 0, 3])
    rows, products = run(tmp_path, tensors, "int4", add, ids=ids, x=ONE_HOT)
    np.testing.assert_allclose(rows, products.T[ids], atol=1e-6)
    graph = onnx.load(str(tmp_path / "model.onnx"), load_external_data=False).graph
    assert [tensor.name for tensor in graph.initializer] == ["w/packed"]


@pytest.mark.parametrize("centred", [False, True])
def test_norms(centred: bool, tmp_path: Path) -> None:
    """Against the formula; one that subtracts the mean stays with the stock operators."""
    weight, other = RNG.normal(size=96).astype(np.float32), RNG.normal(size=(96, 96)).astype(np.float32)
    tensors = MemoryTensors({"n": weight})

    def add(layers: NativeLayers) -> list[str]:
        weights = NormWeights(layers.vector("n"), "", 1e-3, centred)
        return [layers.norm("n1", "x", weights), *layers.add_and_norm("n2", "x", "r", weights)]

    def norm(v: np.ndarray) -> np.ndarray:
        v = v - v.mean(-1, keepdims=True) * centred
        return v / np.sqrt((v**2).mean(-1, keepdims=True) + 1e-3) * weight

    plain, normed, total = run(tmp_path, tensors, "fp32", add, x=ONE_HOT, r=other)
    np.testing.assert_allclose(plain, norm(ONE_HOT), atol=1e-5)
    np.testing.assert_allclose(normed, norm(ONE_HOT + other), atol=1e-5)
    np.testing.assert_allclose(total, ONE_HOT + other, atol=1e-6)
    assert ("SkipRMSNorm" in operators(tmp_path)) != centred


def test_a_scale_beyond_float16_is_refused(tmp_path: Path) -> None:
    """Such a model would become infinite without a word."""
    tensors = MemoryTensors({"w": MATRIX * 1e9})
    with pytest.raises(ConversionFailed, match=r"tensor `w` needs a scale of `\d+.*`, expected at most 65504"):
        run(tmp_path, tensors, "int8", lambda m: [m.linear("y", m.store("w"), "x")], x=ONE_HOT)
