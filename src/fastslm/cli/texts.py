"""Texts of a command line: as arguments, or one on each line of stdin."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from fastslm.errors import UsageError


def read_texts(given: Sequence[str]) -> list[str]:
    """The texts; ``-`` alone, or nothing at the end of a pipe, reads lines. Empty lines are passed over.

    Raises:
        UsageError: there are none.
    """
    if list(given) == ["-"] or (not given and not sys.stdin.isatty()):
        texts = [line.rstrip("\r\n") for line in sys.stdin]
        texts = [text for text in texts if text.strip()]
    else:
        texts = list(given)
    if not texts:
        raise UsageError("there are no texts, expected some as arguments or lines on stdin with `-`", name="texts")
    return texts
