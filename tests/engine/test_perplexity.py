"""Perplexity: the textbook number, however the text is cut for computing it."""

import itertools
import math

import numpy as np
import pytest
from tests.support.tiny_graph import CONTEXT, build_model

from fastslm.engine.perplexity import negative_log_likelihood, perplexity
from fastslm.engine.session import OrtSession, SessionOptions
from fastslm.errors import GenerationFailed, UsageError
from fastslm.store.manifest import ModelManifest

IDS = [int(i) for i in np.random.default_rng(3).integers(0, 370, 300)]


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    folder = build_model(tmp_path_factory.mktemp("model"))
    return OrtSession(folder, ModelManifest.read(folder), SessionOptions(1, CONTEXT))


def slow_nll(session, ids):
    """One token at a time, softmax written out in float64."""
    cache, total = session.new_cache(), 0.0
    for id_, following in itertools.pairwise(ids):
        row = session.forward(cache, [id_])[0].astype(np.float64)
        total -= math.log(math.exp(row[following]) / sum(math.exp(value) for value in row))
    return total


@pytest.mark.parametrize("per_step", [1, 7 * 378, 1 << 24])
def test_it_is_exp_of_the_mean_negative_log_likelihood(session, monkeypatch, per_step):
    monkeypatch.setattr("fastslm.engine.perplexity.LOGITS_PER_STEP", per_step)
    ids = IDS[:60]
    report = perplexity(session, ids)
    assert report.mean_nll == pytest.approx(slow_nll(session, ids) / 59, rel=1e-5)
    assert report.perplexity == pytest.approx(math.exp(report.mean_nll))
    assert (report.tokens, report.predicted_tokens, report.window) == (60, 59, 60)


def test_a_text_longer_than_the_context_is_read_in_windows(session):
    report = perplexity(session, IDS)
    parts = [IDS[:128], IDS[128:256], IDS[256:]]
    expected = sum(slow_nll(session, part) for part in parts) / 297
    assert report.mean_nll == pytest.approx(expected, rel=1e-5)
    assert (report.tokens, report.predicted_tokens, report.window) == (300, 297, 128)


def test_progress_ends_at_the_last_token(session):
    seen = []
    perplexity(session, IDS[:200], progress=seen.append)
    assert [p.done for p in seen] == sorted(p.done for p in seen)
    assert (seen[-1].done, seen[-1].total, seen[-1].unit) == (200, 200, "tokens")


@pytest.mark.parametrize("count", [0, 1])
def test_one_token_predicts_nothing(session, count):
    with pytest.raises(UsageError, match=f"the text has {count} tokens, expected at least 2"):
        perplexity(session, IDS[:count])


def test_the_likelihood_survives_large_logits_and_refuses_bad_ones():
    logits = np.array([[1000.0, 999.0, -1000.0]], np.float32)
    assert negative_log_likelihood(logits, np.array([1])) == pytest.approx(1 + math.log(1 + math.exp(-1)))
    for bad in (math.nan, math.inf):
        with pytest.raises(GenerationFailed, match="NaN or infinite"):
            negative_log_likelihood(np.array([[0.0, bad]], np.float32), np.array([0]))
