"""The graph in ONNX Runtime: every way to feed a sequence gives the same logits, in place and without copies."""

import gc
import os
import subprocess
import sys
import weakref

import numpy as np
import pytest
from tests.support.tiny_graph import CONTEXT, build_model

from fastslm.engine.session import OrtSession, SessionOptions
from fastslm.errors import FileMissing, FormatError, GenerationFailed
from fastslm.store.manifest import ModelManifest

IDS = [5, 40, 300, 7, 7, 99, 120, 2, 350, 11, 64, 3]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return build_model(tmp_path_factory.mktemp("model"))


def open_session(folder, context_length=CONTEXT, threads=1):
    return OrtSession(folder, ModelManifest.read(folder), SessionOptions(threads, context_length))


def feed(session, lengths):
    cache, rows, start = session.new_cache(), [], 0
    for length in lengths:
        rows.append(session.forward(cache, IDS[start : start + length], every_position=True).copy())
        start += length
    assert cache.ids == IDS[:start]
    return np.concatenate(rows)


@pytest.mark.parametrize("lengths", [[1] * 12, [5, 7], [1, 10, 1], [4, 1, 1, 6], [2] * 6])
def test_the_logits_do_not_depend_on_how_the_prompt_is_cut(folder, lengths):
    session = open_session(folder)
    np.testing.assert_allclose(feed(session, lengths), feed(session, [12]), atol=2e-5)


def test_a_graph_of_thousands_of_operators_gives_the_same_logits(folder, monkeypatch):
    """Its results share no planned memory, or loading would take minutes."""
    usual = feed(open_session(folder), [5, 7])
    monkeypatch.setattr("fastslm.engine.session.LARGE_GRAPH_BYTES", 0)
    np.testing.assert_array_equal(feed(open_session(folder), [5, 7]), usual)


def test_only_the_last_position_reaches_the_head_unless_all_are_asked_for(folder):
    session = open_session(folder)
    every = feed(session, [12])
    assert every.shape == (12, session.vocab_size)
    last = session.forward(session.new_cache(), IDS)
    assert last.shape == (1, session.vocab_size)
    np.testing.assert_allclose(last[0], every[-1], atol=1e-5)


def test_a_forgotten_tail_leaves_no_trace(folder):
    """Regenerate from the middle of a conversation: the result is that of a fresh start."""
    session = open_session(folder)
    cache = session.new_cache()
    session.forward(cache, [9, 8, 7, 6, 5, 4, 3, 2])
    cache.truncate(0)
    session.forward(cache, IDS[:5])
    session.forward(cache, [1, 2, 3])
    cache.truncate(5)
    np.testing.assert_allclose(session.forward(cache, IDS[5:])[0], feed(session, [12])[-1], atol=2e-5)


def test_two_sequences_do_not_disturb_each_other(folder):
    session = open_session(folder)
    one, two = session.new_cache(), session.new_cache()
    for id_ in IDS:
        first = session.forward(one, [id_]).copy()
        session.forward(two, [id_ + 1])
    np.testing.assert_allclose(first[0], feed(session, [12])[-1], atol=2e-5)


def test_the_cache_is_written_in_place_and_only_where_the_tokens_are(folder):
    session = open_session(folder)
    cache = session.new_cache()
    session.forward(cache, IDS)
    for buffer in cache.buffers.values():
        assert np.abs(buffer[:, :, :12]).min(axis=(0, 1, 3)).all()
        assert not buffer[:, :, 12:].any()


def test_a_full_cache_takes_no_more_and_stays_as_it_was(folder):
    session = open_session(folder, context_length=12)
    cache = session.new_cache()
    session.forward(cache, IDS[:10])
    with pytest.raises(GenerationFailed, match="3 tokens, the cache has room for 2"):
        session.forward(cache, [1, 2, 3])
    with pytest.raises(GenerationFailed, match="0 tokens"):
        session.forward(cache, [])
    assert cache.ids == IDS[:10]
    session.forward(cache, IDS[10:])


def test_a_token_outside_the_vocabulary_is_an_error_not_a_crash(folder):
    session = open_session(folder)
    cache = session.new_cache()
    with pytest.raises(GenerationFailed, match="ONNX Runtime failed at position 0"):
        session.forward(cache, [10**6])
    assert len(cache) == 0
    session.forward(cache, IDS)


def test_the_memory_of_a_sequence_goes_with_its_cache(folder):
    session = open_session(folder)
    cache = session.new_cache()
    session.forward(cache, IDS[:2])
    session.forward(cache, IDS[2:3])
    gone = weakref.ref(cache)
    del cache
    gc.collect()
    assert gone() is None


def test_a_missing_a_damaged_and_a_foreign_graph_are_told_apart(tmp_path):
    folder = build_model(tmp_path / "m")
    manifest = ModelManifest.read(folder)
    graph = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(graph[: len(graph) // 2])
    with pytest.raises(FormatError, match="cannot be loaded"):
        OrtSession(folder, manifest, SessionOptions(1, 8))
    (folder / "model.onnx").unlink()
    with pytest.raises(FileMissing, match="has no graph"):
        OrtSession(folder, manifest, SessionOptions(1, 8))
    other = build_model(tmp_path / "o", num_layers=3)
    with pytest.raises(FormatError, match=r"\(4, 2, 16, \d+\), expected \(6, 2, 16, \d+\)"):
        open_session(other)


def test_running_a_model_leaves_nothing_in_the_home_folder(folder, tmp_path):
    """ONNX Runtime would write a device id and a queue of usage events there, at its import already."""
    code = f"""if True:
        from fastslm.engine.model import Model
        with Model.open({str(folder)!r}, threads=1) as model:
            assert model.generate("the dog", temperature=0, max_tokens=3).token_ids
    """
    env = {k: v for k, v in os.environ.items() if not k.startswith(("ORT_", "XDG_"))}
    env |= {"HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], env=env, check=True, timeout=60, cwd=tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
