"""Tensors are checked before anything is written, and written in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from fastslm.errors import ConversionFailed, FormatError, UnsupportedModel
from fastslm.export import matrices
from fastslm.export.matrices import MatrixWriter, WantedTensor, check_tensors
from fastslm.export.weights import WeightsFile
from support.memory_source import MemoryTensors

TENSORS = MemoryTensors({"a": np.ones((4, 32)), "b": np.ones(4)})
WANTED = [WantedTensor("a", (4, 32)), WantedTensor("b", (4,))]


def test_everything_there_is_counted() -> None:
    """The count is what progress is measured against."""
    assert check_tensors(TENSORS, WANTED) == 2


def test_a_missing_tensor_is_named_before_an_endless_list_is_read() -> None:
    """A configuration may claim a billion layers."""

    def endless() -> Iterator[WantedTensor]:
        yield from WANTED
        while True:
            yield WantedTensor("layers.2.weight", (1,))

    with pytest.raises(FormatError, match=r"tensor `layers\.2\.weight` is missing"):
        check_tensors(TENSORS, endless())


def test_a_wrong_shape_names_both() -> None:
    """Found and expected."""
    with pytest.raises(FormatError, match=r"tensor `a` has shape `\[4, 32\]`, expected \[32, 4\]") as caught:
        check_tensors(TENSORS, [WantedTensor("a", (32, 4))])
    assert (caught.value.found, caught.value.expected) == ((4, 32), (32, 4))


def test_a_tensor_without_a_place_is_refused() -> None:
    """A bias or norm that the graph would ignore makes every answer wrong."""
    with pytest.raises(UnsupportedModel, match="tensor `b` has no place"):
        check_tensors(TENSORS, WANTED[:1])


def test_tables_and_copies_may_be_left_unread() -> None:
    """Old checkpoints carry rotary tables and masks, tied ones a copy of the embedding."""
    masks = {name: np.ones((1, 1, 4, 4)) for name in ("h.0.attn.bias", "gpt_neox.layers.0.attention.masked_bias")}
    extra = {"layers.0.self_attn.rotary_emb.inv_freq": np.ones(4), "lm_head.weight": np.ones((4, 32)), **masks}
    assert check_tensors(MemoryTensors({**TENSORS.arrays, **extra}), WANTED) == 2


def test_small_pieces_make_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How a matrix is cut into tasks is nobody's business."""
    tensors = MemoryTensors({"a": np.random.default_rng(0).normal(size=(50, 64))})
    files = []
    for pieces in (64, 64 * 7, 10**9):
        monkeypatch.setattr(matrices, "CHUNK_WEIGHTS", pieces)
        path = tmp_path / str(pieces)
        with WeightsFile(path) as weights, ThreadPoolExecutor(3) as pool:
            MatrixWriter(tensors, weights, "int4", pool, lambda name: None).store("a")
        files.append(path.read_bytes())
    assert files[0] == files[1] == files[2]


def test_the_first_failure_stops_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A NaN in the first rows of a large tensor is reported without quantising the others."""
    monkeypatch.setattr(matrices, "CHUNK_WEIGHTS", 32)
    values = np.ones((3000, 32), np.float32)
    values[0, 0] = np.nan
    reads = []

    class Counting(MemoryTensors):
        def read(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
            reads.append(start)
            return super().read(name, start, stop)

    with WeightsFile(tmp_path / "w") as weights, ThreadPoolExecutor(1) as pool:
        writer = MatrixWriter(Counting({"a": values}), weights, "int8", pool, lambda name: None)
        with pytest.raises(ConversionFailed, match="tensor `a` holds `nan`"):
            writer.store("a")
    assert len(reads) < 3000


def test_vectors_are_joined_and_checked(tmp_path: Path) -> None:
    """Biases of query, key and value become one."""
    tensors = MemoryTensors({"a": np.array([1, 2]), "b": np.array([3]), "c": np.array([np.inf])})
    seen: list[str] = []
    with WeightsFile(tmp_path / "w") as weights, ThreadPoolExecutor(1) as pool:
        writer = MatrixWriter(tensors, weights, "int4", pool, seen.append)
        assert writer.vector("a", "b").tolist() == [1, 2, 3]
        with pytest.raises(ConversionFailed, match="tensor `c` holds `inf`"):
            writer.vector("a", "c")
    assert seen[:2] == ["a", "b"]
