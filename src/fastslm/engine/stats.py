"""Counts and times of one generation."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Usage:
    """Tokens of one generation, as OpenAI counts them: the end-of-answer token is one of the completion."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


@dataclass(frozen=True)
class Timings:
    """How long it took; rates are 0 while there is nothing to measure.

    Attributes:
        prompt_tokens, completion_tokens: as in ``Usage``.
        cached_tokens: leading tokens of the prompt that were still in the KV cache.
        first_token_s: from the start to the first token of the answer, in seconds.
        total_s: from the start to the last token.
        prefill_tokens_per_s: over the prompt's tokens that were not cached.
        decode_tokens_per_s: over the answer's tokens after the first.
    """

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    first_token_s: float
    total_s: float
    prefill_tokens_per_s: float
    decode_tokens_per_s: float

    @property
    def usage(self) -> Usage:
        """The token counts alone."""
        return Usage(self.prompt_tokens, self.completion_tokens, self.prompt_tokens + self.completion_tokens)


class Meter:
    """Takes the times while a generation runs; its clock starts when it is made."""

    def __init__(self, prompt_tokens: int) -> None:
        self._prompt_tokens = prompt_tokens
        self._cached_tokens = 0
        self._completion_tokens = 0
        self._start = self._prefill_end = self._first = self._last = time.perf_counter()

    def reused(self, tokens: int) -> None:
        """So many leading tokens of the prompt need no prefill."""
        self._cached_tokens = tokens

    def prefilled(self) -> None:
        """The prompt is in the cache."""
        self._prefill_end = time.perf_counter()

    def token(self) -> None:
        """A token was chosen."""
        self._last = time.perf_counter()
        if self._completion_tokens == 0:
            self._first = self._last
        self._completion_tokens += 1

    def timings(self) -> Timings:
        """Where it stands."""
        return Timings(
            prompt_tokens=self._prompt_tokens,
            cached_tokens=self._cached_tokens,
            completion_tokens=self._completion_tokens,
            first_token_s=self._first - self._start,
            total_s=self._last - self._start,
            prefill_tokens_per_s=_rate(self._prompt_tokens - self._cached_tokens, self._prefill_end - self._start),
            decode_tokens_per_s=_rate(self._completion_tokens - 1, self._last - self._first),
        )


def _rate(count: int, seconds: float) -> float:
    return count / seconds if count > 0 and seconds > 0 else 0.0
