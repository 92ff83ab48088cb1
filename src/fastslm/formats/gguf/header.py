"""Parse the header of a GGUF file: metadata and tensor directory. Every count and length is checked before use.

Format: ggml's docs/gguf.md, versions 2 and 3, little endian. Values are located while parsing and decoded when
asked for, so a header with 100,000 strings takes a few hundredths of a second.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastslm.errors import FormatError
from fastslm.formats.checked_json import shorten
from fastslm.formats.mapping import ModelFile, Opener

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32
MAX_ALIGNMENT = 1 << 20
MAX_NAME_BYTES = 1024
MAX_DIMENSIONS = 4

_BOOL, _STRING, _ARRAY = 7, 8, 9
_SCALARS = {
    0: "<u1",
    1: "<i1",
    2: "<u2",
    3: "<i2",
    4: "<u4",
    5: "<i4",
    6: "<f4",
    7: "?",
    10: "<u8",
    11: "<i8",
    12: "<f8",
}
_LEAST_KV_BYTES = 13
_LEAST_TENSOR_BYTES = 32


@dataclass(frozen=True)
class GgufTensor:
    """One entry of the tensor directory.

    Attributes:
        name: GGUF name, e.g. ``blk.0.attn_q.weight``.
        type_name: ``F32``, ``Q4_1``, …
        shape: outermost dimension first (the file writes the innermost first).
        row_bytes: bytes of one row, the innermost dimension.
        offset, size_bytes: place in the file.
    """

    name: str
    type_name: str
    shape: tuple[int, ...]
    row_bytes: int
    offset: int
    size_bytes: int


@dataclass(frozen=True)
class _Value:
    """Where a metadata value lies: ``count`` items of ``kind`` from ``offset`` to ``end``."""

    kind: int
    is_array: bool
    count: int
    offset: int
    end: int


class GgufHeader:
    """Metadata (a mapping of key to decoded value) and tensors of one ``file``, which stays mapped.

    ``header_bytes`` is where the directory of tensors ends; nothing behind it was looked at.
    """

    def __init__(self, path: Path, opener: Opener = ModelFile) -> None:
        """Map and check a file.

        Raises:
            FileMissing, FileSystemError: it is not there or cannot be read.
            FormatError: it is not GGUF, of a version or byte order that is not read, truncated or damaged.
        """
        self.path = path
        self.file = opener(path)
        self.data = self.file.outline
        cursor = _Cursor(self.data, str(path))
        tensors, values = _preamble(cursor)
        self._values = _metadata(cursor, values)
        self.metadata: Mapping[str, Any] = _Metadata(self.data, self._values, str(path))
        self.tensors = _directory(cursor, tensors, self._alignment())
        self.header_bytes = cursor.at

    def _alignment(self) -> int:
        found = self.metadata.get("general.alignment", DEFAULT_ALIGNMENT)
        if type(found) is not int or not 1 <= found <= MAX_ALIGNMENT or found & (found - 1):
            message = (
                f"`{self.path}`: `general.alignment` is {shorten(found)}, expected a power of two up to {MAX_ALIGNMENT}"
            )
            raise FormatError(message, subject=str(self.path), found=found)
        return found


class _Metadata(Mapping[str, Any]):
    """Decodes a value when it is asked for: str, bool, int, float, list of str, or a one-dimensional array."""

    def __init__(self, data: npt.NDArray[np.uint8], values: Mapping[str, _Value], subject: str) -> None:
        self._data, self._values, self._subject = data, values, subject

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, key: str) -> Any:
        value = self._values[key]
        if value.kind == _STRING:
            texts = self._strings(key, value)
            return texts if value.is_array else texts[0]
        items = self._data[value.offset : value.end].view(_SCALARS[value.kind])
        return items if value.is_array else items[0].item()

    def _strings(self, key: str, value: _Value) -> list[str]:
        data = self._data[value.offset : value.end].tobytes()
        texts, at = [], 0
        try:
            for _ in range(value.count):
                end = at + 8 + int.from_bytes(data[at : at + 8], "little")
                texts.append(data[at + 8 : end].decode("utf-8"))
                at = end
        except UnicodeDecodeError as error:
            message = f"`{self._subject}`: `{key}` is not UTF-8 text"
            raise FormatError(message, subject=self._subject, found=error.object[:20]) from error
        return texts


class _Cursor:
    """Reads forward through the file and refuses to pass its end."""

    def __init__(self, data: npt.NDArray[np.uint8], subject: str) -> None:
        self.data, self.subject, self.at = data.data, subject, 0

    def number(self, layout: str, what: str) -> int:
        start = self.skip(struct.calcsize(layout), what)
        return int(struct.unpack_from(layout, self.data, start)[0])

    def skip(self, size: int, what: str) -> int:
        """Pass over ``size`` bytes and return where they began."""
        start, left = self.at, len(self.data) - self.at
        if size > left:
            message = f"`{self.subject}` ends inside {what}: {left} bytes are left, expected {size}"
            raise FormatError(message, subject=self.subject, expected=size, found=left)
        self.at = start + size
        return start

    def count(self, least_bytes: int, what: str) -> int:
        """A 64-bit count of items that take at least ``least_bytes`` each."""
        found = self.number("<Q", what)
        most = (len(self.data) - self.at) // least_bytes
        if found > most:
            message = f"`{self.subject}` announces {found} {what}, but has room for {most}"
            raise FormatError(message, subject=self.subject, expected=most, found=found)
        return found

    def name(self, what: str) -> str:
        length = self.number("<Q", what)
        if not 1 <= length <= MAX_NAME_BYTES:
            message = f"`{self.subject}` has a {what} of {length} bytes, expected 1 to {MAX_NAME_BYTES}"
            raise FormatError(message, subject=self.subject, expected=MAX_NAME_BYTES, found=length)
        start = self.skip(length, what)
        raw = bytes(self.data[start : self.at])
        name = raw.decode("utf-8", errors="replace")
        if "\ufffd" in name or not name.isprintable():
            message = f"`{self.subject}` has a {what} that is not printable text: {shorten(raw)}"
            raise FormatError(message, subject=self.subject, found=raw)
        return name

    def strings(self, count: int, what: str) -> None:
        """Pass over ``count`` strings. The loop is plain because headers hold 100,000 of them."""
        data, at, size = self.data, self.at, len(self.data)
        unpack = struct.Struct("<Q").unpack_from
        for _ in range(count):
            if at + 8 > size:
                break
            at += 8 + unpack(data, at)[0]
        else:
            self.skip(at - self.at, what)
            return
        self.skip(size - self.at + 1, what)


def _preamble(cursor: _Cursor) -> tuple[int, int]:
    """Check magic and version; return the counts of tensors and of metadata values."""
    start = cursor.skip(4, "the magic number")
    magic = bytes(cursor.data[start : start + 4])
    if magic != MAGIC:
        message = f"`{cursor.subject}` begins with {magic!r}, expected {MAGIC!r}"
        raise FormatError(message, subject=cursor.subject, expected=MAGIC, found=magic)
    version = cursor.number("<I", "the version")
    if version and version & 0xFFFF == 0:
        message = f"`{cursor.subject}` is a big-endian GGUF file, expected little endian"
        raise FormatError(message, subject=cursor.subject, expected="little endian", found="big endian")
    if version not in VERSIONS:
        message = f"`{cursor.subject}` has GGUF version {version}, expected 2 or 3"
        raise FormatError(message, subject=cursor.subject, expected=VERSIONS, found=version)
    return cursor.count(_LEAST_TENSOR_BYTES, "tensors"), cursor.count(_LEAST_KV_BYTES, "metadata values")


def _metadata(cursor: _Cursor, count: int) -> dict[str, _Value]:
    values: dict[str, _Value] = {}
    for _ in range(count):
        key = cursor.name("metadata key")
        if key in values:
            raise FormatError(
                f"`{cursor.subject}` has the metadata key `{key}` twice", subject=cursor.subject, found=key
            )
        values[key] = _value(cursor, key)
    return values


def _value(cursor: _Cursor, key: str) -> _Value:
    kind, count, is_array = cursor.number("<I", f"`{key}`"), 1, False
    if kind == _ARRAY:
        kind, is_array = cursor.number("<I", f"`{key}`"), True
        least = 8 if kind == _STRING else np.dtype(_SCALARS.get(kind, "u1")).itemsize
        count = cursor.count(least, f"items in `{key}`")
    start = cursor.at
    if kind == _STRING:
        cursor.strings(count, f"`{key}`")
    elif kind in _SCALARS:
        cursor.skip(count * np.dtype(_SCALARS[kind]).itemsize, f"`{key}`")
        _check_bools(cursor, kind, start, key)
    else:
        message = f"`{cursor.subject}`: `{key}` has value type {kind}, which GGUF does not define here"
        raise FormatError(message, subject=cursor.subject, found=kind)
    return _Value(kind, is_array, count, start, cursor.at)


def _check_bools(cursor: _Cursor, kind: int, start: int, key: str) -> None:
    if kind == _BOOL and any(item > 1 for item in cursor.data[start : cursor.at]):
        raise FormatError(f"`{cursor.subject}`: `{key}` is neither true nor false", subject=cursor.subject)


def _directory(cursor: _Cursor, count: int, alignment: int) -> dict[str, GgufTensor]:
    """The tensors in the order of the file, with absolute offsets."""
    relative = [_tensor(cursor) for _ in range(count)]
    base = (cursor.at + alignment - 1) // alignment * alignment
    tensors: dict[str, GgufTensor] = {}
    for name, type_name, shape, row_bytes, offset in relative:
        size = row_bytes * math.prod(shape[:-1])
        end = base + offset + size
        if offset % alignment:
            message = f"`{cursor.subject}`: tensor `{name}` lies at {offset}, expected a multiple of {alignment}"
            raise FormatError(message, subject=name, expected=alignment, found=offset)
        if end > len(cursor.data):
            message = f"`{cursor.subject}` has {len(cursor.data)} bytes, expected {end} or more for tensor `{name}`"
            raise FormatError(message, subject=name, expected=end, found=len(cursor.data))
        if name in tensors:
            raise FormatError(f"`{cursor.subject}` has the tensor `{name}` twice", subject=name)
        tensors[name] = GgufTensor(name, type_name, shape, row_bytes, base + offset, size)
    _check_overlaps(tensors)
    return tensors


def _tensor(cursor: _Cursor) -> tuple[str, str, tuple[int, ...], int, int]:
    name = cursor.name("tensor name")
    rank = cursor.number("<I", f"tensor `{name}`")
    if not 1 <= rank <= MAX_DIMENSIONS:
        message = f"tensor `{name}` has {rank} dimensions, expected 1 to {MAX_DIMENSIONS}"
        raise FormatError(message, subject=name, expected=MAX_DIMENSIONS, found=rank)
    dims = [cursor.number("<Q", f"tensor `{name}`") for _ in range(rank)]
    if min(dims) < 1 or math.prod(dims) >= 1 << 60:
        raise FormatError(
            f"tensor `{name}` has dimensions {dims}, expected whole numbers from 1", subject=name, found=dims
        )
    type_name, block_items, block_bytes = _tensor_type(cursor.number("<I", f"tensor `{name}`"), name)
    if dims[0] % block_items:
        message = f"tensor `{name}` has rows of {dims[0]} items, expected a multiple of {block_items} for {type_name}"
        raise FormatError(message, subject=name, expected=block_items, found=dims[0])
    offset = cursor.number("<Q", f"tensor `{name}`")
    return name, type_name, tuple(reversed(dims)), dims[0] // block_items * block_bytes, offset


def _tensor_type(number: int, name: str) -> tuple[str, int, int]:
    """Name, items per block and bytes per block of a tensor type."""
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    try:
        kind = GGMLQuantizationType(number)
        items, size = GGML_QUANT_SIZES[kind]
    except (ValueError, KeyError):
        raise FormatError(f"tensor `{name}` has unknown type number {number}", subject=name, found=number) from None
    return str(kind.name), int(items), int(size)


def _check_overlaps(tensors: Mapping[str, GgufTensor]) -> None:
    end, before = 0, ""
    for tensor in sorted(tensors.values(), key=lambda t: (t.offset, t.size_bytes)):
        if tensor.offset < end:
            message = f"tensor `{tensor.name}` begins at {tensor.offset}, inside `{before}`, expected {end} or later"
            raise FormatError(message, subject=tensor.name, expected=end, found=tensor.offset)
        end, before = tensor.offset + tensor.size_bytes, tensor.name
