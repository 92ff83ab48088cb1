"""Where a file of ``torch.save`` keeps its pickle and its numbers, in both formats that there are.

Since torch 1.6: a zip archive that only stores, with ``data.pkl`` and a member ``data/<key>`` for each storage.
Before: five pickles one after the other (magic number, version, facts of the machine, the tensors, keys of the
storages), then for each key a count in 8 bytes and the numbers.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastslm.errors import FormatError, UnsupportedModel
from fastslm.formats.archive import stored_ranges
from fastslm.formats.pickled.machine import MAX_BYTES, Storage, Strided, run_pickle

MAGIC = 0x1950A86A20F9469CFC6C
VERSION = 1001
ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}

Bytes = npt.NDArray[np.uint8]
Range = tuple[int, int]


class Container(NamedTuple):
    """What a pickle describes, and the byte range of every storage by its key."""

    root: Any
    ranges: Mapping[str, Range]


def read_container(path: Path, data: Bytes) -> Container:
    """Read everything but the numbers.

    Raises:
        FormatError: the file is damaged or hostile.
        UnsupportedModel: it was written on a machine of another byte order, or in an unknown way.
    """
    if bytes(data[:4]) == b"PK\x03\x04":
        return _read_zip(path, data)
    with path.open("rb") as file:
        return _read_older(file, path, len(data))


def _read_zip(path: Path, data: Bytes) -> Container:
    ranges = stored_ranges(path)
    roots = [name.removesuffix("data.pkl") for name in ranges if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(roots) != 1:
        message = f"`{path}` holds {len(roots)} members `data.pkl`, expected one"
        raise FormatError(message, subject=str(path), expected=1, found=len(roots))
    order = ranges.get(f"{roots[0]}byteorder")
    _require_little(path, order is None or bytes(data[slice(*order)]) == b"little")
    begin, end = ranges[f"{roots[0]}data.pkl"]
    if end - begin > MAX_BYTES:
        message = f"`{path}` has a pickle of {end - begin} bytes, expected at most {MAX_BYTES}"
        raise FormatError(message, subject=str(path), expected=MAX_BYTES, found=end - begin)
    root = run_pickle(io.BytesIO(data[begin:end].tobytes()), str(path))
    prefix = f"{roots[0]}data/"
    return Container(root, {name.removeprefix(prefix): r for name, r in ranges.items() if name.startswith(prefix)})


def _read_older(file: BufferedReader, path: Path, size: int) -> Container:
    subject = str(path)
    starts, version = file.peek(1)[:1] == b"\x80", None
    if starts and run_pickle(file, subject) == MAGIC:
        version = run_pickle(file, subject)
    if version != VERSION:
        message = f"`{path}` is no file of torch: it is neither a zip archive nor of version {VERSION}"
        raise FormatError(message, subject=subject, expected=VERSION)
    machine = run_pickle(file, subject)
    _require_little(path, isinstance(machine, dict) and machine.get("little_endian") is True)
    root, keys = run_pickle(file, subject), run_pickle(file, subject)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise FormatError(f"`{path}` has no list of its storages", subject=subject)
    sizes = {tensor.storage.key: tensor.storage for tensor in _tensors(root)}
    ranges: dict[str, Range] = {}
    for key in keys:
        count = int.from_bytes(file.read(8), "little", signed=True)
        storage = sizes.get(key, Storage("U8", key, 0))
        begin = file.tell()
        end = begin + count * ITEM_BYTES[storage.dtype]
        if count < 0 or count != storage.length or end > size:
            message = f"`{path}` has a storage of {count} numbers at {begin}, expected {storage.length} before {size}"
            raise FormatError(message, subject=subject, expected=storage.length, found=count)
        ranges[key] = (begin, end)
        file.seek(end)
    return Container(root, ranges)


def _tensors(root: Any) -> list[Strided]:
    return [value for value in root.values() if isinstance(value, Strided)] if isinstance(root, dict) else []


def _require_little(path: Path, is_little: bool) -> None:
    if not is_little:
        message = f"`{path}` was written by a machine that is not little-endian, expected little-endian numbers"
        raise UnsupportedModel(message, feature="byte order")
