"""Memory-map a model file read-only. Nothing is read before it is asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from fastslm.errors import FileMissing, FileSystemError, FormatError


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
