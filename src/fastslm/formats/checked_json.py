"""JSON from strangers: bounded in size, without duplicate keys, and of the type that the caller expects.

Every reader of a model folder goes through here, so that a damaged file gives one sentence that names the file,
the key, what was found and what was expected.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from fastslm.errors import FileMissing, FileSystemError, FormatError

MAX_CONFIG_BYTES = 16 << 20
"""No configuration file of a model is anywhere near this."""

MAX_TOKENIZER_BYTES = 256 << 20
"""The largest vocabularies in use (256k tokens with merges) take about 35 MB."""

T = TypeVar("T")

_TYPE_NAMES = {dict: "object", list: "list", str: "string", int: "integer", float: "number", bool: "boolean"}


def read_text(path: Path, max_bytes: int = MAX_CONFIG_BYTES) -> str:
    """Content of a UTF-8 text file of at most ``max_bytes``.

    Raises:
        FileMissing, FileSystemError: the file is not there or cannot be read.
        FormatError: it is too large or not UTF-8.
    """
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except FileNotFoundError:
        raise FileMissing(f"`{path}` does not exist", what="file", name=str(path)) from None
    except OSError as error:
        message = f"`{path}` cannot be read: {error.strerror}"
        raise FileSystemError(message, path=str(path), errno=error.errno or 0) from error
    if len(data) > max_bytes:
        raise FormatError(f"`{path}` is larger than {max_bytes} bytes", subject=str(path), expected=max_bytes)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FormatError(f"`{path}` is not UTF-8 text: byte {error.start} is damaged", subject=str(path)) from error


def parse_object(text: str | bytes, subject: str) -> dict[str, Any]:
    """Parse a JSON object; ``subject`` names it in messages.

    Raises:
        FormatError: it is not JSON, not an object, or has a key twice anywhere in it.
    """
    try:
        data = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"`{subject}` is not valid JSON: {_reason(error)}", subject=subject) from error
    if not isinstance(data, dict):
        message = f"`{subject}` holds a JSON {type_name(data)}, expected an object"
        raise FormatError(message, subject=subject, expected="object", found=type_name(data))
    return data


def read_object(path: Path, max_bytes: int = MAX_CONFIG_BYTES) -> dict[str, Any]:
    """Read and parse a file that holds one JSON object. Raises as ``read_text`` and ``parse_object``."""
    return parse_object(read_text(path, max_bytes), str(path))


def get(data: Mapping[str, Any], key: str, kind: type[T], subject: str) -> T | None:
    """The value of ``key``, None when it is absent or null. An integer passes for a float.

    Raises:
        FormatError: the value has another type, or is a number too large for a float.
    """
    value = data.get(key)
    if value is None:
        return None
    if kind is float and type(value) is int:
        value = float(value) if abs(value) < 1 << 1023 else value
    infinite = isinstance(value, float) and not math.isfinite(value)
    if type(value) is not kind or infinite:
        found = f"{type_name(value)} {shorten(value)}"
        message = f"`{subject}`: `{key}` is {found}, expected {_TYPE_NAMES.get(kind, kind.__name__)}"
        raise FormatError(message, subject=subject, expected=_TYPE_NAMES.get(kind), found=found)
    return value


def type_name(value: object) -> str:
    """How JSON calls the type of a parsed value."""
    return "null" if value is None else _TYPE_NAMES.get(type(value), type(value).__name__)


def shorten(value: object, length: int = 60) -> str:
    """A value in backticks on one line, cut to a readable length, without anything a terminal would obey."""
    huge = isinstance(value, int) and value.bit_length() > 256
    text = "a very large number" if huge else " ".join(repr(value)[: 4 * length].split())
    return f"`{text if len(text) <= length else text[: length - 3] + '...'}`"


def quoted(name: str) -> str:
    """A name from a file in backticks; as ``shorten`` when it is long or not printable."""
    return f"`{name}`" if name.isprintable() and len(name) <= 100 else shorten(name)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"key {shorten(twice)} occurs twice")
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"`{name}` is not a JSON number")


def _reason(error: Exception) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)
