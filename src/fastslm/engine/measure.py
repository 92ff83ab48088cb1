"""How fast a loaded model reads prompts and writes answers: what ``fastslm bench`` shows and the benchmarks take.

Prompts are random tokens, which cost as much as any others. Answers are greedy and run to their full length. Cases take
turns, so that a machine that becomes slower or faster does so for all of them.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fastslm import ops
from fastslm.engine.generate import answer_limit, chunks
from fastslm.engine.kv_cache import KVCache
from fastslm.engine.sampler import SamplingOptions, make_sampler
from fastslm.engine.session import Session
from fastslm.errors import ContextTooLong, UsageError
from fastslm.machine import inspect, own_memory
from fastslm.progress import Progress, ProgressCallback, silent
from fastslm.store.machine_file import measure_bandwidth
from fastslm.store.manifest import ModelManifest

CHUNK_TOKENS = 512
"""Tokens of a prompt per step, as in a generation."""

WARM_UP_TOKENS = 32
"""A short prompt that nobody counts: it brings the weights into memory."""


@dataclass(frozen=True)
class MeasureOptions:
    """What is measured.

    Attributes:
        prompts: lengths in tokens.
        tokens: tokens written after each prompt.
        repeats: how often.
    """

    prompts: tuple[int, ...] = (512,)
    tokens: int = 64
    repeats: int = 3

    def __post_init__(self) -> None:
        """Refuse values without a meaning.

        Raises:
            UsageError: a number is below 1, or a prompt below 2.
        """
        for name, values, least in (("prompt", self.prompts, 2), ("tokens", (self.tokens,), 1)):
            _check(name, values, least)
        _check("repeat", (self.repeats,), 1)


@dataclass(frozen=True)
class Spread:
    """Several measurements of one thing."""

    median: float
    lowest: float
    highest: float


@dataclass(frozen=True)
class Speed:
    """One length of prompt.

    Attributes:
        prompt_tokens, new_tokens: the case.
        prefill_tokens_per_s, decode_tokens_per_s: reading the prompt, and writing behind it.
        step_bytes: weights, keys and values that a token in the middle of the answer reads; 0 when it is not known.
    """

    prompt_tokens: int
    new_tokens: int
    prefill_tokens_per_s: Spread
    decode_tokens_per_s: Spread
    step_bytes: int

    @property
    def bytes_per_s(self) -> float:
        """Rate at which decoding read memory, 0 when it is not known."""
        return self.step_bytes * self.decode_tokens_per_s.median


@dataclass(frozen=True)
class Opening:
    """How a model was loaded: threads for the computation, and the seconds it took; 0 where nobody opened a folder."""

    threads: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Measurement:
    """How fast a model is on this machine.

    Attributes:
        precision, target, kv_cache: of the model.
        isa: instruction set of our operators; empty where stock ones run.
        threads: for the computation.
        load_s: seconds to load it.
        rss_bytes, anonymous_bytes: memory of this process, and that of it which is no page of a file (None: unknown).
        bandwidth_bytes_per_s: what as many threads read from memory; None without the memory to measure it.
        speeds: one for each length of prompt.
    """

    precision: str
    target: str
    kv_cache: ops.CacheFormat
    isa: str
    threads: int
    load_s: float
    rss_bytes: int
    anonymous_bytes: int | None
    bandwidth_bytes_per_s: float | None
    speeds: tuple[Speed, ...]

    def share(self, speed: Speed) -> float | None:
        """Share of the bandwidth at which decoding read memory; None when one of the two is not known."""
        if not self.bandwidth_bytes_per_s or not speed.step_bytes:
            return None
        return speed.bytes_per_s / self.bandwidth_bytes_per_s


def measured(
    session: Session,
    manifest: ModelManifest,
    opening: Opening,
    options: MeasureOptions,
    *,
    progress: ProgressCallback = silent,
) -> Measurement:
    """Speeds, memory, and the bandwidth of the same minute. Raises as ``speeds``."""
    found = speeds(session, manifest, options, progress=progress)
    rss, anonymous = own_memory()
    return Measurement(
        precision=manifest.precision,
        target=manifest.target,
        kv_cache=session.kv_cache,
        isa=ops.active_isa() if manifest.target == "native" else "",
        threads=opening.threads,
        load_s=opening.seconds,
        rss_bytes=rss,
        anonymous_bytes=anonymous,
        bandwidth_bytes_per_s=measure_bandwidth(opening.threads, inspect().available_bytes),
        speeds=found,
    )


def speeds(
    session: Session, manifest: ModelManifest, options: MeasureOptions, *, progress: ProgressCallback = silent
) -> tuple[Speed, ...]:
    """Measure every prompt's length, again and again by turns.

    Raises:
        ContextTooLong: a prompt and its answer do not fit in the context.
        GenerationFailed: the model failed.
    """
    for length in options.prompts:
        _check_room(length, options.tokens, session.context_length)
    cache = session.new_cache()
    timed_prefill(session, cache, random_ids(min(WARM_UP_TOKENS, *options.prompts), session.vocab_size, seed=0))
    prefill: dict[int, list[float]] = {length: [] for length in options.prompts}
    decode: dict[int, list[float]] = {length: [] for length in options.prompts}
    for turn in range(options.repeats):
        for length in prefill:
            progress(Progress("measuring", turn, options.repeats, "runs", f"{length} tokens"))
            seconds, token = timed_prefill(session, cache, random_ids(length, session.vocab_size, seed=turn))
            prefill[length].append(length / seconds)
            steps = list(timed_steps(session, cache, token, options.tokens))
            decode[length].append(len(steps) / sum(steps))
    return tuple(
        Speed(
            length,
            options.tokens,
            _spread(prefill[length]),
            _spread(decode[length]),
            step_bytes(manifest, length + options.tokens // 2, session.kv_cache),
        )
        for length in prefill
    )


def random_ids(count: int, vocab_size: int, *, seed: int) -> list[int]:
    """Token ids of a prompt."""
    return [int(id_) for id_ in np.random.default_rng(seed).integers(0, vocab_size, count)]


def timed_prefill(session: Session, cache: KVCache, ids: Sequence[int]) -> tuple[float, int]:
    """Read a prompt into the emptied cache: seconds to the first token of the answer, and that token."""
    sampler = make_sampler(SamplingOptions(temperature=0), session.vocab_size)
    cache.truncate(0)
    start = time.perf_counter()
    for first, stop in chunks(0, len(ids), CHUNK_TOKENS):
        logits = session.forward(cache, ids[first:stop])
    token = sampler.pick(logits[-1])
    return time.perf_counter() - start, token


def timed_steps(session: Session, cache: KVCache, token: int, count: int) -> Iterator[float]:
    """Write ``count`` tokens behind ``token``: the seconds of each."""
    sampler = make_sampler(SamplingOptions(temperature=0), session.vocab_size)
    for _ in range(count):
        start = time.perf_counter()
        token = sampler.pick(session.forward(cache, [token])[-1])
        yield time.perf_counter() - start


def step_bytes(manifest: ModelManifest, position: int, kv_cache: ops.CacheFormat, rows: int = 1) -> int:
    """Bytes that a step of ``rows`` tokens reads, each behind ``position`` others; 0 when the weights are not known."""
    row = ops.cache_row_bytes(kv_cache, manifest.head_dim)
    cached = 2 * manifest.kv_layers * manifest.num_kv_heads * row * position * rows
    return manifest.streamed_bytes and manifest.streamed_bytes + cached


def _check(name: str, values: Sequence[int], least: int) -> None:
    for value in values:
        if type(value) is not int or value < least:
            raise UsageError(f"`{name}` is `{value}`, expected a whole number from {least}", name=name, value=value)
    if not values:
        raise UsageError(f"there is no `{name}`, expected at least one", name=name)


def _check_room(prompt: int, tokens: int, context: int) -> None:
    if answer_limit(prompt, context, tokens) < tokens:
        message = f"a prompt of {prompt} tokens and {tokens} new ones do not fit in the context length of {context}"
        raise ContextTooLong(message, resource="context", needed=prompt + tokens, available=context)


def _spread(values: Sequence[float]) -> Spread:
    return Spread(statistics.median(values), min(values), max(values))
