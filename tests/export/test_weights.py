"""The weights file: aligned regions, written in any order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastslm.export.weights import LARGE_ALIGNMENT, LARGE_BYTES, SMALL_ALIGNMENT, WeightsFile


@given(sizes=st.lists(st.integers(0, 3 * LARGE_BYTES), max_size=20))
def test_regions_are_aligned_and_do_not_overlap(tmp_path_factory: pytest.TempPathFactory, sizes: list[int]) -> None:
    """ONNX Runtime maps each of them."""
    path = tmp_path_factory.mktemp("weights") / "w"
    with WeightsFile(path) as file:
        regions = [file.reserve(size) for size in sizes]
    end = 0
    for size, region in zip(sizes, regions, strict=True):
        alignment = LARGE_ALIGNMENT if size >= LARGE_BYTES else SMALL_ALIGNMENT
        assert region.offset % alignment == 0
        assert end <= region.offset < end + alignment
        end = region.offset + region.size_bytes
    assert path.stat().st_size == end


def test_parts_arrive_in_any_order(tmp_path: Path) -> None:
    """Rows are quantised by several threads."""
    with WeightsFile(tmp_path / "w") as file:
        first, second = file.reserve(8), file.reserve(16)
        file.write(second, 8, np.array([7, 8], np.uint32))
        file.write(first, 0, np.arange(8, dtype=np.uint8))
        file.write(second, 0, np.array([[5], [6]], np.uint32))
    data = (tmp_path / "w").read_bytes()
    assert data[:8] == bytes(range(8))
    assert np.frombuffer(data[second.offset :], np.uint32).tolist() == [5, 6, 7, 8]


@pytest.mark.parametrize("start", [-1, 1])
def test_writing_outside_a_region_is_refused(tmp_path: Path, start: int) -> None:
    """A wrong shape must not overwrite a neighbour."""
    with WeightsFile(tmp_path / "w") as file:
        region = file.reserve(8)
        with pytest.raises(ValueError, match="region of 8"):
            file.write(region, start, np.zeros(8, np.uint8))


def test_an_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    """The target folder is meant to be new."""
    (tmp_path / "w").write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        WeightsFile(tmp_path / "w")
    assert (tmp_path / "w").read_bytes() == b"precious"
