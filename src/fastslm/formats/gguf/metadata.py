"""Typed look-ups in GGUF metadata: values come from strangers and may be missing or of another type."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastslm.errors import FormatError, UnsupportedModel
from fastslm.formats.checked_json import shorten
from fastslm.formats.gguf.header import GgufHeader


class Metadata:
    """Typed look-ups in the metadata of one file; ``{arch}`` in a key stands for the architecture."""

    def __init__(self, header: GgufHeader) -> None:
        self.header = header
        self.subject = str(header.path)
        self.arch = self.text("general.architecture")

    def has(self, key: str) -> bool:
        """Whether the key is there."""
        return self._name(key) in self.header.metadata

    def is_zero(self, key: str) -> bool:
        """Whether the key is there and zero, which stands for "none"."""
        value = self.header.metadata.get(self._name(key))
        return type(value) is int and value == 0

    def text(self, key: str, default: str | None = None) -> str:
        """A string. Raises FormatError when it is missing without a default, or of another type."""
        value = self._get(key, default)
        if not isinstance(value, str):
            raise self._wrong(key, value, "a string")
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        """A boolean. Raises FormatError when it is of another type."""
        value = self._get(key, default)
        if not isinstance(value, bool):
            raise self._wrong(key, value, "a boolean")
        return value

    def count(self, key: str, default: int | None = None) -> int:
        """A whole number from 1 to 2**31 - 1; an array counts as its only value. Raises FormatError."""
        value = self._get(key, default)
        if isinstance(value, np.ndarray) and value.dtype.kind in "iu" and len(value):
            value = self._only(key, value)
        if type(value) is not int or not 1 <= value < 1 << 31:
            raise self._wrong(key, value, "a whole number from 1")
        return int(value)

    def by_layer(self, key: str, layers: int) -> tuple[int, ...]:
        """A whole number from 0 for each layer; one alone is that of all. Raises FormatError."""
        value = self._get(key, None)
        found = value.tolist() if isinstance(value, np.ndarray) else [value] * layers
        if len(found) != layers or not all(type(each) is int and 0 <= each < 1 << 31 for each in found):
            raise self._wrong(key, value, f"{layers} whole numbers from 0")
        return tuple(found)

    def number(self, key: str, default: float | None = None) -> float:
        """A finite float above zero. Raises FormatError."""
        value = self._get(key, default)
        if type(value) not in (int, float) or not 0 < value < np.inf:
            raise self._wrong(key, value, "a finite number above zero")
        return float(value)

    def _name(self, key: str) -> str:
        return key.replace("{arch}", self.arch) if "{arch}" in key else key

    def _get(self, key: str, default: Any) -> Any:
        name = self._name(key)
        if name in self.header.metadata:
            return self.header.metadata[name]
        if default is None:
            raise FormatError(f"`{self.subject}` lacks the metadata key `{name}`", subject=self.subject, expected=name)
        return default

    def _only(self, key: str, values: Any) -> int:
        if (values != values[0]).any():
            message = f"`{self._name(key)}` differs from layer to layer, expected one value"
            raise UnsupportedModel(message, feature=self._name(key))
        return int(values[0])

    def _wrong(self, key: str, value: Any, expected: str) -> FormatError:
        name = self._name(key)
        message = f"`{self.subject}`: `{name}` is {shorten(value)}, expected {expected}"
        return FormatError(message, subject=self.subject, expected=expected, found=value)
