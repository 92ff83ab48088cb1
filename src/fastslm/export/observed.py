"""A graph that also tells how large the inputs of its matrices are: for calibration, never published.

For each matrix that is not only looked up, the graph has one more output: the sum over tokens of the square of each
input, [columns], named after the tensor as ``MatrixWriter.importance`` names it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastslm.export.convert import convert_with
from fastslm.export.decoder.build import Operators
from fastslm.export.decoder.shape import Linear
from fastslm.export.filling import Course
from fastslm.export.layers import Layers
from fastslm.export.matrices import StoredMatrix
from fastslm.export.options import ConvertOptions
from fastslm.export.targets import TARGETS, resolve_target
from fastslm.formats.source import ModelSource
from fastslm.progress import ProgressCallback, silent
from fastslm.store.manifest import ModelManifest

PREFIX = "sum_of_squares:"
"""Begins the names of the outputs."""


@dataclass(frozen=True)
class ObservedLayers(Layers):
    """``Layers`` that add the outputs."""

    def project(self, linear: Linear, x: str) -> str:
        """See ``Layers``."""
        product = super().project(linear, x)
        for weight in linear.weights[1:]:  # the first is the name that the matrix goes by
            self._observe(weight.key, x)
        return product

    def linear(self, name: str, stored: StoredMatrix, x: str, bias: str = "") -> str:
        """See ``Layers``."""
        self._observe(stored.name, x)
        return super().linear(name, stored, x, bias)

    def _observe(self, key: str, x: str) -> None:
        output = f"{PREFIX}{key}"
        if self.graph.defines(output):
            return
        axis = self.graph.constant("first_axis", np.zeros(1, np.int64))
        self.graph.node("ReduceSumSquare", [x, axis], output, keepdims=0)
        self.graph.output(output, np.float32, ["columns"])


def convert_observed(
    source: ModelSource, target_dir: Path, options: ConvertOptions, progress: ProgressCallback = silent
) -> ModelManifest:
    """Write such a graph into an existing, empty folder, of stock operators but for the attention of the target.

    Raises as ``convert``.
    """
    operators = Operators(ObservedLayers, TARGETS[resolve_target(options.target)].attention)
    return convert_with(operators, source, target_dir, options, progress, Course())
