"""What callers may ask of a model, and what they get; values that mean nothing are refused by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypedDict

from fastslm.engine.generate import FinishReason, GenerationOptions, Step
from fastslm.engine.sampler import SamplingOptions
from fastslm.engine.session import SessionOptions
from fastslm.engine.stats import Timings, Usage
from fastslm.errors import UsageError
from fastslm.ops import CACHE_FORMATS, CacheFormat

_SAMPLING_NAMES = frozenset(f.name for f in fields(SamplingOptions))


class Request(TypedDict, total=False):
    """Keywords of every generation; None or absent takes the default: the repository's, else ``SamplingOptions``'."""

    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    repetition_penalty: float | None
    presence_penalty: float | None
    frequency_penalty: float | None
    repeat_last_n: int | None
    seed: int | None
    max_tokens: int | None
    stop: str | Sequence[str] | None
    cancelled: Callable[[], bool] | None


@dataclass(frozen=True)
class Result:
    """A whole answer.

    Attributes:
        text: the answer, without special tokens and without the stop string.
        finish_reason: ``stop`` (end token or stop string), ``length`` (max_tokens or context) or ``cancelled``.
        usage: token counts.
        timings: times in seconds and rates in tokens per second.
        token_ids: the tokens as the model chose them, the end token included.
    """

    text: str
    finish_reason: FinishReason
    usage: Usage
    timings: Timings
    token_ids: tuple[int, ...]


def generation_options(
    request: Mapping[str, Any], sampling: SamplingOptions, stop_ids: Iterable[int]
) -> GenerationOptions:
    """A request over these defaults. Raises UsageError for an unknown name or a value without a meaning."""
    given = {name: value for name, value in request.items() if value is not None}
    unknown = sorted(set(given) - Request.__annotations__.keys())
    if unknown:
        allowed = sorted(Request.__annotations__)
        raise UsageError(f"there is no option `{unknown[0]}`", name=unknown[0], allowed=allowed)
    chosen = {name: given.pop(name) for name in list(given) if name in _SAMPLING_NAMES}
    return GenerationOptions(
        sampling=replace(sampling, **chosen),
        stop=_stop_strings(given.pop("stop", ())),
        stop_ids=frozenset(stop_ids),
        **given,
    )


def session_options(
    threads: int, context_length: int | None, kv_cache: CacheFormat | None, own_context: int
) -> SessionOptions:
    """How a model is loaded; 0 threads are this machine's, no context length the model's own. Raises UsageError."""
    length = _checked_context(context_length, own_context)
    return SessionOptions(_checked_threads(threads), length, _checked_format(kv_cache))


def default_sampling(generation: Mapping[str, Any]) -> SamplingOptions:
    """Sampling defaults of a repository over our own; values that mean nothing are passed over."""
    options = SamplingOptions()
    for name in _SAMPLING_NAMES & generation.keys():
        value = generation[name]
        if name in ("top_k", "repeat_last_n", "seed") and isinstance(value, float) and value.is_integer():
            value = int(value)
        try:
            options = replace(options, **{name: value})
        except UsageError:
            continue
    return options


def collect(steps: Iterator[Step]) -> Result:
    """The whole answer that the steps make."""
    pieces: list[str] = []
    ids: list[int] = []
    for step in steps:
        pieces.append(step.text)
        ids += [] if step.token_id is None else [step.token_id]
    assert step.finish_reason is not None  # the last step has one, and there is always a step
    return Result("".join(pieces), step.finish_reason, step.timings.usage, step.timings, tuple(ids))


def _stop_strings(stop: str | Sequence[str]) -> tuple[str, ...]:
    strings = (stop,) if isinstance(stop, str) else tuple(stop) if isinstance(stop, Iterable) else (stop,)
    if not all(isinstance(string, str) for string in strings):
        raise UsageError(f"`stop` is `{stop!r}`, expected a text or a list of texts"[:200], name="stop", value=stop)
    return strings


def _checked_threads(threads: int) -> int:
    from fastslm.machine import inspect_cores

    if not is_whole(threads) or not 0 <= threads <= 1024:
        raise UsageError(f"`threads` is `{threads}`, expected 0 to 1024", name="threads", value=threads)
    return threads or inspect_cores().threads


def _checked_context(wanted: int | None, own: int) -> int:
    if wanted is not None and not (is_whole(wanted) and 1 < wanted <= own):
        message = f"`context_length` is `{wanted}`, expected 2 to {own}, the model's own"
        raise UsageError(message, name="context_length", value=wanted)
    return own if wanted is None else wanted


def _checked_format(wanted: CacheFormat | None) -> CacheFormat | None:
    if wanted is not None and wanted not in CACHE_FORMATS:
        message = f"`kv_cache` is `{wanted}`, expected {', '.join(CACHE_FORMATS)}"
        raise UsageError(message, name="kv_cache", value=wanted, allowed=CACHE_FORMATS)
    return wanted


def is_whole(value: object) -> bool:
    """Whether it is an integer, which True and False are not here."""
    return isinstance(value, int) and not isinstance(value, bool)
