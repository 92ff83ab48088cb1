"""A small typed builder of ONNX graphs: nodes by name, small constants inside, weights in the external file.

Law: shared dimensions are named, every initializer has one name, and two initializers may read the same region.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from fastslm.export.weights import Region, WeightsFile

OPSET = 21
IR_VERSION = 10
MICROSOFT = "com.microsoft"

Dimension = int | str


class Graph:
    """One model graph under construction. Values are referred to by name."""

    def __init__(self, weights: WeightsFile) -> None:
        self.weights = weights
        self._nodes: list[Any] = []
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        self._initializers: dict[str, Any] = {}
        self._values: set[str] = set()
        self._notes: dict[str, str] = {}

    def input(self, name: str, dtype: npt.DTypeLike, shape: Sequence[Dimension]) -> str:
        """Declare a graph input."""
        self._inputs.append(helper.make_tensor_value_info(name, _element_type(dtype), list(shape)))
        return name

    def output(self, name: str, dtype: npt.DTypeLike, shape: Sequence[Dimension]) -> None:
        """Declare a value as a graph output."""
        self._outputs.append(helper.make_tensor_value_info(name, _element_type(dtype), list(shape)))

    def node(self, operator: str, inputs: Sequence[str], output: str, *, domain: str = "", **attributes: Any) -> str:
        """Add a node with one output; an empty name leaves out an optional input. Returns the output's name."""
        return self.nodes(operator, inputs, [output], domain=domain, **attributes)[0]

    def nodes(
        self, operator: str, inputs: Sequence[str], outputs: Sequence[str], *, domain: str = "", **attributes: Any
    ) -> Sequence[str]:
        """Add a node with several outputs, empty names for those not wanted. Returns the output names."""
        name = f"{next(filter(None, outputs))}/{operator}"
        while inputs and not inputs[-1]:
            inputs = inputs[:-1]
        self._nodes.append(helper.make_node(operator, list(inputs), list(outputs), name, domain=domain, **attributes))
        self._values.update(outputs)
        return outputs

    def constant(self, name: str, value: npt.NDArray[Any]) -> str:
        """A small initializer inside the graph file; a second call with the same name and value is the same one."""
        return self._initialize(name, numpy_helper.from_array(np.ascontiguousarray(value), name))

    def shape(self, *sizes: int) -> str:
        """A shape for Reshape: 0 keeps a dimension, -1 is inferred."""
        return self.constant("shape." + "x".join(str(size) for size in sizes), np.array(sizes, np.int64))

    def external(self, name: str, dtype: npt.DTypeLike, shape: Sequence[int], region: Region) -> str:
        """An initializer whose bytes are a region of the weights file; calling twice is as calling once."""
        if int(np.prod(shape)) * np.dtype(dtype).itemsize != region.size_bytes:
            raise ValueError(f"initializer {name} of shape {tuple(shape)} is not {region.size_bytes} bytes")
        tensor = onnx.TensorProto(name=name, data_type=_element_type(dtype), dims=list(shape))
        tensor.data_location = onnx.TensorProto.EXTERNAL
        place = {"location": self.weights.path.name, "offset": region.offset, "length": region.size_bytes}
        for key, value in place.items():
            tensor.external_data.add(key=key, value=str(value))
        return self._initialize(name, tensor)

    def weight(self, name: str, value: npt.NDArray[Any]) -> str:
        """Write an array to the weights file and make it an initializer."""
        region = self.weights.reserve(value.nbytes)
        self.weights.write(region, 0, value)
        return self.external(name, value.dtype, value.shape, region)

    def note(self, key: str, text: str) -> None:
        """Write a word into the graph's metadata, which changes nothing of what it computes."""
        self._notes[key] = text

    def defines(self, value: str) -> bool:
        """Whether a node has this output."""
        return value in self._values

    def save(self, path: Path) -> None:
        """Write the graph file. The weights file must lie beside it."""
        path.write_bytes(self.model().SerializeToString())

    def model(self) -> Any:
        """The graph as it stands, as ONNX's ModelProto."""
        initializers = list(self._initializers.values())
        graph = helper.make_graph(self._nodes, "decoder", self._inputs, self._outputs, initializers)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="fastslm")
        helper.set_model_props(model, self._notes)
        return model

    def _initialize(self, name: str, tensor: Any) -> str:
        if self._initializers.setdefault(name, tensor) != tensor:
            raise ValueError(f"initializer {name} has two values")
        return name


def _element_type(dtype: npt.DTypeLike) -> int:
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
