"""A decoder that Optimum exported runs as it is: the logits of transformers, however its tokens are fed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fastslm
from fastslm.engine.growing import GrowingSession
from fastslm.engine.session import SessionOptions
from fastslm.errors import FormatError, GenerationFailed
from fastslm.export.options import ConvertOptions
from fastslm.export.prepare import prepare
from fastslm.progress import silent
from fastslm.store.manifest import ModelManifest
from support.golden import golden_model
from support.optimum import optimum_source, with_external_data

FP32 = 1e-4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The adopted model; its weights lie in a file beside the graph."""
    place = tmp_path_factory.mktemp("growing")
    source = with_external_data(optimum_source(place / "source", "llama"))
    target = place / "target"
    target.mkdir()
    prepare(source, ConvertOptions("tiny", "0" * 12)).write(target, silent)
    return target


@pytest.fixture
def session(folder: Path) -> GrowingSession:
    return GrowingSession(folder, ModelManifest.read(folder), SessionOptions(1, 64))


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[int], np.ndarray]:
    golden = golden_model("tied", tmp_path_factory.mktemp("golden"))
    return golden.prompts[0].tolist(), golden.logits[0]


def test_a_whole_prompt_gives_the_logits_of_transformers(session, expected) -> None:
    """Of every position, or of the last one."""
    ids, logits = expected
    found = session.forward(session.new_cache(), ids, every_position=True)
    np.testing.assert_allclose(found, logits, atol=FP32)
    np.testing.assert_allclose(session.forward(session.new_cache(), ids), logits[-1:], atol=FP32)


@pytest.mark.parametrize("chunk", [1, 3])
def test_pieces_equal_all_at_once(session, expected, chunk: int) -> None:
    """What a step gives back goes into the next one."""
    ids, logits = expected
    cache = session.new_cache()
    for start in range(0, len(ids), chunk):
        piece = ids[start : start + chunk]
        found = session.forward(cache, piece, every_position=True)
        np.testing.assert_allclose(found, logits[start : start + len(piece)], atol=FP32)


def test_a_cache_that_was_cut_goes_on_from_there(session, expected) -> None:
    """The next turn of a chat shares only the beginning."""
    ids, logits = expected
    cache = session.new_cache()
    session.forward(cache, [*ids[:6], 5, 6, 7])
    cache.truncate(6)
    found = session.forward(cache, ids[6:], every_position=True)
    np.testing.assert_allclose(found, logits[6:], atol=FP32)
    cache.truncate(0)
    np.testing.assert_allclose(session.forward(cache, ids), logits[-1:], atol=FP32)


def test_two_conversations_do_not_mix(session, expected) -> None:
    """Each cache has its own keys and values."""
    ids, logits = expected
    first, second = session.new_cache(), session.new_cache()
    session.forward(first, ids[:5])
    session.forward(second, [9, 8, 7, 6, 5])
    np.testing.assert_allclose(session.forward(first, ids[5:]), logits[-1:], atol=FP32)


def test_a_step_that_does_not_fit_or_fails_changes_nothing(session, expected) -> None:
    """The cache is as before."""
    ids, logits = expected
    cache = session.new_cache()
    session.forward(cache, ids[:5])
    for wrong in ([], [1] * 60, [10_000]):
        with pytest.raises(GenerationFailed):
            session.forward(cache, wrong)
    np.testing.assert_allclose(session.forward(cache, ids[5:]), logits[-1:], atol=FP32)


def test_it_generates_like_any_model(folder: Path, tmp_path: Path) -> None:
    """Greedy text is that of our own graph of the same weights."""
    golden = golden_model("tied", tmp_path / "golden")
    ours = tmp_path / "ours"
    ours.mkdir()
    prepare(golden.folder, ConvertOptions("tiny", "0", "fp32")).write(ours, silent)
    texts = []
    for place in (folder, ours):
        with fastslm.load(place) as model:
            texts.append(model.generate(golden.prompts[0].tolist(), temperature=0, max_tokens=12).token_ids)
            texts[-1] += model.generate(golden.prompts[0].tolist()[:7], temperature=0, max_tokens=4).token_ids
    assert texts[0] == texts[1]


def test_a_graph_of_other_layers_is_refused(folder: Path) -> None:
    """When the manifest and the graph do not agree."""
    from dataclasses import replace

    manifest = replace(ModelManifest.read(folder), num_layers=3)
    with pytest.raises(FormatError, match="has 4 caches, expected keys and values of 3 layers"):
        GrowingSession(folder, manifest, SessionOptions(1, 64))
