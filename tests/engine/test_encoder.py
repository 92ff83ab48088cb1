"""Texts become vectors and scores: in the order they came, however they are batched, as the files say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastslm
from fastslm.engine import encoder
from fastslm.engine.encoder import batches
from fastslm.errors import FormatError, UsageError
from fastslm.store.manifest import ModelManifest
from support.golden_encoders import run_graph
from support.tiny_encoder import WORDS, converted_encoder

TEXTS = ["the cat sat on the mat", "a dog", "paris is the capital of france", "the cat sat on the mat in the park"]
PROMPTS = {"prompts": {"query": "query ", "document": ""}, "default_prompt_name": None}
NORMALIZED = [
    {"path": "", "type": "sentence_transformers.models.Transformer"},
    {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
]

Open = Callable[..., fastslm.Model]


@pytest.fixture
def open_encoder(tmp_path: Path) -> Open:
    """A tiny encoder with these files, loaded."""

    def get(variant: str = "bert", **files: Any) -> fastslm.Model:
        return fastslm.load(converted_encoder(tmp_path / variant, variant, files=files.get("files")))

    return get


def graph_vectors(folder: Path, text: str) -> np.ndarray:
    """What the graph gives for the tokens of one text."""
    ids = np.array([[1, *(WORDS.index(word) for word in text.split()), 2]])
    arrays = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    return run_graph(folder, arrays)[0]


def test_vectors_come_in_the_order_of_the_texts(tmp_path: Path) -> None:
    """Each is the mean of its own tokens, whatever it was batched with."""
    folder = converted_encoder(tmp_path)
    with fastslm.load(folder) as model:
        found = model.embed(TEXTS)
    assert (found.dtype, found.shape) == (np.float32, (4, 32))
    for row, text in enumerate(TEXTS):
        np.testing.assert_allclose(found[row], graph_vectors(folder, text).mean(axis=0), atol=1e-5)


def test_batches_change_nothing(open_encoder: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """One text at a time, or all at once."""
    model = open_encoder()
    together = model.embed(TEXTS)
    monkeypatch.setattr(encoder, "BATCH_TOKENS", 1)
    told: list[int] = []
    alone = model.embed(TEXTS, progress=lambda progress: told.append(progress.done))
    np.testing.assert_allclose(alone, together, atol=1e-5)
    assert told == [1, 2, 3, 4]


def test_pooling_and_length_are_those_of_the_files(open_encoder: Open) -> None:
    """A repository that pools by the first token and normalises."""
    pooling = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    model = open_encoder(files={"modules.json": NORMALIZED, "1_Pooling/config.json": pooling})
    found = model.embed(TEXTS)
    np.testing.assert_allclose((found**2).sum(axis=1), 1, rtol=1e-5)
    assert np.abs(found[0] - found[2]).max() > 1e-3


def test_long_texts_are_cut_where_the_files_say(open_encoder: Open) -> None:
    """`max_seq_length` counts the special tokens."""
    model = open_encoder(files={"sentence_bert_config.json": {"max_seq_length": 6, "do_lower_case": True}})
    assert model.context_length == 6
    cut, whole = model.embed(["the cat sat on the mat", "THE cat sat on"])
    np.testing.assert_allclose(cut, whole, atol=1e-5)


def test_no_texts_give_no_vectors(open_encoder: Open) -> None:
    """A pipeline may have an empty batch, and still joins what comes."""
    assert open_encoder().embed([]).shape == (0, 32)


def test_prompts_are_put_before_the_texts(open_encoder: Open) -> None:
    """By name; an unknown one is refused with those that exist."""
    model = open_encoder(files={"config_sentence_transformers.json": PROMPTS})
    asked = model.embed(["the cat"], prompt="query")
    np.testing.assert_allclose(asked, model.embed(["query the cat"]), atol=1e-6)
    np.testing.assert_allclose(model.embed(["the cat"], prompt="document"), model.embed("the cat"), atol=1e-6)
    with pytest.raises(UsageError, match=r"has no prompt `passage`, it has `query`, `document`"):
        model.embed(["x"], prompt="passage")


def test_the_default_prompt_is_used_unless_another_is_named(open_encoder: Open) -> None:
    """As sentence-transformers does it."""
    default = {**PROMPTS, "default_prompt_name": "query"}
    model = open_encoder(files={"config_sentence_transformers.json": default})
    np.testing.assert_allclose(model.embed(["the cat"]), model.embed(["query the cat"], prompt=""), atol=1e-6)


def test_a_cross_encoder_scores_pairs(open_encoder: Open) -> None:
    """Query and text go in together, the second with its own kind; one label lies between 0 and 1."""
    model = open_encoder("bert_classifier")
    ranked = model.rerank("capital of france", TEXTS)
    assert sorted(each.index for each in ranked) == [0, 1, 2, 3]
    assert [each.score for each in ranked] == sorted((each.score for each in ranked), reverse=True)
    assert all(0 < each.score < 1 and TEXTS[each.index] == each.text for each in ranked)
    assert model.rerank("capital of france", TEXTS, top=2) == ranked[:2]
    with pytest.raises(UsageError, match="gives scores, expected a model that gives vectors"):
        model.embed(TEXTS)


def test_pairs_are_those_of_the_tokenizer(tmp_path: Path) -> None:
    """The score is the graph's for `[CLS] query [SEP] text [SEP]`."""
    folder = converted_encoder(tmp_path, "bert_classifier")
    ids = np.array([[1, WORDS.index("paris"), 2, WORDS.index("cat"), 2]])
    kinds = np.array([[0, 0, 0, 1, 1]])
    batch = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": kinds}
    [found] = fastslm.load(folder).rerank("paris", ["cat"])
    assert found.score == pytest.approx(1 / (1 + np.exp(-run_graph(folder, batch)[0, 0])), abs=1e-5)


