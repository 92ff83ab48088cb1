"""safetensors files, one or sharded, memory-mapped. No header field is believed before it is checked.

Format: 8 bytes little-endian header length, a JSON object of name to dtype, shape and data_offsets, then the data,
which the tensors cover without hole or overlap (huggingface/safetensors, "Format" in its README).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastslm.errors import FileMissing, FormatError, UnsupportedModel
from fastslm.formats import checked_json
from fastslm.formats.floats import ITEM_TYPES, WHOLE_TYPES, row_range, to_float32
from fastslm.formats.mapping import ModelFile, Opener, let_go, map_file
from fastslm.formats.shards import ShardedTensors, open_indexed
from fastslm.formats.source import Extent, TensorInfo

MAX_HEADER_BYTES = 100_000_000
"""The limit of the reference implementation."""

MAX_RANK = 16
MAX_NAME_CHARS = 1024
INDEX_NAME = "model.safetensors.index.json"

_BITS = {
    **{"BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8},
    **{"I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32},
    **{"I64": 64, "U64": 64, "F64": 64, "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6},
}
_FLOAT_WIDTHS = {"BF16": 2, "F16": 2, "F32": 4}


@dataclass(frozen=True)
class _Entry:
    info: TensorInfo
    begin: int
    end: int


class SafetensorsFile:
    """The tensors of one file. Opening reads the header only; data pages are touched by ``read``."""

    def __init__(self, path: Path, opener: Opener = ModelFile) -> None:
        """Map and check a file.

        Raises:
            FileMissing, FileSystemError: it is not there or cannot be read.
            FormatError: its header is damaged.
        """
        self.path = path
        self._file = opener(path)
        data = self._file.outline
        self.size_bytes = len(data)
        header, self._begin = _header(data, str(path))
        self._entries = _entries(header, len(data) - self._begin, str(path))

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def info(self, name: str) -> TensorInfo:
        """Type and shape. Raises FormatError when there is no such tensor."""
        return self._entry(name).info

    def read(self, name: str, start: int = 0, stop: int | None = None) -> npt.NDArray[np.float32]:
        """Rows ``start:stop`` as float32 of shape ``[rows, ...]``.

        Raises:
            FormatError: there is no such tensor.
            UnsupportedModel: its elements are not plain floats.
        """
        entry = self._entry(name)
        info = entry.info
        if info.dtype not in ITEM_TYPES:
            message = f"tensor `{name}` has type `{info.dtype}`, expected one of {', '.join(ITEM_TYPES)}"
            raise UnsupportedModel(message, feature=info.dtype)
        values = self._rows(entry, ITEM_TYPES[info.dtype], start, stop)
        result = to_float32(values, info.dtype)
        if info.shape:
            let_go(values)
        return result

    def raw(self, name: str, start: int = 0, stop: int | None = None) -> npt.NDArray[Any]:
        """Rows of the first dimension where they lie in the file, of their own type; bfloat16 as 16 bits.

        Raises:
            FormatError: there is no such tensor.
            UnsupportedModel: numpy has no such type.
        """
        entry = self._entry(name)
        kind = {**ITEM_TYPES, **WHOLE_TYPES}.get(entry.info.dtype)
        if kind is None:
            message = f"tensor `{name}` has type `{entry.info.dtype}`, expected plain numbers"
            raise UnsupportedModel(message, feature=entry.info.dtype)
        return self._rows(entry, kind, start, stop)

    def blocks(self, name: str, start: int = 0, stop: int | None = None) -> npt.NDArray[np.uint8]:
        """Always raises FormatError: safetensors holds no quantised blocks."""
        message = f"tensor `{name}` has type `{self.info(name).dtype}`, expected quantised blocks"
        raise FormatError(message, subject=name, found=self.info(name).dtype)

    def extents(self, name: str) -> tuple[Extent, ...]:
        """See ``TensorSource``."""
        entry = self._entry(name)
        return (Extent(self.path, self._begin + entry.begin, self._begin + entry.end),)

    def _rows(self, entry: _Entry, kind: str, start: int, stop: int | None) -> npt.NDArray[Any]:
        """Rows of the first dimension where they lie; a number by itself is all there is."""
        shape, begin = entry.info.shape, self._begin + entry.begin
        if not shape:
            return self._file.part(begin, self._begin + entry.end).view(kind).reshape(())
        first, last = row_range(shape[0], start, stop)
        size = (entry.end - entry.begin) // max(1, shape[0])
        return self._file.part(begin + first * size, begin + last * size).view(kind).reshape(last - first, *shape[1:])

    def _entry(self, name: str) -> _Entry:
        try:
            return self._entries[name]
        except KeyError:
            raise FormatError(f"tensor `{name}` is missing in `{self.path}`", subject=name) from None


@dataclass(frozen=True)
class Region:
    """Bytes ``begin`` up to ``end`` of a file: floats of ``width`` bytes (2 or 4), or anything (1)."""

    begin: int
    end: int
    width: int


def number_regions(path: Path) -> tuple[Region, ...]:
    """What the bytes of a safetensors file are, from its first to its last; neighbours of one kind are one region.

    Raises:
        FileMissing, FileSystemError: it is not there or cannot be read.
        FormatError: its header is damaged.
    """
    data = map_file(path)
    header, begin = _header(data, str(path))
    entries = sorted(_entries(header, len(data) - begin, str(path)).values(), key=lambda entry: entry.begin)
    regions = [Region(0, begin, 1)]
    for entry in entries:
        piece = Region(begin + entry.begin, begin + entry.end, _FLOAT_WIDTHS.get(entry.info.dtype, 1))
        last = regions[-1]
        in_step = last.width == piece.width and (piece.begin - last.begin) % piece.width == 0
        if in_step:
            regions[-1] = Region(last.begin, piece.end, last.width)
        elif piece.end > piece.begin:
            regions.append(piece)
    return tuple(regions)


def open_safetensors(folder: Path, opener: Opener = ModelFile) -> tuple[ShardedTensors, dict[str, int]]:
    """Open the weights of a folder: ``model.safetensors``, else what the index names, else the only such file.

    Returns:
        The tensors, and each file's name with its size in bytes.

    Raises:
        FileMissing: there are no weights, or a shard is not there.
        FormatError: the index or a file is damaged, or they do not agree.
    """
    single, index = folder / "model.safetensors", folder / INDEX_NAME
    if index.is_file() and not single.is_file():
        return open_indexed(index, ".safetensors", lambda path: SafetensorsFile(path, opener))
    found = [single] if single.is_file() else sorted(folder.glob("*.safetensors"))
    if not found:
        raise FileMissing(f"`{folder}` holds no safetensors file", what="file", name="model.safetensors")
    if len(found) > 1:
        message = (
            f"`{folder}` holds {len(found)} safetensors files and no `{INDEX_NAME}`, expected one file or an index"
        )
        raise FormatError(message, subject=str(folder), expected=1, found=len(found))
    file = SafetensorsFile(found[0], opener)
    return ShardedTensors(dict.fromkeys(file, file)), {file.path.name: file.size_bytes}


def _header(data: npt.NDArray[np.uint8], subject: str) -> tuple[dict[str, Any], int]:
    """The parsed header and the offset of the data behind it."""
    if len(data) < 8:
        message = f"`{subject}` has {len(data)} bytes, expected at least 8"
        raise FormatError(message, subject=subject, expected=8, found=len(data))
    (length,) = struct.unpack_from("<Q", data.data)
    most = min(MAX_HEADER_BYTES, len(data) - 8)
    if not 2 <= length <= most:
        message = f"`{subject}` announces a header of {length} bytes, expected 2 to {most}"
        raise FormatError(message, subject=subject, expected=most, found=length)
    text = data[8 : 8 + length].tobytes()
    if not text.startswith(b"{"):
        raise FormatError(f"`{subject}` has a header that is not a JSON object", subject=subject, expected="{")
    try:
        header = checked_json.parse_object(text.decode("utf-8"), subject)
    except UnicodeDecodeError as error:
        raise FormatError(f"`{subject}` has a header that is not UTF-8", subject=subject) from error
    return header, 8 + length


def _entries(header: dict[str, Any], size: int, subject: str) -> dict[str, _Entry]:
    """Check every tensor, and that together they cover the data exactly once."""
    header.pop("__metadata__", None)
    unprintable = next((name for name in header if not name.isprintable() or len(name) > MAX_NAME_CHARS), None)
    if unprintable is not None:
        message = f"`{subject}` has a tensor name that is not printable: {checked_json.shorten(unprintable)}"
        raise FormatError(message, subject=subject, found=unprintable)
    entries = {name: _entry(name, value) for name, value in header.items()}
    expected = 0
    for entry in sorted(entries.values(), key=lambda e: (e.begin, e.end)):
        if entry.begin != expected:
            kind = "overlaps the tensor before it" if entry.begin < expected else "leaves a hole before it"
            message = (
                f"tensor `{entry.info.name}` in `{subject}` {kind}: it begins at {entry.begin}, expected {expected}"
            )
            raise FormatError(message, subject=entry.info.name, expected=expected, found=entry.begin)
        expected = entry.end
    if expected != size:
        message = f"`{subject}` holds {size} bytes of tensor data, expected {expected}"
        raise FormatError(message, subject=subject, expected=expected, found=size)
    return entries


def _entry(name: str, value: Any) -> _Entry:
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        message = (
            f"tensor `{name}` is described by {checked_json.shorten(value)}, expected dtype, shape and data_offsets"
        )
        raise FormatError(message, subject=name)
    dtype = value["dtype"]
    if not isinstance(dtype, str) or dtype not in _BITS:
        message = f"tensor `{name}` has unknown type {checked_json.shorten(dtype)}"
        raise FormatError(message, subject=name, found=dtype)
    shape = _naturals(value["shape"], name, "shape")
    offsets = _naturals(value["data_offsets"], name, "data_offsets")
    if len(offsets) != 2 or len(shape) > MAX_RANK:
        message = (
            f"tensor `{name}` has {len(shape)} dimensions and {len(offsets)} offsets, expected at most {MAX_RANK} and 2"
        )
        raise FormatError(message, subject=name)
    bits = math.prod(shape) * _BITS[dtype]
    if bits != (offsets[1] - offsets[0]) * 8:
        message = f"tensor `{name}` of type {dtype} takes {offsets[1] - offsets[0]} bytes, expected {bits / 8:.15g}"
        raise FormatError(message, subject=name, expected=bits // 8, found=offsets[1] - offsets[0])
    return _Entry(TensorInfo(name, dtype, shape), offsets[0], offsets[1])


def _naturals(value: Any, name: str, key: str) -> tuple[int, ...]:
    """A JSON list of integers from 0 to 2**63 - 1."""
    if not isinstance(value, list) or not all(type(item) is int and 0 <= item < 1 << 63 for item in value):
        message = f"tensor `{name}` has {key} {checked_json.shorten(value)}, expected a list of whole numbers"
        raise FormatError(message, subject=name, found=value)
    return tuple(value)
