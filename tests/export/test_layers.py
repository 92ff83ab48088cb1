"""What the graph computes is what the stored numbers say."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from fastslm.export.graph import Graph
from fastslm.export.layers import Layers, NormWeights
from fastslm.export.matrices import MatrixWriter
from fastslm.export.weights import WeightsFile
from support.memory_source import MemoryTensors

RNG = np.random.default_rng(0)
MATRIX = RNG.normal(0.02, 0.1, (40, 96))
BIAS = RNG.normal(size=40).astype(np.float32)
X = RNG.normal(size=(7, 96)).astype(np.float32)
FLOAT_ACTIVATIONS = 1


def run(folder: Path, tensors: MemoryTensors, precision: str, add: object, **inputs: np.ndarray) -> list[np.ndarray]:
    """Build a graph of the layers that ``add`` adds, and run it."""
    with WeightsFile(folder / "model.onnx.data") as weights, ThreadPoolExecutor(2) as pool:
        graph = Graph(weights)
        layers = Layers(graph, MatrixWriter(tensors, weights, precision, pool, lambda name: None), FLOAT_ACTIVATIONS)
        for name, value in inputs.items():
            graph.input(name, value.dtype, [None] * value.ndim)
        for name in add(layers):
            graph.output(name, np.float32, [None, None])
        graph.save(folder / "model.onnx")
    session = ort.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


def operators(folder: Path) -> list[str]:
    return [node.op_type for node in onnx.load(str(folder / "model.onnx"), load_external_data=False).graph.node]


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q8_0"])
@pytest.mark.parametrize("bias", [False, True])
def test_imported_blocks_multiply_with_their_own_numbers(kind: str, bias: bool, tmp_path: Path) -> None:
    """With float activations the product is that of the gguf package's numbers, to 2e-5: nothing was rounded again."""
    tensors = MemoryTensors({"w": MATRIX, "b": BIAS}, {"w": kind})

    def add(layers: Layers) -> list[str]:
        return [layers.linear("y", layers.matrices.store("w"), "x", layers.vector("b") if bias else "")]

    (found,) = run(tmp_path, tensors, "exact", add, x=X)
    expected = X @ tensors.read("w").T + (BIAS if bias else 0)
    np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q8_0", "F32"])
def test_rows_of_the_embedding_are_its_own_numbers(kind: str, tmp_path: Path) -> None:
    """Whatever block type a file gives its embedding."""
    tensors = MemoryTensors({"w": MATRIX}, {} if kind == "F32" else {"w": kind})
    ids = np.array([0, 39, 5, 5], np.int64)

    def add(layers: Layers) -> list[str]:
        return [layers.embed("embedding", layers.matrices.store("w", is_embedding=True), "ids")]

    (found,) = run(tmp_path, tensors, "fp32" if kind == "F32" else "exact", add, ids=ids)
    np.testing.assert_allclose(found, tensors.read("w")[ids], atol=1e-6)


@pytest.mark.parametrize(("precision", "bound"), [("fp32", 1e-6), ("int8", 0.01), ("int4", 0.12)])
@pytest.mark.parametrize("columns", [96, 64, 40])
def test_quantised_products_stay_close(precision: str, bound: float, columns: int, tmp_path: Path) -> None:
    """Relative root mean square error. An odd number of blocks and rows that are no whole blocks work too."""
    tensors = MemoryTensors({"w": MATRIX[:, :columns]})
    x = np.ascontiguousarray(X[:, :columns])
    (found,) = run(tmp_path, tensors, precision, lambda m: [m.linear("y", m.matrices.store("w"), "x")], x=x)
    expected = x @ tensors.read("w").T
    assert np.sqrt(((found - expected) ** 2).mean() / (expected**2).mean()) < bound
    assert ("MatMulNBits" in operators(tmp_path)) == (precision != "fp32" and columns % 32 == 0)


def test_matrices_stored_together_stay_in_order(tmp_path: Path) -> None:
    """Query, key and value are one product of three matrices below each other."""
    tensors = MemoryTensors({"q": MATRIX, "k": MATRIX[:8] * 2, "v": MATRIX[8:16] * 3}, dict.fromkeys("qkv", "Q4_1"))
    add = lambda layers: [layers.linear("y", layers.matrices.store("q", "k", "v"), "x")]  # noqa: E731
    (found,) = run(tmp_path, tensors, "exact", add, x=X)
    expected = np.concatenate([X @ tensors.read(name).T for name in "qkv"], axis=1)
    np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())


