"""The graph builder writes what ONNX Runtime reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from fastslm.export.graph import Graph
from fastslm.export.weights import WeightsFile


def test_a_built_graph_computes(tmp_path: Path) -> None:
    """Inputs, constants, weights in the file, a node left without its optional last input."""
    with WeightsFile(tmp_path / "model.onnx.data") as weights:
        graph = Graph(weights)
        x = graph.input("x", np.float32, ["rows", 3])
        matrix = graph.weight("matrix", np.arange(6, dtype=np.float32).reshape(2, 3))
        product = graph.node("Gemm", [x, matrix, ""], "product", transB=1)
        doubled = graph.node("Mul", [product, graph.constant("two", np.array(2, np.float32))], "doubled")
        graph.output(graph.node("Reshape", [doubled, graph.shape(-1)], "flat"), np.float32, ["n"])
        graph.save(tmp_path / "model.onnx")
    onnx.checker.check_model(str(tmp_path / "model.onnx"))
    session = ort.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": np.eye(3, dtype=np.float32)})
    assert found.tolist() == [0, 6, 2, 8, 4, 10]


def test_two_names_share_one_region(tmp_path: Path) -> None:
    """How a tied embedding is stored once."""
    with WeightsFile(tmp_path / "model.onnx.data") as weights:
        graph = Graph(weights)
        region = weights.reserve(16)
        weights.write(region, 0, np.arange(4, dtype=np.float32))
        flat, square = (graph.external(f"as{shape}", np.float32, shape, region) for shape in ([4], [2, 2]))
        graph.output(graph.node("MatMul", [square, square], "squared"), np.float32, [2, 2])
        graph.output(graph.node("Neg", [flat], "negative"), np.float32, [4])
        graph.save(tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx.data").stat().st_size == 16
    session = ort.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    squared, negative = session.run(None, {})
    assert squared.tolist() == [[2, 3], [6, 11]]
    assert negative.tolist() == [0, -1, -2, -3]


def test_one_name_has_one_value(tmp_path: Path) -> None:
    """Asking twice for the same constant is fine, for another under the same name is a mistake."""
    with WeightsFile(tmp_path / "w") as weights:
        graph = Graph(weights)
        assert graph.shape(1, 2) == graph.shape(1, 2)
        graph.constant("c", np.array(1))
        with pytest.raises(ValueError, match="two values"):
            graph.constant("c", np.array(2))
        with pytest.raises(ValueError, match="not 16 bytes"):
            graph.external("e", np.float32, [3], weights.reserve(16))


def test_defined_values_are_known(tmp_path: Path) -> None:
    """So that a value shared by several layers is computed once."""
    with WeightsFile(tmp_path / "w") as weights:
        graph = Graph(weights)
        graph.node("Shape", [graph.input("x", np.int64, ["n"])], "size")
        assert graph.defines("size")
        assert not graph.defines("x/sums")
