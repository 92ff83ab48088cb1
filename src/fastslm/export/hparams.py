"""Read ``config.json`` values that may be missing, of the wrong type, or made to hurt."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastslm.errors import FormatError, UnsupportedModel

LARGEST_COUNT = 2**31 - 1


@dataclass(frozen=True)
class Hparams:
    """Checked access to a configuration. Keys whose value is null count as missing."""

    values: Mapping[str, Any]

    def get(self, key: str, default: Any = None) -> Any:
        """The raw value."""
        value = self.values.get(key)
        return default if value is None else value

    def count(self, key: str, default: int | None = None) -> int:
        """A whole number of at least 1. Raises FormatError."""
        value = self._found(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LARGEST_COUNT:
            raise _wrong(key, value, f"a whole number from 1 to {LARGEST_COUNT}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number above 0. Raises FormatError."""
        value = self._found(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
            raise _wrong(key, value, "a number above 0")
        return float(value)

    def flag(self, key: str, *, default: bool = False) -> bool:
        """True or false. Raises FormatError."""
        value = self.get(key, default)
        if not isinstance(value, bool):
            raise _wrong(key, value, "true or false")
        return value

    def section(self, key: str) -> Hparams:
        """A nested object, empty when missing. Raises FormatError."""
        value = self.get(key, {})
        if not isinstance(value, Mapping):
            raise _wrong(key, value, "an object")
        return Hparams(value)

    def renamed(self, keys: Mapping[str, str]) -> Hparams:
        """The same with other names for some values; one that is there under its usual name (the left one) stays."""
        found = {usual: self.get(other) for usual, other in keys.items() if self.get(usual) is None}
        return Hparams({**self.values, **found})

    def demand(self, key: str, *allowed: object, default: object = None) -> None:
        """Raise UnsupportedModel unless the value (or the default) is one of those allowed."""
        value = self.get(key, default)
        if value not in allowed:
            raise unsupported(key, value, *allowed)

    def _found(self, key: str, default: Any) -> Any:
        value = self.get(key, default)
        if value is None:
            raise FormatError(f"the model's configuration has no `{key}`", subject=key)
        return value


def unsupported(key: str, value: object, *allowed: object) -> UnsupportedModel:
    """The error for a sound configuration that we cannot build."""
    expected = " or ".join(str(each) for each in allowed if each is not None)
    return UnsupportedModel(f"`{key}` is `{value}`, expected {expected}", feature=f"{key}={value}")


def _wrong(key: str, value: object, expected: str) -> FormatError:
    return FormatError(f"`{key}` is `{value!r}`, expected {expected}", subject=key, expected=expected, found=value)
