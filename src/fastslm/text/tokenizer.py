"""Text to token ids and back, as the `tokenizers` library does from a ``tokenizer.json``.

Encoding recognises special tokens in the text and adds none: who needs a bos token writes it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from operator import index
from pathlib import Path
from string import hexdigits
from typing import Any

from fastslm.errors import FileMissing, FormatError, UsageError
from fastslm.text.encoder import Encoder

CHARACTERS_PER_TOKEN = 16
"""A first guess, well above the three to five of ordinary text."""

TOKENS_NEAR_CUT = 64
"""Tokens at the end of a cut text that are not believed."""


class Tokenizer:
    """One model's tokenizer. Immutable after construction, usable from any thread."""

    def __init__(self, tokenizer_json: str, *, subject: str = "tokenizer.json") -> None:
        """Load the content of a ``tokenizer.json``; ``subject`` names it in errors.

        Raises:
            FormatError: it is not one.
        """
        self._inner = load_inner(tokenizer_json, subject)
        self._inner.no_truncation()  # a file may carry the settings of its training run
        self._inner.no_padding()
        self._encoder = Encoder(self._inner)
        self.special_ids = frozenset(
            id_ for id_, token in self._inner.get_added_tokens_decoder().items() if token.special
        )
        self._byte_ids = self._find_byte_ids() if self._has_byte_fallback() else frozenset()

    @staticmethod
    def open(path: Path) -> Tokenizer:
        """Load a file.

        Raises:
            FileMissing: it is not there.
            FormatError: it is not a tokenizer.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise FileMissing(f"there is no tokenizer at `{path}`", what="file", name=str(path)) from None
        except (OSError, UnicodeDecodeError) as error:
            raise FormatError(f"`{path}` cannot be read: {error}", subject=str(path)) from error
        return Tokenizer(text, subject=str(path))

    @property
    def vocab_size(self) -> int:
        """Number of tokens, added ones included; a model's logits may be wider."""
        return int(self._inner.get_vocab_size(with_added_tokens=True))

    def encode(self, text: str) -> list[int]:
        """Token ids of ``text``. Special tokens written in it become their ids.

        Raises:
            UsageError: it is no text, or cannot be encoded (lone surrogates).
        """
        try:
            return self._encoder.encode(text)
        except (UnicodeEncodeError, TypeError):
            raise no_text(text) from None

    def encode_start(self, text: str, count: int) -> list[int]:
        """The first ``count`` ids of ``encode(text)``, from no more of the text than they need.

        Where a text is cut, its last tokens may be others than without the cut: the prefix grows until twice as much
        text gives the same ids. Raises as ``encode``.
        """
        size = CHARACTERS_PER_TOKEN * (count + TOKENS_NEAR_CUT)
        shorter: list[int] = []
        while size < len(text):
            ids = self.encode(text[:size])
            if len(shorter) >= count + TOKENS_NEAR_CUT and shorter[:count] == ids[:count]:
                return ids[:count]
            shorter, size = ids, 2 * size
        return self.encode(text)[:count]

    def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        """Text of token ids; ids the tokenizer does not know give no text.

        Raises:
            UsageError: an id is negative or no integer.
        """
        numbers = checked_ids(ids, name="ids")
        try:
            return str(self._inner.decode(numbers, skip_special_tokens=skip_special))
        except OverflowError as error:
            raise UsageError(f"token ids are whole numbers from 0, found `{numbers[:8]}`", name="ids") from error

    def piece(self, id_: int) -> str | None:
        """The token as the vocabulary spells it, or None when there is none of this id."""
        piece = self._inner.id_to_token(id_)
        return None if piece is None else str(piece)

    def is_byte(self, id_: int) -> bool:
        """Whether this token stands for one byte of a character that the vocabulary lacks."""
        return id_ in self._byte_ids

    def _has_byte_fallback(self) -> bool:
        """Asks the decoder alone: to parse the whole file a second time would cost as much as to load it."""
        state = self._inner.decoder and json.loads(self._inner.decoder.__getstate__())
        return (
            any(step.get("type") == "ByteFallback" for step in [state, *state.get("decoders", [])]) if state else False
        )

    def _find_byte_ids(self) -> frozenset[int]:
        found = (self._inner.token_to_id(f"<0x{high}{low}>") for high, low in product(hexdigits, hexdigits))
        return frozenset(id_ for id_ in found if id_ is not None)


def checked_ids(ids: object, *, name: str, expected: str = "token ids") -> list[int]:
    """Plain ints of a list, or of an array with one axis.

    Raises:
        UsageError: it is something else: bytes, text or floats are not taken for numbers.
    """
    try:
        if isinstance(ids, (str, bytes, bytearray, memoryview, Mapping)) or not isinstance(ids, Iterable):
            raise TypeError
        return [_whole(id_) for id_ in ids]
    except TypeError:
        message = f"`{name}` is `{repr(ids)[:80]}`, expected {expected}: a list of whole numbers"
        raise UsageError(message, name=name, value=ids) from None


def _whole(id_: Any) -> int:
    if isinstance(id_, bool):
        raise TypeError
    return index(id_)


def no_text(value: object) -> UsageError:
    """The error for what is no text, or not valid Unicode."""
    if not isinstance(value, str):
        return UsageError(f"`text` is `{repr(value)[:80]}`, expected text", name="text", value=value)
    place = next((i for i, character in enumerate(value) if "\ud800" <= character <= "\udfff"), 0)
    message = f"the text is not valid Unicode: half a surrogate pair (U+{ord(value[place]):04X}) at character {place}"
    return UsageError(message, name="text", value=value)


def load_inner(tokenizer_json: str, subject: str) -> Any:
    """The tokenizer of the library for the content of a ``tokenizer.json``. Raises FormatError."""
    from tokenizers import Tokenizer as Inner

    try:
        return Inner.from_str(tokenizer_json)
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # a panic of the library derives from BaseException
        raise FormatError(f"`{subject}` is not a tokenizer: {error}", subject=subject) from error
