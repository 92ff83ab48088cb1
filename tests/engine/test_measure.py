"""Measuring a model: the steps it takes are those of a generation, the bytes those that a token reads."""

import pytest
from tests.support.scripted_session import ScriptedSession
from tests.support.tiny_graph import CONTEXT, HEAD_DIM, KV_HEADS, LAYERS, build_model

from fastslm.engine.measure import Measurement, MeasureOptions, Speed, Spread, speeds, step_bytes
from fastslm.engine.model import Model
from fastslm.errors import ContextTooLong, UsageError
from fastslm.store.manifest import ModelManifest

ROW = 4 * HEAD_DIM


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return build_model(tmp_path_factory.mktemp("model"), streamed_bytes=1000)


def test_it_reads_each_prompt_in_chunks_and_writes_to_the_full_length_by_turns(folder):
    """A short prompt nobody counts comes first; an end token in between ends nothing."""
    session = ScriptedSession([], prompt_tokens=0, context_length=2000)
    found = speeds(session, ModelManifest.read(folder), MeasureOptions((600, 8), tokens=3, repeats=2))
    once = [512, 88, 1, 1, 1, 8, 1, 1, 1]
    assert session.steps == [8, *once, *once]
    assert [(speed.prompt_tokens, speed.new_tokens) for speed in found] == [(600, 3), (8, 3)]


def test_rates_are_tokens_over_the_time_they_took(folder, monkeypatch):
    """A clock that moves by a second at each look makes every step one second long."""
    clock = iter(range(1000))
    monkeypatch.setattr("fastslm.engine.measure.time.perf_counter", lambda: float(next(clock)))
    session = ScriptedSession([], prompt_tokens=0)
    [speed] = speeds(session, ModelManifest.read(folder), MeasureOptions((20,), tokens=4, repeats=3))
    assert speed.prefill_tokens_per_s == Spread(20.0, 20.0, 20.0)
    assert speed.decode_tokens_per_s == Spread(1.0, 1.0, 1.0)
    assert speed.bytes_per_s == speed.step_bytes > 0


def test_a_step_reads_the_weights_and_the_keys_and_values_before_it(folder):
    manifest = ModelManifest.read(folder)
    cached = 2 * LAYERS * KV_HEADS * ROW
    assert step_bytes(manifest, 10, "f32") == 1000 + 10 * cached
    assert step_bytes(manifest, 10, "f16", rows=4) == 1000 + 10 * 4 * cached // 2


def test_without_known_weights_no_bytes_and_no_share_are_told(tmp_path):
    manifest = ModelManifest.read(build_model(tmp_path / "m"))
    assert step_bytes(manifest, 10, "f32") == 0
    one = Spread(1.0, 1.0, 1.0)
    speed = Speed(8, 4, one, one, step_bytes=0)
    measurement = Measurement("fp32", "portable", "f32", "", 1, 0.1, 1, None, 1e9, (speed,))
    assert measurement.share(speed) is None


@pytest.mark.parametrize("bandwidth", [None, 2000.0])
def test_the_share_is_that_of_the_bandwidth_when_it_was_measured(bandwidth):
    one = Spread(1.0, 1.0, 1.0)
    speed = Speed(8, 4, one, one, step_bytes=500)
    measurement = Measurement("fp32", "portable", "f32", "", 1, 0.1, 1, None, bandwidth, (speed,))
    assert measurement.share(speed) == (0.25 if bandwidth else None)


def test_a_model_measures_itself_with_its_threads_and_its_memory(folder, monkeypatch):
    monkeypatch.setattr("fastslm.engine.measure.measure_bandwidth", lambda threads, available: 1e9 * threads)
    with Model.open(folder, threads=1) as model:
        found = model.measure(MeasureOptions((16,), tokens=4, repeats=1))
    assert (found.threads, found.bandwidth_bytes_per_s, found.isa, found.kv_cache) == (1, 1e9, "", "f32")
    assert 0 < found.load_s < 60
    assert found.anonymous_bytes is None or 0 < found.anonymous_bytes <= found.rss_bytes
    assert found.speeds[0].decode_tokens_per_s.median > 0


def test_what_does_not_fit_in_the_context_is_refused_before_anything_runs(folder):
    session = ScriptedSession([], prompt_tokens=0, context_length=CONTEXT)
    with pytest.raises(ContextTooLong, match="120 tokens and 9 new ones"):
        speeds(session, ModelManifest.read(folder), MeasureOptions((16, 120), tokens=9))
    assert session.steps == []


@pytest.mark.parametrize(
    "wrong", [{"prompts": (1,)}, {"prompts": ()}, {"tokens": 0}, {"repeats": 0}, {"prompts": (True,)}, {"tokens": 2.0}]
)
def test_numbers_without_a_meaning_are_refused(wrong):
    with pytest.raises(UsageError):
        MeasureOptions(**wrong)
