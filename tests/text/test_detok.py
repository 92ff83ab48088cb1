"""Streaming text: whatever the ids, the pieces joined are the text as a whole."""

import functools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.tiny_tokenizers import KINDS, id_of, tokenizer_json

from fastslm.text.detok import KEPT, StreamDecoder
from fastslm.text.tokenizer import Tokenizer


@functools.cache
def tokenizer(kind):
    return Tokenizer(tokenizer_json(kind))


def stream(decoder, ids):
    return [decoder.push(id_) for id_ in ids] + [decoder.flush()]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_pieces_join_to_the_full_decoding_for_any_ids(kind, data):
    """Random ids: broken characters, special tokens between the bytes of one, ids nobody knows."""
    inner = tokenizer(kind)
    bytes_and_some = st.one_of(st.integers(0, inner.vocab_size + 3), st.integers(3, 262))
    ids = data.draw(st.lists(bytes_and_some, max_size=120))
    skip = data.draw(st.booleans())
    decoder = StreamDecoder(inner, skip_special=skip)
    assert "".join(stream(decoder, ids)) == inner.decode(ids, skip_special=skip)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150, deadline=None)
@given(text=st.text(max_size=60))
def test_real_text_streams_back_as_it_decodes(kind, text):
    inner = tokenizer(kind)
    ids = inner.encode(text)
    assert "".join(stream(StreamDecoder(inner), ids)) == inner.decode(ids, skip_special=True)


@pytest.mark.parametrize("kind", ["byte_level", "sentencepiece"])
@pytest.mark.parametrize("text", ["🙂🙃👩‍👩‍👧‍👦 done", "你好，世界。", "naïve café", "𝔘𝔫𝔦 x", "\U0010ffff."])
def test_no_half_character_is_ever_shown(kind, text):
    """An emoji comes whole or not at all, never as a question mark in a diamond that repairs itself."""
    inner = tokenizer(kind)
    pieces = stream(StreamDecoder(inner), inner.encode(text))
    assert "".join(pieces) == text
    assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)


@pytest.mark.parametrize("kind", KINDS)
def test_text_comes_as_soon_as_it_is_certain(kind):
    inner = tokenizer(kind)
    ids = inner.encode(" the the the")
    *pieces, rest = stream(StreamDecoder(inner), ids)
    assert all(pieces[1:])
    assert rest == ""


def test_bytes_that_never_become_a_character_are_flushed_as_the_full_decoding_gives_them():
    inner = tokenizer("byte_level")
    ids = inner.encode("🙂")[:-1]
    decoder = StreamDecoder(inner)
    assert [decoder.push(id_) for id_ in ids] == [""] * len(ids)
    assert decoder.flush() == "\N{REPLACEMENT CHARACTER}"
    assert decoder.flush() == ""


def test_a_continuation_keeps_the_space_that_the_decoder_strips_at_the_start_of_a_text():
    """`The capital of France is` + ` Paris`: without the context a SentencePiece decoder would glue the words."""
    inner = tokenizer("sentencepiece")
    prompt, answer = inner.encode("the paris"), [id_of(inner, piece) for piece in ("▁P", "ar", "is")]
    assert "".join(stream(StreamDecoder(inner), answer)) == "Paris"
    assert "".join(stream(StreamDecoder(inner, context=prompt), answer)) == " Paris"


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_after_a_context_the_pieces_are_what_it_leads_to(kind, data):
    inner = tokenizer(kind)
    context = inner.encode(data.draw(st.text("abc the é", min_size=1, max_size=40))) + inner.encode(" end")
    ids = data.draw(st.lists(st.integers(0, inner.vocab_size - 1), max_size=20))
    whole = inner.decode(context + ids, skip_special=True)
    before = inner.decode(context, skip_special=True)
    assert before + "".join(stream(StreamDecoder(inner, context=context), ids)) == whole


@pytest.mark.parametrize("name", ["Ã", "é", "<0xE4>", "the"])
def test_a_token_costs_the_same_early_and_late(name, monkeypatch):
    """Counted, not timed: ids handed to the decoder per pushed token stay bounded, even for endless broken bytes."""
    kind = "sentencepiece" if name.startswith("<") else "byte_level"
    inner = tokenizer(kind)
    seen = []
    original = inner.decode
    id_ = id_of(inner, name)
    id_ = inner.encode(name)[0] if id_ is None else id_

    class Counting:
        special_ids, piece, is_byte = inner.special_ids, inner.piece, inner.is_byte

        def decode(self, ids, *, skip_special):
            seen.append(len(ids))
            return original(ids, skip_special=skip_special)

    decoder = StreamDecoder(Counting())
    pieces = stream(decoder, [id_] * 5000)
    assert "".join(pieces) == inner.decode([id_] * 5000)
    assert sum(seen) <= 5000 * 8 * KEPT
