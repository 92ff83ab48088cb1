"""Tensors as a graph wants them: any rows, in any order, read in any pieces."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastslm.export.decoder.tensors import ArrangedTensors, Tensor, head_runs
from support.memory_source import MemoryTensors

MATRIX = np.arange(12 * 32, dtype=np.float32).reshape(12, 32)


def arranged(tensor: Tensor, kind: str | None = None) -> ArrangedTensors:
    return ArrangedTensors(MemoryTensors({"m.weight": MATRIX}, {"m.weight": kind} if kind else {}), [tensor])


def test_a_fused_tensor_becomes_two() -> None:
    """Gate and up of Phi-3; their names differ, and neither is the tensor's own."""
    parts = [Tensor("m.weight", (12, 32), runs=(run,)) for run in ((0, 6), (6, 12))]
    tensors = ArrangedTensors(MemoryTensors({"m.weight": MATRIX}), parts)
    assert [part.key for part in parts] == ["m[0:6].weight", "m[6:12].weight"]
    for part, rows in zip(parts, (MATRIX[:6], MATRIX[6:]), strict=True):
        assert tensors.info(part.key).shape == (6, 32)
        np.testing.assert_array_equal(tensors.read(part.key), rows)


def test_heads_are_put_in_order() -> None:
    """Query, key and value of two heads of two rows each lie head by head."""
    order = [0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11]
    tensor = Tensor("m.weight", (12, 32), runs=head_runs(2, 2, 3))
    np.testing.assert_array_equal(arranged(tensor).read("m.weight"), MATRIX[order])


@settings(deadline=None)
@given(st.permutations(range(6)), st.integers(0, 11), st.integers(1, 14))
def test_pieces_of_any_order_are_pieces_of_the_whole(order: list[int], start: int, length: int) -> None:
    """The converter reads a few rows at a time; blocks go the same way as floats."""
    stop = start + length
    tensor = Tensor("m.weight", (12, 32), runs=tuple((2 * i, 2 * i + 2) for i in order))
    rows = [row for i in order for row in (2 * i, 2 * i + 1)]
    np.testing.assert_array_equal(arranged(tensor).read("m.weight", start, stop), MATRIX[rows][start:stop])
    blocks = arranged(tensor, "Q8_0")
    plain = MemoryTensors({"m.weight": MATRIX}, {"m.weight": "Q8_0"}).blocks("m.weight")
    np.testing.assert_array_equal(blocks.blocks("m.weight", start, stop), plain[rows][start:stop])


@pytest.mark.parametrize("kind", [None, "Q8_0"])
def test_a_transposed_matrix_is_read_by_its_columns(kind: str | None) -> None:
    """GPT-2's files hold [columns, rows]; blocks along the wrong axis are floats to the graph."""
    tensor = Tensor("m.weight", (12, 32), transposed=True)
    tensors = arranged(tensor, kind)
    whole = MemoryTensors({"m.weight": MATRIX}, {"m.weight": kind} if kind else {}).read("m.weight").T
    assert (tensors.info("m.weight").shape, tensors.info("m.weight").dtype) == ((32, 12), "F32")
    np.testing.assert_array_equal(tensors.read("m.weight", 5, 9), whole[5:9])
    np.testing.assert_array_equal(tensors.read("m.weight"), whole)


def test_norm_weights_around_zero_are_shifted() -> None:
    """Gemma."""
    tensors = arranged(Tensor("m.weight", (12, 32), added=1.0))
    np.testing.assert_array_equal(tensors.read("m.weight", 2, 4), MATRIX[2:4] + 1)


def test_other_tensors_stay_as_they_are() -> None:
    """And are all listed."""
    source = MemoryTensors({"m.weight": MATRIX, "n": MATRIX[0]})
    tensors = ArrangedTensors(source, [Tensor("m.weight", (12, 32), runs=((0, 6),)), Tensor("n", (32,))])
    assert sorted(tensors) == ["m.weight", "m[0:6].weight", "n"]
    assert "n" in tensors
    assert "m[0:6].weight" in tensors
    assert "x" not in tensors
    np.testing.assert_array_equal(tensors.read("n", 1, 3), MATRIX[0, 1:3])
    assert tensors.info("n").shape == (32,)
    assert len(ArrangedTensors(MemoryTensors({"q": MATRIX}, {"q": "Q8_0"}), []).blocks("q", 0, 2)) == 2
