"""Memory-map a model file read-only. Nothing is read before it is asked for, and what was read can be let go."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastslm.errors import FileMissing, FileSystemError, FormatError

HASHED_BYTES = 1 << 20


def map_file(path: Path) -> npt.NDArray[np.uint8]:
    """The bytes of a file as a read-only array over its pages.

    Raises:
        FileMissing: there is no such file.
        FileSystemError: it cannot be read.
        FormatError: it is empty.
    """
    try:
        if path.stat().st_size == 0:
            raise FormatError(f"`{path}` is empty", subject=str(path), found=0)
        mapped = np.memmap(path, dtype=np.uint8, mode="r")
    except FileNotFoundError:
        raise FileMissing(f"`{path}` does not exist", what="file", name=str(path)) from None
    except OSError as error:
        message = f"`{path}` cannot be read: {error.strerror}"
        raise FileSystemError(message, path=str(path), errno=error.errno or 0) from error
    # A plain array over the map: slices of np.memmap are slow, and the map lives as long as any view of it.
    return mapped.view(np.ndarray)


class ModelFile:
    """The bytes of one model file: ``outline`` for whoever reads its header, ``part`` for the rest."""

    def __init__(self, path: Path) -> None:
        """Raises as ``map_file``."""
        self.outline = map_file(path)

    def part(self, begin: int, end: int) -> npt.NDArray[np.uint8]:
        """Bytes ``begin`` up to ``end``. Those of a file that is still arriving are waited for."""
        return self.outline[begin:end]


Opener = Callable[[Path], ModelFile]
"""Opens a file of a model. Raises as ``map_file``."""


def digest_of(parts: Iterable[npt.NDArray[np.uint8]]) -> str:
    """SHA-256 of some bytes, one after the other."""
    digest = hashlib.sha256()
    for part in parts:
        for start in range(0, len(part), HASHED_BYTES):
            piece = part[start : start + HASHED_BYTES]
            digest.update(piece.data)
            let_go(piece)
    return digest.hexdigest()


def let_go(view: npt.NDArray[Any]) -> None:
    """Tell the system that a part of a mapped file was read for the last time.

    Its pages then leave this process's resident memory, so that a model of any size is converted in little of it; they
    stay in the page cache, and reading them again is slow at worst. Does nothing where it is not supported, or for an
    array that is not a contiguous view of a map.
    """
    owner: Any = view
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if not isinstance(owner, mmap.mmap) or not hasattr(mmap, "MADV_DONTNEED"):
        return
    if not view.size or not view.flags.c_contiguous:
        return
    offset = _address(view) - _address(np.frombuffer(owner, np.uint8))
    start = offset // mmap.PAGESIZE * mmap.PAGESIZE
    owner.madvise(mmap.MADV_DONTNEED, start, offset + view.nbytes - start)


def _address(array: npt.NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])
