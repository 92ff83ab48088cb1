"""QEmbedding and SkipRMSNorm: rows of a packed table, and rows made even."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto
from tests.support.operators import OneOperator, open_session

from fastslm import _native, ops
from reference import packing


@pytest.mark.parametrize(("bits", "offset_kind"), [(4, 0), (4, 1), (4, 2), (8, 0), (8, 1), (8, 2)])
def test_rows_of_the_table(bits: int, offset_kind: int, tmp_path: Path, rng: np.random.Generator) -> None:
    """Every row comes back as the numbers that the linear layer multiplies with."""
    codes = rng.integers(0, 2**bits, (70, 64), dtype=np.uint8)
    scales, offsets = rng.random((2, 70, 2)).astype(np.float32)
    offsets = offsets if offset_kind else None
    packed = _native.pack_linear(codes, scales, offsets, bits=bits)
    attributes = {
        "K": 64,
        "N": 70,
        "bits": bits,
        "group_size": 32,
        "offsets": offset_kind,
        "layout": ops.layout_version(),
    }
    types = {"ids": TensorProto.INT64}
    session = open_session(
        OneOperator("QEmbedding", ["ids", "w"], ["y"], attributes, {"w": packed}, types).save(tmp_path)
    )
    table = packing.weights(codes, scales, offsets, bits, scaled=offset_kind == 2)
    ids = rng.permutation(70).reshape(2, 35)
    np.testing.assert_allclose(session.run(None, {"ids": ids})[0], table[ids], rtol=1e-6, atol=1e-6)
    assert session.run(None, {"ids": ids[:0]})[0].shape == (0, 35, 64)
    for wrong in (-1, 70):
        with pytest.raises(Exception, match=f"QEmbedding: id is {wrong}, expected 0 to 69"):
            session.run(None, {"ids": np.array([wrong])})


@pytest.mark.parametrize("group", [32, 64, 128, 256])
def test_rows_of_a_table_with_steps(group: int, tmp_path: Path, rng: np.random.Generator) -> None:
    """Every 32 inputs have the step and the base that are theirs."""
    codes, steps = rng.integers(0, 16, (70, 512), dtype=np.uint8), packing.Steps.random(rng, 70, 512)
    scales = rng.random((70, 512 // group)).astype(np.float32)
    packed = _native.pack_linear(codes, scales, steps=steps.steps, bases=steps.bases, bits=4)
    attributes = {"K": 512, "N": 70, "bits": 4, "group_size": group, "steps": 1, "layout": ops.layout_version()}
    types = {"ids": TensorProto.INT64}
    operator = OneOperator("QEmbedding", ["ids", "w"], ["y"], attributes, {"w": packed}, types)
    table, ids = packing.weights(codes, scales, None, 4, steps=steps), rng.permutation(70)
    np.testing.assert_allclose(open_session(operator.save(tmp_path)).run(None, {"ids": ids})[0], table[ids], rtol=1e-6)


@pytest.mark.parametrize("width", [64, 50])
@pytest.mark.parametrize("with_residual", [False, True])
def test_norm_of_the_sum(width: int, with_residual: bool, tmp_path: Path, rng: np.random.Generator) -> None:
    """The norm agrees with its definition, the second output is the plain sum."""
    weight = rng.normal(size=width).astype(np.float32)
    names = ["x", "weight", "residual"] if with_residual else ["x", "weight"]
    model = OneOperator("SkipRMSNorm", names, ["y", "sum"], {"epsilon": 1e-5}, {"weight": weight})
    session = open_session(model.save(tmp_path))
    x, residual = rng.normal(size=(2, 70, width)).astype(np.float32)
    total = x + residual if with_residual else x
    feeds = {"x": x, "residual": residual} if with_residual else {"x": x}
    found, found_sum = session.run(None, feeds)
    wide = total.astype(np.float64)
    expected = wide / np.sqrt((wide**2).mean(1, keepdims=True) + 1e-5) * weight
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert found_sum.tobytes() == total.tobytes()
    one = session.run(None, {name: value[3:4] for name, value in feeds.items()})[0]
    assert one.tobytes() == found[3:4].tobytes()


def test_the_sum_may_be_left_out(tmp_path: Path, rng: np.random.Generator) -> None:
    """The last norm of a model needs no sum."""
    model = OneOperator(
        "SkipRMSNorm", ["x", "weight", "r"], ["y"], {"epsilon": 0.0}, {"weight": np.ones(4, np.float32)}
    )
    session = open_session(model.save(tmp_path))
    x = np.array([[1, -1, 1, -1]], np.float32)
    np.testing.assert_allclose(session.run(None, {"x": x, "r": x})[0], x, rtol=1e-6)
