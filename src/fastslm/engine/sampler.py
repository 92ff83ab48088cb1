"""How the next token is chosen: options and the two ways to obey them, greedy and drawn.

Greedy choice needs numpy only. The kernels for everything else are loaded beside the prefill, so that the first
token does not wait for the import of numba.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from math import isfinite
from threading import Thread
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from fastslm.errors import GenerationFailed, UsageError

if TYPE_CHECKING:
    from fastslm.kernels.sampling import Filters

_RANGES: dict[str, tuple[float, float, str]] = {
    "temperature": (0.0, 100.0, "from 0 to 100"),
    "top_k": (0, 2**31 - 1, "a whole number from 0"),
    "top_p": (1e-9, 1.0, "above 0 and at most 1"),
    "min_p": (0.0, 1.0, "from 0 to 1"),
    "repetition_penalty": (0.01, 100.0, "from 0.01 to 100"),
    "presence_penalty": (-100.0, 100.0, "from -100 to 100"),
    "frequency_penalty": (-100.0, 100.0, "from -100 to 100"),
    "repeat_last_n": (0, 2**20, "a whole number from 0"),
}
_WHOLE = frozenset({"top_k", "repeat_last_n", "seed"})


@dataclass(frozen=True)
class SamplingOptions:
    """Settings of one generation. The defaults are llama.cpp's, which Ollama users know; order as in ``kernels``.

    Attributes:
        temperature: 0 is greedy; above 1 flattens the distribution.
        top_k: keep the k best tokens, 0 for all.
        top_p: keep the fewest best tokens that reach this probability.
        min_p: drop tokens below this share of the best one's probability.
        repetition_penalty: divides positive and multiplies negative logits of recent tokens; 1 is off.
        presence_penalty, frequency_penalty: subtracted once, and for each occurrence; 0 is off.
        repeat_last_n: how many recent tokens, of prompt and answer, the penalties look at.
        seed: same seed, same answer; None takes a random one.
    """

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repeat_last_n: int = 64
    seed: int | None = None

    def __post_init__(self) -> None:
        """Refuse values without a meaning.

        Raises:
            UsageError: one is out of its range.
        """
        for name, (least, most, words) in _RANGES.items():
            value = getattr(self, name)
            _check_kind(name, value, words)
            if not (isfinite(value) and least <= value <= most):
                raise UsageError(f"`{name}` is `{value}`, expected {words}", name=name, value=value)
        if self.seed is not None:
            _check_kind("seed", self.seed, "a whole number")

    @property
    def has_penalties(self) -> bool:
        """Whether recent tokens change the logits."""
        neutral = (self.repetition_penalty, self.presence_penalty, self.frequency_penalty) == (1.0, 0.0, 0.0)
        return not neutral and self.repeat_last_n > 0


def _check_kind(name: str, value: object, words: str) -> None:
    kinds = (int, np.integer) if name in _WHOLE else (int, float, np.integer, np.floating)
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise UsageError(f"`{name}` is `{value}`, expected {words}", name=name, value=value)


class Sampler(Protocol):
    """Chooses tokens of one sequence."""

    def observe(self, ids: Sequence[int]) -> None:
        """Tell tokens that entered the sequence: the prompt, then each choice."""

    def pick(self, logits: npt.NDArray[np.float32]) -> int:
        """The next token for logits ``[vocab_size]``, which may be changed.

        Raises:
            GenerationFailed: no token can be chosen, because the logits are not numbers.
        """


def make_sampler(options: SamplingOptions, vocab_size: int) -> Sampler:
    """The cheapest sampler that obeys ``options``."""
    if options.temperature == 0 and not options.has_penalties:
        return GreedySampler()
    return KernelSampler(options, vocab_size)


class GreedySampler:
    """The most probable token, the lower id among equals."""

    def observe(self, ids: Sequence[int]) -> None:
        """Nothing to remember."""

    def pick(self, logits: npt.NDArray[np.float32]) -> int:
        """See ``Sampler``."""
        token = int(np.argmax(logits))  # NaN counts as greatest, so one comparison sees every bad row
        if not np.isfinite(logits[token]):
            raise _no_token(logits)
        return token


class KernelSampler:
    """Penalties, filters and a seeded draw by ``fastslm.kernels.sampling``."""

    def __init__(self, options: SamplingOptions, vocab_size: int) -> None:
        """Begin to load the kernels; the first ``pick`` waits for them."""
        self._options = options
        self._vocab_size = vocab_size
        self._recent = np.zeros(options.repeat_last_n if options.has_penalties else 0, np.int64)
        self._observed = 0
        self._loading = preload_kernels()
        self._tools: tuple[Any, Filters, Any] | None = None

    def observe(self, ids: Sequence[int]) -> None:
        """See ``Sampler``. The window is a ring: the penalties do not care for order."""
        size = self._recent.size
        if size:
            for id_ in ids[-size:]:
                self._recent[self._observed % size] = id_
                self._observed += 1

    def pick(self, logits: npt.NDArray[np.float32]) -> int:
        """See ``Sampler``."""
        if self._tools is None:
            self._tools = self._prepare()
        kernels, filters, scratch = self._tools
        token = int(kernels.sample(logits, self._recent[: self._observed], filters, scratch))
        if token < 0:
            raise _no_token(logits)
        return token

    def _prepare(self) -> tuple[Any, Filters, Any]:
        kernels = self._loading.result()
        seed = secrets.randbits(63) if self._options.seed is None else int(self._options.seed)
        return kernels, _filters(kernels, self._options), kernels.new_scratch(self._vocab_size, seed)


def _filters(kernels: Any, options: SamplingOptions) -> Filters:
    """What the kernels take: plain floats and ints; greedy with penalties keeps one candidate."""
    greedy = options.temperature == 0
    filters: Filters = kernels.Filters(
        temperature=1.0 if greedy else float(options.temperature),
        top_k=1 if greedy else int(options.top_k),
        top_p=float(options.top_p),
        min_p=float(options.min_p),
        repetition_penalty=float(options.repetition_penalty) if options.has_penalties else 1.0,
        presence_penalty=float(options.presence_penalty) if options.has_penalties else 0.0,
        frequency_penalty=float(options.frequency_penalty) if options.has_penalties else 0.0,
    )
    return filters


def load_kernels() -> Any:
    """Import and compile (from the second process on: read from numba's cache) by one call on a tiny row."""
    from fastslm.kernels import sampling

    neutral = sampling.Filters(1.0, 0, 1.0, 0.0, 1.0, 0.0, 0.0)
    sampling.sample(np.zeros(1, np.float32), np.zeros(0, np.int64), neutral, sampling.new_scratch(1, 0))
    return sampling


def preload_kernels() -> Future[Any]:
    """Load the kernels in a thread, for callers that know early (while a model loads) that a draw will come."""
    future: Future[Any] = Future()

    def work() -> None:
        try:
            future.set_result(load_kernels())
        except BaseException as error:  # noqa: BLE001  # it belongs to who waits for the result
            future.set_exception(error)

    Thread(target=work, name="fastslm-kernels", daemon=True).start()
    return future


def _no_token(logits: npt.NDArray[np.float32]) -> GenerationFailed:
    bad = int(np.count_nonzero(~np.isfinite(logits)))
    return GenerationFailed(f"the model gave {bad} logits of {logits.size} that are NaN or infinite, no token is left")
