"""A model's tensors spread over several files, and the index that says which tensor is where."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fastslm.errors import FormatError
from fastslm.formats import checked_json
from fastslm.formats.source import Extent, TensorInfo, TensorSource

MAX_INDEX_BYTES = 100_000_000


class TensorFile(TensorSource, Protocol):
    """The tensors of one file."""

    @property
    def size_bytes(self) -> int:
        """Length of the file."""

    def raw(self, name: str, start: int = 0, stop: int | None = None) -> npt.NDArray[Any]:
        """Rows of a tensor's first dimension where they lie in the file, of its own type; all by default."""


class ShardedTensors:
    """Tensors spread over several files, as one source."""

    def __init__(self, shards: Mapping[str, TensorFile]) -> None:
        self._shards = shards

    def __iter__(self) -> Iterator[str]:
        return iter(self._shards)

    def __contains__(self, name: object) -> bool:
        return name in self._shards

    def info(self, name: str) -> TensorInfo:
        """Type and shape. Raises FormatError when there is no such tensor."""
        return self.file(name).info(name)

    def read(self, name: str, start: int = 0, stop: int | None = None) -> npt.NDArray[np.float32]:
        """Rows as float32, see ``TensorSource``."""
        return self.file(name).read(name, start, stop)

    def blocks(self, name: str, start: int = 0, stop: int | None = None) -> npt.NDArray[np.uint8]:
        """See ``TensorSource``."""
        return self.file(name).blocks(name, start, stop)

    def raw(self, name: str, start: int = 0, stop: int | None = None) -> npt.NDArray[Any]:
        """Rows of a tensor as they lie in its file, see ``TensorFile``."""
        return self.file(name).raw(name, start, stop)

    def extents(self, name: str) -> tuple[Extent, ...]:
        """See ``TensorSource``."""
        return self.file(name).extents(name)

    def file(self, name: str) -> TensorFile:
        """The file that holds a tensor. Raises FormatError when there is no such tensor."""
        try:
            return self._shards[name]
        except KeyError:
            raise FormatError(f"tensor `{name}` is missing in the model", subject=name) from None


def open_indexed(
    index: Path, suffix: str, opener: Callable[[Path], TensorFile]
) -> tuple[ShardedTensors, dict[str, int]]:
    """Open the files that an index names.

    Returns:
        The tensors, and each file's name with its size in bytes.

    Raises:
        FileMissing: a file is not there.
        FormatError: the index or a file is damaged, or they do not agree.
    """
    weight_map = checked_json.get(checked_json.read_object(index, MAX_INDEX_BYTES), "weight_map", dict, str(index))
    if not weight_map:
        raise FormatError(f"`{index}`: `weight_map` is missing or empty", subject=str(index), expected="weight_map")
    files = {name: opener(index.parent / name) for name in _file_names(weight_map, suffix, str(index))}
    shards: dict[str, TensorFile] = {}
    for tensor, name in weight_map.items():
        if tensor not in files[name]:
            message = f"`{index}` places tensor {checked_json.quoted(tensor)} in `{name}`, which does not have it"
            raise FormatError(message, subject=tensor, expected=name)
        shards[tensor] = files[name]
    return ShardedTensors(shards), {name: file.size_bytes for name, file in files.items()}


def _file_names(weight_map: Mapping[str, Any], suffix: str, subject: str) -> list[str]:
    """The distinct file names of an index; only plain names in the same folder are taken."""
    names: dict[str, None] = {}
    for tensor, name in weight_map.items():
        plain = isinstance(name, str) and name == Path(name).name and "\\" not in name and "\0" not in name
        if not plain or not name.endswith(suffix):
            place = f"tensor {checked_json.quoted(tensor)} in {checked_json.shorten(name)}"
            message = f"`{subject}` places {place}, expected a file name"
            raise FormatError(message, subject=tensor, expected=f"*{suffix}", found=name)
        names[name] = None
    return list(names)
