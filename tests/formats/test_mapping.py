"""Mapped files: what was read can be let go without harm."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from fastslm.errors import FileMissing, FormatError
from fastslm.formats.mapping import let_go, map_file

MIB = 1024 * 1024


def resident_file_bytes() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("RssFile:")[1].split()[0]) * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_converting_a_large_file_does_not_fill_the_memory(tmp_path: Path) -> None:
    """Pages that were read for the last time do not count as this process's memory any more."""
    path = tmp_path / "weights"
    path.write_bytes(bytes(64 * MIB))
    data = map_file(path)
    data.sum()
    before = resident_file_bytes()
    let_go(data[100 : 60 * MIB])
    assert before - resident_file_bytes() > 50 * MIB


def test_bytes_can_be_read_again(tmp_path: Path) -> None:
    """Letting go is about memory, never about content."""
    path = tmp_path / "weights"
    content = np.random.default_rng(0).integers(0, 256, MIB, np.uint8)
    path.write_bytes(content.tobytes())
    data = map_file(path)
    for part in (data[1000:900_000], data[5:6], data[:0], data.reshape(1024, 1024)[3:9], data[::2]):
        let_go(part)
    np.testing.assert_array_equal(data, content)


def test_an_array_that_is_no_view_of_a_file_is_left_alone() -> None:
    """Callers need not know where an array comes from."""
    array = np.arange(10)
    let_go(array)
    assert array.tolist() == list(range(10))


def test_missing_and_empty_files_are_named(tmp_path: Path) -> None:
    """The error says which file."""
    with pytest.raises(FileMissing, match="gone"):
        map_file(tmp_path / "gone")
    (tmp_path / "empty").touch()
    with pytest.raises(FormatError, match="empty"):
        map_file(tmp_path / "empty")
