"""The tensors of ``pytorch_model.bin``, one file or sharded, memory-mapped. Nothing in them is believed unchecked."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastslm.errors import FileMissing, FormatError, UnsupportedModel
from fastslm.formats.checked_json import quoted
from fastslm.formats.floats import ITEM_TYPES, WHOLE_TYPES, row_range, to_float32
from fastslm.formats.mapping import let_go, map_file
from fastslm.formats.pickled.container import ITEM_BYTES, read_container
from fastslm.formats.pickled.machine import Strided
from fastslm.formats.shards import ShardedTensors, open_indexed
from fastslm.formats.source import Extent, TensorInfo

SINGLE = "pytorch_model.bin"
INDEX = "pytorch_model.bin.index.json"
MAX_RANK = 16
TYPES = {**ITEM_TYPES, **WHOLE_TYPES}


class PickledFile:
    """The tensors of one file. Opening reads the pickle only; data pages are touched by ``read``."""

    def __init__(self, path: Path) -> None:
        """Map and check a file.

        Raises:
            FileMissing, FileSystemError: it is not there or cannot be read.
            FormatError: it is damaged, or holds something else than tensors.
            UnsupportedModel: it was written in a way that we do not read.
        """
        self.path = path
        self._data = map_file(path)
        self.size_bytes = len(self._data)
        root, self._ranges = read_container(path, self._data)
        if not isinstance(root, dict):
            raise FormatError(f"`{path}` holds a {type(root).__name__}, expected tensors by name", subject=str(path))
        named = {name: value for name, value in root.items() if isinstance(value, Strided) and isinstance(name, str)}
        self._tensors = {name: self._checked(name, tensor) for name, tensor in named.items()}

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def info(self, name: str) -> TensorInfo:
        """Type and shape. Raises FormatError when there is no such tensor."""
        tensor = self._tensor(name)
        return TensorInfo(name, tensor.storage.dtype, tensor.shape)

    def read(self, name: str, start: int = 0, stop: int | None = None) -> npt.NDArray[np.float32]:
        """Rows ``start:stop`` as float32 of shape ``[rows, ...]``.

        Raises:
            FormatError: there is no such tensor.
            UnsupportedModel: its elements are not plain floats.
        """
        tensor = self._tensor(name)
        dtype = tensor.storage.dtype
        if dtype not in ITEM_TYPES:
            message = f"tensor `{name}` has type `{dtype}`, expected one of {', '.join(ITEM_TYPES)}"
            raise UnsupportedModel(message, feature=dtype)
        values = self._view(tensor)
        if not tensor.shape:
            return to_float32(values, dtype)
        first, last = row_range(tensor.shape[0], start, stop)
        result = to_float32(values[first:last], dtype)
        let_go(values[first:last])
        return result

    def extents(self, name: str) -> tuple[Extent, ...]:
        """The whole file: a tensor may be a view of any part of it."""
        self._tensor(name)
        return (Extent(self.path, 0, self.size_bytes),)

    def raw(self, name: str, start: int = 0, stop: int | None = None) -> npt.NDArray[Any]:
        """Rows of the first dimension where they lie in the file, of their own type. Raises FormatError."""
        values = self._view(self._tensor(name))
        return values[start:stop] if values.ndim else values

    def blocks(self, name: str, start: int = 0, stop: int | None = None) -> npt.NDArray[np.uint8]:
        """Always raises FormatError: there are no quantised blocks."""
        message = f"tensor `{name}` has type `{self.info(name).dtype}`, expected quantised blocks"
        raise FormatError(message, subject=name, found=self.info(name).dtype)

    def _tensor(self, name: str) -> Strided:
        try:
            return self._tensors[name]
        except KeyError:
            raise FormatError(f"tensor `{name}` is missing in `{self.path}`", subject=name) from None

    def _view(self, tensor: Strided) -> npt.NDArray[Any]:
        """The numbers where they lie in the file; checked when the file was opened."""
        begin, end = self._ranges[tensor.storage.key]
        size = ITEM_BYTES[tensor.storage.dtype]
        flat = self._data[begin + size * tensor.offset : end].view(TYPES[tensor.storage.dtype])
        contiguous = tensor.strides == tuple(math.prod(tensor.shape[i + 1 :]) for i in range(len(tensor.shape)))
        if contiguous:
            return flat[: math.prod(tensor.shape)].reshape(tensor.shape)
        return np.lib.stride_tricks.as_strided(
            flat, tensor.shape, [size * stride for stride in tensor.strides], writeable=False
        )

    def _checked(self, name: str, tensor: Strided) -> Strided:
        """Refuse a tensor that is not within its storage, or a storage that is not within the file."""
        storage, label = tensor.storage, f"tensor {quoted(name)} in `{self.path}`"
        if not name.isprintable() or len(tensor.shape) != len(tensor.strides) or len(tensor.shape) > MAX_RANK:
            message = f"{label} has {len(tensor.shape)} dimensions and {len(tensor.strides)} strides"
            raise FormatError(f"{message}, expected the same number, at most {MAX_RANK}", subject=name)
        begin, end = self._ranges.get(storage.key, (0, -1))
        if storage.length * ITEM_BYTES[storage.dtype] != end - begin:
            message = f"{label} has {end - begin} bytes, expected {storage.length} numbers of type {storage.dtype}"
            raise FormatError(message, subject=name, expected=storage.length, found=end - begin)
        count = math.prod(tensor.shape)
        last = tensor.offset + sum((size - 1) * step for size, step in zip(tensor.shape, tensor.strides, strict=True))
        if count and (last >= storage.length or count > storage.length):
            message = f"{label} takes {count} numbers up to {last}, expected less than {storage.length}"
            raise FormatError(message, subject=name, expected=storage.length, found=last)
        return tensor if count else tensor._replace(offset=0)


def open_pickled(folder: Path) -> tuple[ShardedTensors, dict[str, int]]:
    """Open the weights of a folder: ``pytorch_model.bin``, else what its index names.

    Returns:
        The tensors, and each file's name with its size in bytes.

    Raises:
        FileMissing: there are no weights, or a shard is not there.
        FormatError, UnsupportedModel: see ``PickledFile``.
    """
    if (folder / SINGLE).is_file():
        file = PickledFile(folder / SINGLE)
        return ShardedTensors(dict.fromkeys(file, file)), {SINGLE: file.size_bytes}
    if (folder / INDEX).is_file():
        return open_indexed(folder / INDEX, ".bin", PickledFile)
    raise FileMissing(f"`{folder}` holds no `{SINGLE}`", what="file", name=SINGLE)


def has_pickled(folder: Path) -> bool:
    """Whether a folder has weights for ``open_pickled``."""
    return (folder / SINGLE).is_file() or (folder / INDEX).is_file()
