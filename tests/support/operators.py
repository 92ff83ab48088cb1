"""One-operator models with their weights in an external file, as converted models have them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

from fastslm import ops


@dataclass
class OneOperator:
    """A model of one node. ``weights`` become external initializers at multiples of 64 bytes plus ``shift``."""

    operator: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    types: dict[str, int] = field(default_factory=dict)
    shift: int = 0

    def save(self, folder: Path) -> Path:
        """Write ``model.onnx`` and ``model.onnx.data``."""
        tensors, data = [], bytearray()
        for name, value in self.weights.items():
            data += b"\0" * (-len(data) % 64 + self.shift)
            tensor = TensorProto(name=name, dims=value.shape, data_location=TensorProto.EXTERNAL)
            tensor.data_type = helper.np_dtype_to_tensor_dtype(value.dtype)
            place = {"location": "model.onnx.data", "offset": len(data), "length": value.nbytes}
            for key, text in place.items():
                tensor.external_data.add(key=key, value=str(text))
            tensors.append(tensor)
            data += value.tobytes()
        node = helper.make_node(self.operator, self.inputs, self.outputs, domain=ops.DOMAIN, **self.attributes)
        graph_inputs = [self._value(name) for name in self.inputs if name and name not in self.weights]
        graph = helper.make_graph(
            [node], "g", graph_inputs, [self._value(name) for name in self.outputs if name], tensors
        )
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid(ops.DOMAIN, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        (folder / "model.onnx.data").write_bytes(bytes(data))
        (folder / "model.onnx").write_bytes(model.SerializeToString())
        return folder / "model.onnx"

    def _value(self, name: str) -> Any:
        return helper.make_tensor_value_info(name, self.types.get(name, TensorProto.FLOAT), None)


def open_session(path: Path, threads: int = 2) -> onnxruntime.InferenceSession:
    """A session with our operators."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    options.register_custom_ops_library(str(ops.library_path()))
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