def test_block_sums_are_computed_once_per_input(tmp_path: Path) -> None:
    """Gate and up read the same hidden state."""
    tensors = MemoryTensors({"gate": MATRIX, "up": -MATRIX}, {"gate": "Q4_1", "up": "Q4_1"})

    def add(layers: Layers) -> list[str]:
        return [layers.linear(f"{name}/y", layers.matrices.store(name), "x") for name in ("gate", "up")]

    run(tmp_path, tensors, "exact", add, x=X)
    assert operators(tmp_path).count("ReduceSum") == 1


@pytest.mark.parametrize("centred", [False, True])
def test_norms(centred: bool, tmp_path: Path) -> None:
    """Both kinds, alone and behind an addition, against the formulas."""
    weight, other = RNG.normal(size=96).astype(np.float32), RNG.normal(size=X.shape).astype(np.float32)
    shift = RNG.normal(size=96).astype(np.float32) if centred else np.zeros(96, np.float32)
    tensors = MemoryTensors({"w": weight, "b": shift})

    def add(layers: Layers) -> list[str]:
        weights = NormWeights(layers.vector("w"), layers.vector("b") if centred else "", 1e-3, centred)
        return [layers.norm("n1", "x", weights), *layers.add_and_norm("n2", "x", "r", weights)]

    def norm(v: np.ndarray) -> np.ndarray:
        v = v - v.mean(-1, keepdims=True) if centred else v
        return v / np.sqrt((v**2).mean(-1, keepdims=True) + 1e-3) * weight + shift

    plain, normed, total = run(tmp_path, tensors, "fp32", add, x=X, r=other)
    np.testing.assert_allclose(plain, norm(X), atol=1e-5)
    np.testing.assert_allclose(total, X + other, atol=1e-6)
    np.testing.assert_allclose(normed, norm(X + other), atol=1e-5)


ERF = np.vectorize(math.erf)
FORMULAS = {
    "silu": lambda x: x / (1 + np.exp(-x)),
    "relu": lambda x: np.maximum(x, 0),
    "gelu": lambda x: x * (1 + ERF(x / math.sqrt(2))) / 2,
    "gelu_tanh": lambda x: x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2,
}


@pytest.mark.parametrize("kind", FORMULAS)
def test_activations(kind: str, tmp_path: Path) -> None:
    """The two kinds of GELU differ by 0.0005, which a deep model notices."""
    (found,) = run(tmp_path, MemoryTensors({}), "fp32", lambda layers: [layers.activation(kind, "x")], x=3 * X)
    np.testing.assert_allclose(found, FORMULAS[kind](3 * X.astype(np.float64)), atol=1e-6)


def test_bounds(tmp_path: Path) -> None:
    """A soft one and a hard one; without a number nothing is added to the graph."""

    def add(layers: Layers) -> list[str]:
        assert layers.times("x", 1.0) == layers.softcap("x", None) == layers.clip("x", None) == "x"
        return [layers.softcap("x", 1.5), layers.clip("x", 0.5), layers.times("x", 0.25)]

    soft, hard, scaled = run(tmp_path, MemoryTensors({}), "fp32", add, x=X)
    np.testing.assert_allclose(soft, 1.5 * np.tanh(X / 1.5), atol=1e-6)
    np.testing.assert_array_equal(hard, np.clip(X, -0.5, 0.5))
    np.testing.assert_allclose(scaled, X / 4)


@pytest.mark.parametrize(
    ("width", "last", "expected"),
    [
        (4, [3, 1], [[0, 1, 2, 3], [0, 1, 2, 3]]),  # a fresh prompt, the second row padded
        (1, [7, 2], [[7], [2]]),
        (3, [9], [[7, 8, 9]]),
    ],
)
def test_positions_follow_what_the_cache_holds(
    width: int, last: list[int], expected: list[list[int]], tmp_path: Path
) -> None:
    """A fresh prompt begins at zero, whatever its padding; later steps go on where the row stands."""
    with WeightsFile(tmp_path / "model.onnx.data") as weights, ThreadPoolExecutor(1) as pool:
        graph = Graph(weights)
        layers = Layers(graph, MatrixWriter(MemoryTensors({}), weights, "fp32", pool, lambda name: None))
        layers.inputs()
        assert layers.positions() == layers.positions()
        graph.output(layers.positions(), np.int64, ["batch", "sequence"])
        graph.save(tmp_path / "model.onnx")
    session = ort.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    inputs = {
        "input_ids": np.zeros((len(last), width), np.int64),
        "seqlens_k": np.array(last, np.int32),
        "total_sequence_length": np.array(max(last) + 1, np.int32),
        "logit_rows": np.zeros(0, np.int64),
    }
    np.testing.assert_array_equal(session.run(None, inputs)[0], expected)
