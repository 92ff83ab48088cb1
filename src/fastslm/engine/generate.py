"""The one generation loop that every face uses: prefill in chunks, then one token at a time.

Law: what a generation is given depends on the prompt only, never on what other generations left behind: the cached
prefix is that of this very prompt. Its floats are equal only as far as ONNX Runtime's kernels go, which add in another
order for one row than for several; where activations are rounded to 8 bits, a near tie of greedy output may fall
another way after a cached prefix than without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from fastslm import runtime
from fastslm.engine.kv_cache import KVCache
from fastslm.engine.sampler import Sampler, SamplingOptions, make_sampler
from fastslm.engine.session import Logits, Session
from fastslm.engine.stats import Meter, Timings
from fastslm.engine.stop import StopMatcher
from fastslm.errors import ContextTooLong, UsageError
from fastslm.text.detok import StreamDecoder

FinishReason = Literal["stop", "length", "cancelled"]


LONG_PROMPT = 64
"""Tokens from which on a prompt takes megabytes that its answer does not need."""


def never() -> bool:
    """The cancellation of a generation that nobody cancels."""
    return False


@dataclass(frozen=True)
class GenerationOptions:
    """One request.

    Attributes:
        sampling: how tokens are chosen.
        max_tokens: longest answer; None for what the context leaves. More than that is cut to what it leaves.
        stop: the answer ends before any of these strings.
        stop_ids: tokens that end the answer.
        cancelled: asked before every chunk of the prompt and every token; True ends the generation.
        chunk_tokens: tokens of the prompt per step.
    """

    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    stop_ids: frozenset[int] = frozenset()
    cancelled: Callable[[], bool] = never
    chunk_tokens: int = 512

    def __post_init__(self) -> None:
        """Refuse values without a meaning.

        Raises:
            UsageError: a length is below 1, or ``cancelled`` cannot be called.
        """
        for name in ("max_tokens", "chunk_tokens"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise UsageError(f"`{name}` is `{value}`, expected a whole number from 1", name=name, value=value)
        if not callable(self.cancelled):
            message = f"`cancelled` is `{self.cancelled!r}`, expected a function that tells whether to stop"
            raise UsageError(message, name="cancelled", value=self.cancelled)


@dataclass(frozen=True)
class Step:
    """One token of an answer.

    Attributes:
        text: what became certain with it; empty for half a character or what may begin a stop string.
        token_id: the token, or None when the generation was cancelled before there was one.
        finish_reason: None, and in the last step ``stop`` (end token or stop string), ``length`` or ``cancelled``.
        timings: counts and times so far.
    """

    text: str
    token_id: int | None
    finish_reason: FinishReason | None
    timings: Timings


def generate(
    session: Session,
    cache: KVCache,
    prompt: Sequence[int],
    decoder: StreamDecoder,
    options: GenerationOptions,
) -> Iterator[Step]:
    """Continue ``prompt``. The last step has a finish reason; the iterator may be closed at any time before.

    ``cache`` may hold any earlier sequence: the prefix it shares with the prompt is not computed again.

    Raises:
        UsageError: the prompt is empty.
        ContextTooLong: it leaves no room for one token of an answer.
        GenerationFailed: the model failed.
    """
    longest = answer_limit(len(prompt), session.context_length, options.max_tokens)
    meter = Meter(len(prompt))
    sampler = make_sampler(options.sampling, session.vocab_size)
    sampler.observe(prompt)
    logits = _prefill(session, cache, prompt, options, meter)
    if logits is None:
        yield Step("", None, "cancelled", meter.timings())
        return
    answer = _Answer(decoder, options)
    while True:
        token = _pick(sampler, logits, meter)
        text, reason = answer.add(token, longest)
        yield Step(text, token, reason, meter.timings())
        if reason is not None:
            return
        logits = session.forward(cache, [token])


def answer_limit(prompt_tokens: int, context_length: int, max_tokens: int | None) -> int:
    """Most tokens of an answer to a prompt of this length.

    Raises:
        UsageError: the prompt is empty.
        ContextTooLong: the context leaves no room.
    """
    if prompt_tokens == 0:
        raise UsageError("the prompt has no tokens", name="prompt")
    room = context_length - prompt_tokens
    if room < 1:
        message = f"the prompt has {prompt_tokens} tokens, expected fewer than the context length of {context_length}"
        raise ContextTooLong(message, resource="context", needed=prompt_tokens + 1, available=context_length)
    return room if max_tokens is None else min(room, max_tokens)


def _prefill(
    session: Session, cache: KVCache, prompt: Sequence[int], options: GenerationOptions, meter: Meter
) -> Logits | None:
    """Logits after the prompt, or None when cancelled before its end."""
    start = max(0, min(cache.common_prefix(prompt), len(prompt) - 2))
    cache.truncate(start)
    meter.reused(start)
    logits = None
    for first, stop in chunks(start, len(prompt), options.chunk_tokens):
        if options.cancelled():
            return None
        logits = session.forward(cache, prompt[first:stop])
    meter.prefilled()
    if len(prompt) - start >= LONG_PROMPT:
        runtime.give_back_memory()
    return logits


def chunks(start: int, stop: int, size: int) -> Iterator[tuple[int, int]]:
    """Cut ``start:stop`` into parts of ``size``, the last one a token longer rather than one token alone.

    Kernels for one row add in another order than those for several. In models that quantise activations the
    rounding enlarges the difference, so a prompt must never meet the kernels for one row, cached or not.
    """
    while start < stop:
        end = min(start + size, stop)
        end = stop if stop - end == 1 else end
        yield start, end
        start = end


def _pick(sampler: Sampler, logits: Logits, meter: Meter) -> int:
    token = sampler.pick(logits[-1])
    sampler.observe([token])
    meter.token()
    return token


class _Answer:
    """Tokens to text and to the reason why there are no more."""

    def __init__(self, decoder: StreamDecoder, options: GenerationOptions) -> None:
        self._decoder = decoder
        self._matcher = StopMatcher(options.stop)
        self._options = options
        self._count = 0

    def add(self, token: int, longest: int) -> tuple[str, FinishReason | None]:
        self._count += 1
        if token in self._options.stop_ids:
            return self._rest(), "stop"
        text = self._matcher.push(self._decoder.push(token))
        reason = self._reason(longest)
        if reason is not None:
            text += self._rest()
        return text, "stop" if self._matcher.stopped else reason

    def _reason(self, longest: int) -> FinishReason | None:
        if self._matcher.stopped:
            return "stop"
        if self._count >= longest:
            return "length"
        return "cancelled" if self._options.cancelled() else None

    def _rest(self) -> str:
        return self._matcher.push(self._decoder.flush()) + self._matcher.flush()
