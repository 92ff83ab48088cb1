"""Who encodes: the library until our kernel pays, then the kernel; the ids are the same and nobody waits for long."""

import threading
import time

import pytest
from tests.support.tiny_tokenizers import tokenizer_json

from fastslm.errors import UsageError
from fastslm.text import byte_level, encoder
from fastslm.text.encoder import Encoder
from fastslm.text.tokenizer import Tokenizer, load_inner

TEXT = "the quick brown fox <|im_end|> naïve 你好 🙂\n" * 200


class Library:
    """The library, and how often it was asked for a text of the test."""

    def __init__(self, inner):
        self.inner, self.texts = inner, []

    def encode(self, text, **options):
        self.texts.append(text)
        return self.inner.encode(text, **options)

    def __getattr__(self, name):
        return getattr(self.inner, name)


@pytest.fixture
def library():
    return Library(load_inner(tokenizer_json("byte_level"), "tokenizer.json"))


@pytest.fixture
def patient(monkeypatch):
    """The kernel is loaded for the first longer text, which waits for it."""
    monkeypatch.setattr(encoder, "BREAK_EVEN", 1)
    monkeypatch.setattr(encoder, "LIBRARY_S_PER_CHARACTER", 1.0)


def test_ordinary_use_never_loads_the_kernel(library):
    """A prompt, even a long one, must not cost the import of numba and a second of a processor."""
    before = set(threading.enumerate())
    ours = Encoder(library)
    for text in ("", "the", TEXT):
        assert ours.encode(text) == library.inner.encode(text, add_special_tokens=False).ids
    assert len(library.texts) == 3
    assert set(threading.enumerate()) == before


def test_after_much_text_the_kernel_takes_over(library, patient):
    ours = Encoder(library)
    expected = library.inner.encode(TEXT, add_special_tokens=False).ids
    assert ours.encode(TEXT) == expected
    assert TEXT not in library.texts
    assert ours.encode("the") == library.inner.encode("the").ids
    assert library.texts[-1] == "the"


def test_short_texts_do_not_count(library, monkeypatch):
    monkeypatch.setattr(encoder, "BREAK_EVEN", len(TEXT))
    monkeypatch.setattr(encoder, "LIBRARY_S_PER_CHARACTER", 1.0)
    ours = Encoder(library)
    for _ in range(20):
        ours.encode(TEXT[:1000])
    ours.encode(TEXT[:-1])
    assert len(library.texts) == 21
    ours.encode(TEXT)
    assert TEXT not in library.texts


def test_a_text_waits_no_longer_than_the_library_needs(library, monkeypatch):
    """In the first process after installation the kernel is compiled for seconds."""
    monkeypatch.setattr(encoder, "BREAK_EVEN", 1)
    go, done, real = threading.Event(), threading.Event(), byte_level.ByteLevelEncoder

    def slow(inner):
        go.wait(60)
        try:
            return real(inner)
        finally:
            done.set()

    monkeypatch.setattr(byte_level, "ByteLevelEncoder", slow)
    ours = Encoder(library)
    expected = library.inner.encode(TEXT, add_special_tokens=False).ids
    assert ours.encode(TEXT) == expected
    assert library.texts == [TEXT]
    go.set()
    assert done.wait(100)
    for _ in range(100):
        asked = len(library.texts)
        assert ours.encode(TEXT) == expected
        if len(library.texts) == asked:
            break
        time.sleep(0.05)
    else:
        pytest.fail("the kernel never took over")


class PanicError(BaseException):
    """What a panic of the library looks like."""


@pytest.mark.parametrize("error", [ImportError("no numba"), ValueError("a bug"), MemoryError(), PanicError()])
def test_where_the_kernel_cannot_be_loaded_the_library_encodes(library, patient, monkeypatch, error):
    def fail(inner):
        raise error

    monkeypatch.setattr(byte_level, "ByteLevelEncoder", fail)
    ours = Encoder(library)
    assert ours.encode(TEXT) == ours.encode(TEXT) == library.inner.encode(TEXT, add_special_tokens=False).ids
    assert library.texts == [TEXT, TEXT]


@pytest.mark.parametrize("kind", ["byte_level", "sentencepiece", "metaspace"])
def test_users_see_no_difference(kind, patient):
    tokenizer, inner = Tokenizer(tokenizer_json(kind)), load_inner(tokenizer_json(kind), "tokenizer.json")
    assert tokenizer.encode(TEXT) == inner.encode(TEXT, add_special_tokens=False).ids
    assert tokenizer.encode_start(TEXT, 50) == tokenizer.encode(TEXT)[:50]


@pytest.mark.parametrize("kind", ["byte_level", "sentencepiece"])
def test_errors_stay_what_they_were(kind, patient):
    tokenizer = Tokenizer(tokenizer_json(kind))
    with pytest.raises(UsageError, match=r"half a surrogate pair \(U\+D83D\) at character 8800"):
        tokenizer.encode((TEXT * 2)[:8800] + "\ud83d" + TEXT)
    for value in (["a"] * 5000, b"a" * 5000, None):
        with pytest.raises(UsageError, match="expected text"):
            tokenizer.encode(value)