def test_several_scores_are_no_order(open_encoder: Open) -> None:
    """A classifier of three labels does not tell which text is best."""
    with pytest.raises(UsageError, match="gives 3 scores for a pair, expected one"):
        open_encoder("roberta_classifier").rerank("x", ["y"])


def test_other_encoders_rerank_by_the_cosine(open_encoder: Open) -> None:
    """A text answers itself best."""
    best = open_encoder().rerank(TEXTS[1], TEXTS)[0]
    assert (best.index, best.text) == (1, "a dog")
    assert best.score == pytest.approx(1, abs=1e-5)


def test_an_encoder_generates_nothing(open_encoder: Open) -> None:
    """Every way of asking for text says why not."""
    model = open_encoder()
    asks: list[Callable[[], object]] = [
        lambda: model.generate("x"),
        lambda: model.stream("x"),
        lambda: model.chat([{"role": "user", "content": "x"}]),
        lambda: model.chat_stream([{"role": "user", "content": "x"}]),
        lambda: model.perplexity("x"),
    ]
    for ask in asks:
        with pytest.raises(UsageError, match="`tiny/bert` is an encoder, expected a model that generates text"):
            ask()


@pytest.mark.parametrize("texts", [3, [1], b"x", None, ["ok", "\ud800"]])
def test_what_is_no_text_is_refused(texts: object, open_encoder: Open) -> None:
    """In one sentence, before anything runs."""
    with pytest.raises(UsageError, match=r"expected a list of texts|not valid Unicode"):
        open_encoder().embed(texts)  # type: ignore[arg-type]


def test_a_closed_encoder_says_so(open_encoder: Open) -> None:
    """Also inside `with`."""
    with open_encoder() as model:
        model.embed(["x"])
    with pytest.raises(UsageError, match="the model is closed"):
        model.embed(["x"])


def test_special_tokens_need_room(tmp_path: Path) -> None:
    """A length that no text fits in is a damaged repository, not an empty vector."""
    folder = converted_encoder(tmp_path, files={"sentence_bert_config.json": {"max_seq_length": 3}})
    with pytest.raises(FormatError, match="adds 3 special tokens, expected fewer than the 3"):
        fastslm.load(folder)


def test_a_decoder_in_the_place_of_an_encoder_is_refused(tmp_path: Path) -> None:
    """A graph that does not give what the manifest promises is told by its names."""
    folder = converted_encoder(tmp_path)
    manifest = ModelManifest.read(folder)
    text = (folder / "fastslm.json").read_text(encoding="utf-8").replace('"task": "embed"', '"task": "classify"')
    (folder / "fastslm.json").write_text(text, encoding="utf-8")
    assert manifest.encoder is not None
    with pytest.raises(FormatError, match=r"outputs \['last_hidden_state'\], expected an encoder's: logits"):
        fastslm.load(folder)


@given(st.lists(st.integers(1, 50), max_size=30), st.integers(1, 200))
def test_batches_hold_every_text_once_and_keep_the_bound(lengths: Sequence[int], most: int) -> None:
    """Padded to its longest text a batch is within the bound, or is one text."""
    found = list(batches(lengths, most))
    assert sorted(index for batch in found for index in batch) == list(range(len(lengths)))
    for batch in found:
        assert len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= most
