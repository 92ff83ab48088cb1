"""Foreign, damaged and misplaced weights are refused in one sentence, never read."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.support.operators import OneOperator, open_session

from fastslm import _native, ops

GOOD = {"K": 64, "N": 32, "bits": 4, "group_size": 32, "offsets": 0, "layout": ops.layout_version()}


def linear(folder: Path, *, shift: int = 0, size: int = 2 * 576, **changed: int) -> object:
    weights = {"w": np.zeros(size, np.uint8)}
    model = OneOperator("QLinear", ["x", "w"], ["y"], GOOD | changed, weights, shift=shift)
    return open_session(model.save(folder))


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"layout": 9}, f"packed layout is version 9, expected {ops.layout_version()}"),
        ({"bits": 5}, "attribute `bits` is 5, expected 4 or 8"),
        ({"group_size": 48}, "attribute `group_size` is 48, expected 32, 64 or 128"),
        ({"K": 80}, "attribute `K` is 80, expected a multiple of group_size 32"),
        ({"N": 33}, r"packed weights have shape \[1152\], expected \[2304\] for N 33 and K 64"),
        ({"K": 0}, "attribute `K` is 0, expected 1 to"),
        ({"offsets": 1}, r"packed weights have shape \[1152\], expected \[1280\]"),
        ({"offsets": 3}, "attribute `offsets` is 3, expected 0 to 2"),
        ({"group_size": 256, "K": 256}, "attribute `group_size` is 256, expected 32 to 128"),
        ({"group_size": 256, "steps": 1}, "attribute `K` is 64, expected a multiple of group_size 256"),
        ({"steps": 1}, r"packed weights have shape \[1152\], expected \[1280\]"),
        ({"steps": 2}, "attribute `steps` is 2, expected 0 to 1"),
        ({"steps": 1, "bits": 8}, "attribute `steps` is 1, expected 0 to 0"),
        ({"steps": 1, "offsets": 1}, "attribute `steps` is 1, expected 0 to 0"),
        ({"bits": 8}, r"packed weights have shape \[1152\], expected \[2176\]"),
        ({"shift": 4}, "packed weights lie 4 bytes past a multiple of 64, expected 0"),
        ({"size": 1100}, r"packed weights have shape \[1100\], expected \[1152\]"),
    ],
    ids=str,
)
def test_a_graph_that_does_not_fit_its_weights_does_not_load(
    changed: dict[str, int], sentence: str, tmp_path: Path
) -> None:
    """What is wrong shows when the model is loaded, not in the middle of an answer."""
    with pytest.raises(Exception, match=f"QLinear: {sentence}"):
        linear(tmp_path, **changed)


def test_activations_of_another_width_are_refused(tmp_path: Path) -> None:
    """The message has the shape found and the shape expected."""
    with pytest.raises(Exception, match=r"QLinear: input has shape \[2, 63\], expected \[..., 64\]"):
        linear(tmp_path).run(None, {"x": np.zeros((2, 63), np.float32)})


def test_weights_that_arrive_at_run_time_are_checked_then(tmp_path: Path, rng: np.random.Generator) -> None:
    """An operator in a graph that computes its weights works, and refuses wrong sizes."""
    from onnx import TensorProto

    model = OneOperator("QLinear", ["x", "w"], ["y"], GOOD, types={"w": TensorProto.UINT8})
    session = open_session(model.save(tmp_path))
    codes, scales = rng.integers(0, 16, (32, 64), dtype=np.uint8), np.ones((32, 2), np.float32)
    memory = np.zeros(1152 + 64, np.uint8)
    start = -memory.ctypes.data % 64
    aligned = memory[start : start + 1152]
    aligned[:] = _native.pack_linear(codes, scales, bits=4)
    x = np.eye(64, dtype=np.float32)
    np.testing.assert_allclose(session.run(None, {"x": x, "w": aligned})[0], codes.T.astype(np.float32) - 8, rtol=1e-6)
    with pytest.raises(Exception, match=r"packed weights have shape \[1100\]"):
        session.run(None, {"x": x, "w": aligned[:1100].copy()})


@pytest.mark.parametrize("name", ["sse9", "AVX2", "avx512-vnni "])
def test_an_unknown_instruction_set_is_an_error_with_the_known_ones(name: str) -> None:
    """A typing error does not silently run something else."""
    code = "import onnxruntime, fastslm.ops as o; s = onnxruntime.SessionOptions();"
    code += "s.register_custom_ops_library(str(o.library_path()))"
    environment = os.environ | {"FASTSLM_ISA": name}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    expected = ", ".join(ops.available_isas())
    assert f"FASTSLM_ISA is `{name}`, expected one that this processor has: {expected}" in done.stderr
