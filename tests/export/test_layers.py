"""What the graph computes is what the stored numbers say."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from fastslm.export.graph import Graph
from fastslm.export.layers import Layers
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


def test_norms_and_gate(tmp_path: Path) -> None:
    """Against the formulas."""
    weight, other = RNG.normal(size=96).astype(np.float32), RNG.normal(size=X.shape).astype(np.float32)
    tensors = MemoryTensors({"n1": weight, "n2": weight})

    def add(layers: Layers) -> list[str]:
        return [
            layers.norm("n1", "x", 1e-3),
            *layers.add_and_norm("n2", "x", "r", 1e-3),
            layers.gated_silu("g", "x", "r"),
        ]

    plain, normed, total, gated = run(tmp_path, tensors, "fp32", add, x=X, r=other)
    norm = lambda v: v / np.sqrt((v**2).mean(-1, keepdims=True) + 1e-3) * weight  # noqa: E731
    np.testing.assert_allclose(plain, norm(X), atol=1e-5)
    np.testing.assert_allclose(total, X + other, atol=1e-6)
    np.testing.assert_allclose(normed, norm(X + other), atol=1e-5)
    np.testing.assert_allclose(gated, X / (1 + np.exp(-X)) * other, atol=1e-5)
