"""The weights file of a model: regions reserved in order, filled at any time from any thread.

Law: a region starts at a multiple of 64 bytes, a large one at a multiple of 64 KiB, so that ONNX Runtime can map it;
every byte is written once, but by a conversion that goes on where another was killed.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

SMALL_ALIGNMENT = 64
LARGE_ALIGNMENT = 64 * 1024
LARGE_BYTES = 1024 * 1024
READ_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Region:
    """A byte range of the weights file."""

    offset: int
    size_bytes: int


class WeightsFile:
    """Writer of ``model.onnx.data``. A context manager; the file has its full length when it closes.

    With ``again`` a file that is there keeps its bytes, else there must be none.
    """

    def __init__(self, path: Path, *, again: bool = False) -> None:
        self.path = path
        self.size_bytes = 0
        self._file = path.open("r+b" if again and path.exists() else "x+b", buffering=0)

    def __enter__(self) -> WeightsFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if kind is None:
                self._file.truncate(self.size_bytes)
        finally:
            self._file.close()

    def reserve(self, size_bytes: int) -> Region:
        """The next free range of this size, aligned."""
        alignment = LARGE_ALIGNMENT if size_bytes >= LARGE_BYTES else SMALL_ALIGNMENT
        offset = -(-self.size_bytes // alignment) * alignment
        self.size_bytes = offset + size_bytes
        return Region(offset, size_bytes)

    def reserve_again(self) -> None:
        """Reserve from the beginning once more: the same calls in the same order give the same regions."""
        self.size_bytes = 0

    def checksum(self, regions: Iterable[Region]) -> int:
        """CRC-32 of the bytes of some regions, one after the other. Raises OSError."""
        total = 0
        for region in regions:
            for start in range(0, region.size_bytes, READ_BYTES):
                length = min(READ_BYTES, region.size_bytes - start)
                total = zlib.crc32(os.pread(self._file.fileno(), length, region.offset + start), total)
        return total

    def sync(self) -> None:
        """Have everything that was written on the disk itself. Raises OSError."""
        os.fsync(self._file.fileno())

    def write(self, region: Region, start: int, array: npt.NDArray[Any]) -> None:
        """Write an array ``start`` bytes into a region; calls for different ranges may run at the same time.

        Raises:
            ValueError: the array does not fit in the region.
            OSError: the disk is full or fails.
        """
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        if start < 0 or start + len(data) > region.size_bytes:
            raise ValueError(f"bytes {start} to {start + len(data)} of a region of {region.size_bytes}")
        offset = region.offset + start
        while data:
            written = os.pwrite(self._file.fileno(), data, offset)
            data, offset = data[written:], offset + written
