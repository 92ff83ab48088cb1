"""Byte-level BPE by our kernel, for tokenizers of which every part is understood; all others are refused.

Law: the ids are those of the `tokenizers` library. It is asked about each new character, normalises what is not plain,
and must give the same ids for a page of awkward text before the kernel is used at all.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np
import numpy.typing as npt

from fastslm.text.split_rules import NotUnderstoodError, RuleTables, levels_of

CHARACTERS_AT_ONCE = 4096
"""New characters that the library is asked about in one go."""

MOST_WORDS = 1 << 17
"""Different words of one text that are remembered."""

VOCABULARY, MERGES = b'"vocab":{', b'},"merges":['
"""What stands in the library's own JSON before these parts of a model."""

_PLAIN = {"dropout": None, "unk_token": None, "fuse_unk": False, "byte_fallback": False}
_AFFIXES = ("continuing_subword_prefix", "end_of_word_suffix")
_AWKWARD = (
    "I'd they'Ll WE'VE it's 's 'S'ſ don't\u2019s 12345 1,234.56 ²³½ ٣٤٥ x1y22z333 \t\t a\n\n  b \r\n\r\n   c   \n"
    "\u3000\u00a0 \u2003end CamelCaseWORDSs HTTPServer ΑΒγδ ǅ ʰ naïve cafe\u0301 e\u0301\u0327 각 \u1100\u1161 "
    "你好，世界。ไทย हिन्दी العربية 🙂👩\u200d👩\u200d👧 \U0001f1e9\U0001f1ea /path/to//file.py:10 #{}[]()==!= "
    "$%^&*_-+~`|\\ \x00\x7f\ufffd\ue000\U000e0001 \u0378 " + "abc" * 50 + "=" * 90 + " " * 70 + "end  "
)
"""What rules of splitting differ in, and what only one table of Unicode may know."""

Ids = list[int]


class ByteLevelEncoder:
    """The kernel with the tables of one tokenizer. Usable from any thread."""

    def __init__(self, inner: Any) -> None:
        """Take a tokenizer of the library apart.

        Raises:
            NotUnderstoodError: it has a part that is not understood, or the ids differ.
        """
        self._normalizer = _normalizer(inner)
        self._added = _added(inner, self._normalizer)
        self._rules = RuleTables(levels_of(_state(inner.pre_tokenizer)))
        model = _model_state(inner)

        from fastslm.kernels import bpe, splitting  # numba, only now that it is of use

        self._bpe, self._splitting = bpe, splitting
        self._kinds = np.zeros(0x110000, np.uint32)
        self._merges, self._vocabulary = _tables(model, inner.get_vocab_size(with_added_tokens=False), bpe)
        self._check(inner)

    def encode(self, text: str) -> Ids:
        """Token ids. Raises UnicodeEncodeError for lone surrogates."""
        pieces, tokens = self._pieces(text)
        data, ends, stops = self._words(pieces)
        bpe, words = self._bpe, min(ends.size, MOST_WORDS)
        out = np.empty(data.size + len(pieces), np.int32)
        count = bpe.encode(
            bpe.Text(data, ends, stops, np.array(tokens, np.int64)),
            self._merges,
            self._vocabulary,
            bpe.new_words(words, 2 * words),
            bpe.new_scratch(int(np.diff(ends, prepend=0).max(initial=0))),
            out,
        )
        ids: Ids = out[:count].tolist()
        return ids

    def _words(self, pieces: Sequence[str]) -> tuple[Any, Any, Any]:
        """The pieces in UTF-8, where their words end, and at which word each piece ends."""
        text = "".join(pieces)
        characters = np.frombuffer(text.encode("utf-32-le"), np.uint32)
        stops = np.cumsum([len(piece) for piece in pieces], dtype=np.int64)
        ends = np.empty(len(text), np.int64)
        self._learn(characters)
        rules = self._splitting.Rules(*self._rules.arrays, self._kinds)
        count = self._splitting.cut(characters, stops, rules, ends)
        return np.frombuffer(text.encode(), np.uint8), ends[:count], stops

    def _pieces(self, text: str) -> tuple[list[str], list[int]]:
        """Text between added tokens, normalised, and the id after each piece, -1 where there is none.

        As the library does: first the tokens that are looked for in the text as it is, then, in what is left, those
        that are looked for after normalisation.
        """
        early, late = self._added
        pieces: list[str] = []
        tokens: list[int] = []
        for part, token in _cut(text, early):
            for piece, inside in _cut(self._normalized(part), late):
                pieces.append(piece)
                tokens.append(inside)
            tokens[-1] = token
        return pieces, tokens

    def _normalized(self, text: str) -> str:
        """What the library makes of a piece; Python may say that it is as it should be, where it knows every sign."""
        if self._normalizer is None or text.isascii():
            return text
        if unicodedata.is_normalized("NFC", text) and all(unicodedata.category(c) != "Cn" for c in set(text)):
            return text
        return str(self._normalizer.normalize_str(text))

    def _learn(self, characters: Any) -> None:
        """Ask the library about characters that were not seen before. Two threads may learn the same."""
        found = np.empty(CHARACTERS_AT_ONCE, np.uint32)
        while count := self._splitting.unknown(characters, self._kinds, found):
            new = np.unique(found[:count])
            self._kinds[new] = self._rules.kinds("".join(map(chr, new.tolist()))) | np.uint32(self._splitting.KNOWN)

    def _check(self, inner: Any) -> None:
        """Compare with the library, with added tokens in the middle of words too."""
        contents = [token.content for token in inner.get_added_tokens_decoder().values()][:64]
        page = _AWKWARD + _AWKWARD.join(contents[:2]) + "x".join(contents) + _AWKWARD[::-1]
        if self.encode(page) != inner.encode(page, add_special_tokens=False).ids:
            raise NotUnderstoodError


