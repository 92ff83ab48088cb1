"""Settings of a conversion."""

from __future__ import annotations

from typing import Any

import pytest

from fastslm.errors import UsageError
from fastslm.export.options import ConvertOptions, usable_cpus


@pytest.mark.parametrize(
    ("values", "word"),
    [({"precision": "int3"}, "int3"), ({"context_length": 0}, "context length"), ({"threads": -1}, "threads")],
)
def test_values_that_cannot_be_meant(values: dict[str, Any], word: str) -> None:
    """Refused at once, with the value."""
    with pytest.raises(UsageError, match=word):
        ConvertOptions("n", "c", **values)


def test_workers() -> None:
    """As many as there are CPUs, unless told."""
    assert ConvertOptions("n", "c", threads=3).worker_count == 3
    assert ConvertOptions("n", "c").worker_count == min(8, usable_cpus())
