"""End a text before a stop string, even one that is spread over several tokens.

Law: however the text is cut into pieces, what comes out is the text up to the stop string that is complete
first (the longest, if several end at the same character), or all of it when there is none.
"""

from __future__ import annotations

from collections.abc import Sequence

from fastslm.errors import UsageError


class StopMatcher:
    """Passes text on, except for an end that may be the beginning of a stop string."""

    def __init__(self, strings: Sequence[str]) -> None:
        """Watch for ``strings``.

        Raises:
            UsageError: one of them is empty.
        """
        if not all(strings):
            raise UsageError("a stop string is empty", name="stop", value=list(strings))
        self._strings = tuple(dict.fromkeys(strings))
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """Text that is certainly before any stop string; nothing once ``stopped``."""
        if self.stopped:
            return ""
        text = self._held + text
        found = [(start + len(s), start) for s in self._strings if (start := text.find(s)) >= 0]
        if found:
            self.stopped = True
            self._held = ""
            return text[: min(found)[1]]
        keep = max((_overlap(text, s) for s in self._strings), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """What was held back, when the text ends without a stop string."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of ``text`` that is a beginning of ``stop``, but not all of it."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
