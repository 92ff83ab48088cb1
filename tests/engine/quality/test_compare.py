"""The figures of a comparison are the textbook's, however the text is cut for computing them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from fastslm.engine.kv_cache import CacheShape, KVCache
from fastslm.engine.quality import compare
from fastslm.engine.quality.compare import compare_sessions
from fastslm.errors import GenerationFailed

VOCABULARY, LENGTH = 50, 40
RNG = np.random.default_rng(4)
FLOATS = RNG.normal(0, 3, (LENGTH, VOCABULARY)).astype(np.float32)
NEAR = FLOATS + RNG.normal(0, 0.5, FLOATS.shape).astype(np.float32)
IDS = [int(each) for each in RNG.integers(0, VOCABULARY, LENGTH)]


class Table:
    """A session whose logits are rows of a table."""

    context_length, vocab_size = LENGTH, VOCABULARY

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = rows

    def new_cache(self) -> KVCache:
        return KVCache(CacheShape(1, 1, LENGTH, 2))

    def forward(self, cache: KVCache, ids: Sequence[int], *, every_position: bool = False) -> Any:
        assert every_position
        start = len(cache)
        cache.extend(ids)
        return self.rows[start : start + len(ids)].copy()


def slow(one: np.ndarray, other: np.ndarray) -> tuple[float, float, float]:
    """KL divergence, perplexity of the second, share of equal best tokens; by the definitions."""
    divergence, nll, same = 0.0, 0.0, 0
    for row in range(LENGTH - 1):
        p = [math.exp(float(x)) for x in one[row]]
        q = [math.exp(float(x)) for x in other[row]]
        p, q = [x / sum(p) for x in p], [x / sum(q) for x in q]
        divergence += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
        nll -= math.log(q[IDS[row + 1]])
        same += p.index(max(p)) == q.index(max(q))
    return divergence / (LENGTH - 1), math.exp(nll / (LENGTH - 1)), same / (LENGTH - 1)


@pytest.mark.parametrize("per_step", [1, 7, 64])
def test_divergence_perplexity_and_agreement(monkeypatch: pytest.MonkeyPatch, per_step: int) -> None:
    monkeypatch.setattr(compare, "MOST_PER_STEP", per_step)
    found = compare_sessions(Table(FLOATS), Table(NEAR), IDS)
    assert (found.kl_divergence, found.perplexity, found.same_best) == pytest.approx(slow(FLOATS, NEAR), rel=1e-6)
    assert found.float_perplexity == pytest.approx(slow(FLOATS, FLOATS)[1])
    assert 0.3 < (found.same_best or 0) < 1, "the test shows something"
    assert found.tokens == LENGTH


def test_nothing_lost_is_zero() -> None:
    found = compare_sessions(Table(FLOATS), Table(FLOATS), IDS)
    assert (found.kl_divergence, found.same_best) == (0.0, 1.0)
    assert found.perplexity == found.float_perplexity


def test_numbers_that_are_none_are_an_error() -> None:
    """A graph that overflows is not compared; neither is a text of one token."""
    broken = FLOATS.copy()
    broken[3, 3] = np.nan
    with pytest.raises(GenerationFailed, match="NaN or infinite"):
        compare_sessions(Table(FLOATS), Table(broken), IDS)
    with pytest.raises(GenerationFailed, match="1 tokens"):
        compare_sessions(Table(FLOATS), Table(FLOATS), IDS[:1])


def test_hopeless_models_have_a_finite_perplexity() -> None:
    """JSON knows no infinity."""
    hopeless = np.full_like(FLOATS, -5000.0)
    hopeless[np.arange(LENGTH), (np.roll(IDS, -1) + 1) % VOCABULARY] = 5000.0
    found = compare_sessions(Table(FLOATS), Table(hopeless), IDS)
    assert math.isfinite(found.perplexity or math.inf)
