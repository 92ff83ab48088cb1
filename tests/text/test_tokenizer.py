"""Tokenizers as models bring them: sound, careless and broken."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.tiny_tokenizers import KINDS, id_of, tokenizer_json

from fastslm.errors import FileMissing, FormatError, UsageError
from fastslm.text.tokenizer import Tokenizer


@pytest.mark.parametrize("kind", ["byte_level", "sentencepiece"])
def test_text_goes_to_ids_and_back(kind):
    tokenizer = Tokenizer(tokenizer_json(kind))
    text = "the capital, naïve 你好 🙂"
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_special_tokens_in_the_text_are_recognised_and_none_are_added():
    """A file whose post-processor adds a bos token must not give two of them after a chat template."""
    spec = json.loads(tokenizer_json("byte_level"))
    bos = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    spec["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [bos, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [2], "tokens": ["<s>"]}},
    }
    tokenizer = Tokenizer(json.dumps(spec))
    assert tokenizer.encode("<s>") == [2]
    ids = tokenizer.encode("<|im_start|>the<|im_end|>")
    assert (ids[0], ids[-1]) == (0, 1)
    assert tokenizer.decode(ids) == "<|im_start|>the<|im_end|>"
    assert tokenizer.decode(ids, skip_special=True) == "the"
    assert tokenizer.special_ids == {0, 1, 2}


def test_truncation_and_padding_left_over_from_training_are_switched_off():
    """Some repositories ship a tokenizer.json that silently cuts every text at 512 tokens."""
    spec = json.loads(tokenizer_json("byte_level"))
    spec["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    spec["padding"] = {
        "strategy": {"Fixed": 64},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "<|im_start|>",
    }
    ids = Tokenizer(json.dumps(spec)).encode("the quick brown fox jumps over the lazy dog")
    assert 4 < len(ids) < 64
    assert Tokenizer(tokenizer_json("byte_level")).decode(ids).endswith("dog")


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"model": {"type": "BPE"}}', "\x00"])
def test_a_broken_file_is_named(content):
    with pytest.raises(FormatError, match=r"`tokenizer\.json` is not a tokenizer"):
        Tokenizer(content)


def test_files_are_opened_by_path(tmp_path):
    path = tmp_path / "tokenizer.json"
    with pytest.raises(FileMissing, match="no tokenizer at"):
        Tokenizer.open(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(FormatError, match="cannot be read"):
        Tokenizer.open(path)
    path.write_text(tokenizer_json("metaspace"), encoding="utf-8")
    assert Tokenizer.open(path).encode("the")


def test_pieces_and_ids():
    tokenizer = Tokenizer(tokenizer_json("sentencepiece"))
    assert tokenizer.piece(id_of(tokenizer, "▁the")) == "▁the"
    assert tokenizer.piece(10**6) is None
    assert tokenizer.is_byte(id_of(tokenizer, "<0xE4>"))
    assert not tokenizer.is_byte(id_of(tokenizer, "▁the"))
    assert not any(Tokenizer(tokenizer_json("byte_level")).is_byte(id_) for id_ in range(300))


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_ids_give_no_text_and_impossible_ones_an_error(kind):
    tokenizer = Tokenizer(tokenizer_json(kind))
    assert tokenizer.decode([tokenizer.vocab_size + 50]) == ""
    assert tokenizer.decode([]) == ""
    with pytest.raises(UsageError, match="whole numbers from 0"):
        tokenizer.decode([-1])


def test_half_a_surrogate_pair_is_refused():
    with pytest.raises(UsageError, match="not valid Unicode"):
        Tokenizer(tokenizer_json("byte_level")).encode("\ud83d")


def test_what_is_no_text_is_refused_by_name():
    tokenizer = Tokenizer(tokenizer_json("byte_level"))
    for value in (None, 5, b"abc", ["a"]):
        with pytest.raises(UsageError, match=r"`text` is `.*`, expected text"):
            tokenizer.encode(value)
    with pytest.raises(UsageError, match=r"half a surrogate pair \(U\+D83D\) at character 2"):
        tokenizer.encode("ab\ud83d")


@pytest.mark.parametrize(
    "ids", [None, 5, "abc", b"abc", ["a"], [1.0], [True], [[1]], {1: 2}, np.ones(2), np.ones((1, 2))]
)
def test_what_are_no_token_ids_is_refused_by_name(ids):
    """Bytes are not taken for ids and 1.5 does not become 1."""
    with pytest.raises(UsageError, match=r"`ids` is `.*`, expected token ids: a list of whole numbers"):
        Tokenizer(tokenizer_json("byte_level")).decode(ids)


def test_token_ids_may_come_as_any_kind_of_whole_numbers():
    tokenizer = Tokenizer(tokenizer_json("byte_level"))
    ids = tokenizer.encode("the dog")
    for form in (tuple(ids), np.array(ids), [np.int32(id_) for id_ in ids]):
        assert tokenizer.decode(form) == "the dog"


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_the_start_of_a_text_is_encoded_as_the_whole_text_begins(kind, data):
    """Cuts fall into words, emoji and special tokens; nobody can tell from the ids."""
    tokenizer = Tokenizer(tokenizer_json(kind))
    piece = data.draw(st.text("ab the,\n你🙂é<|im_end|>", min_size=1, max_size=40))
    text = piece * (20000 // len(piece))
    count = data.draw(st.integers(1, 300))
    assert tokenizer.encode_start(text, count) == tokenizer.encode(text)[:count]


def test_the_start_of_a_text_costs_the_same_in_a_long_text(monkeypatch):
    """Counted, not timed. Tokens that are hundreds of characters long only need more of the text."""
    tokenizer = Tokenizer(tokenizer_json("byte_level"))
    seen = []
    original = Tokenizer.encode
    monkeypatch.setattr(Tokenizer, "encode", lambda self, text: seen.append(len(text)) or original(self, text))
    text = "the quick brown fox " * 100_000
    assert len(tokenizer.encode_start(text, 64)) == 64
    assert sum(seen) < 10_000
    long = json.loads(tokenizer_json("byte_level"))
    long["added_tokens"][-1]["content"] = "-" * 500
    dashes = Tokenizer(json.dumps(long))
    assert dashes.encode_start("-" * 1_000_000, 64) == dashes.encode("-" * 32_000)