def _state(part: Any) -> Any:
    """Settings of a part of the library's tokenizer, as in a tokenizer.json."""
    return None if part is None else json.loads(part.__getstate__())


def _normalizer(inner: Any) -> Any:
    """The library's NFC, or None. Raises NotUnderstoodError for all others."""
    state = _state(inner.normalizer)
    if state is not None and state.get("type") != "NFC":
        raise NotUnderstoodError
    return inner.normalizer


Finder = tuple["re.Pattern[str] | None", Mapping[str, int]]
"""An expression for added tokens, the longest first, and their ids."""


def _added(inner: Any, normalizer: Any) -> tuple[Finder, Finder]:
    """Tokens that are looked for in the text as it is, and those looked for in normalised text."""
    found: tuple[dict[str, int], dict[str, int]] = ({}, {})
    for id_, token in inner.get_added_tokens_decoder().items():
        if token.lstrip or token.rstrip or token.single_word:
            raise NotUnderstoodError
        late = bool(token.normalized)
        content = normalizer.normalize_str(token.content) if late and normalizer else token.content
        if not content or content in found[late]:
            raise NotUnderstoodError
        found[late][content] = id_
    return _finder(found[0]), _finder(found[1])


def _finder(ids: Mapping[str, int]) -> Finder:
    longest = sorted(ids, key=len, reverse=True)
    return (re.compile("|".join(map(re.escape, longest))) if ids else None), ids


def _cut(text: str, finder: Finder) -> Iterator[tuple[str, int]]:
    """Pieces and the token after each, -1 after the last."""
    pattern, ids = finder
    at = 0
    for found in pattern.finditer(text) if pattern else ():
        yield text[at : found.start()], ids[found[0]]
        at = found.end()
    yield text[at:], -1


def _model_state(inner: Any) -> tuple[bytes, int, bool]:
    """The model as the library writes it, where its vocabulary begins, and whether whole words are not merged.

    Raises:
        NotUnderstoodError: it is more than merges of bytes.
    """
    if type(inner.model).__name__ != "BPE":  # before all its words are written
        raise NotUnderstoodError
    state = bytes(inner.model.__getstate__())
    at = state.find(VOCABULARY)  # within a string the quotes would be escaped
    settings = json.loads(state[: max(0, at)].rstrip(b",") + b"}")
    if any(settings.get(name, value) != value for name, value in _PLAIN.items()) or any(map(settings.get, _AFFIXES)):
        raise NotUnderstoodError
    return state, at + len(VOCABULARY), bool(settings.get("ignore_merges"))


def _tables(model: tuple[bytes, int, bool], count: int, bpe: Any) -> tuple[Any, Any]:
    """Merges, and the words that are not merged, of a model with ``count`` tokens. Raises NotUnderstoodError."""
    state, at, ignores_merges = model
    symbols = _byte_symbols()
    spelling = np.full(1 + max(symbols), -1, np.int32)
    spelling[symbols] = np.arange(256)
    source = np.frombuffer(state, np.uint8)
    words = bpe.Vocabulary(np.empty(source.size, np.uint8), bpe.new_words(count, 4 * count))
    at, found = bpe.read_vocabulary(source, at, spelling, words)
    if found != count or state[at : at + len(MERGES)] != MERGES:
        raise NotUnderstoodError
    at += len(MERGES)
    merges = bpe.new_merges(_byte_tokens(words), state.count(b'["', at))
    if state[bpe.read_merges(source, at, spelling, words, merges) :] != b"]}":
        raise NotUnderstoodError
    return merges, words if ignores_merges else bpe.Vocabulary(np.empty(0, np.uint8), bpe.new_words(0, 0))


def _byte_tokens(words: Any) -> npt.NDArray[np.int32]:
    """The token of each byte, -1 where the vocabulary lacks it: the library passes over such a byte."""
    tokens = np.full(256, -1, np.int32)
    spans = words.words.spans[: words.words.number[0]]
    single = spans[spans[:, 1] == 1]
    tokens[words.data[single[:, 0]]] = single[:, 2]
    return tokens


def _byte_symbols() -> list[int]:
    """The character that stands for each byte in a byte-level vocabulary: itself where it can be seen (GPT-2, 2019)."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = count(0x100)
    return [byte if byte in visible else next(others) for byte in range(256)]
