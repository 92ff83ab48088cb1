"""Text of tokens that arrive one by one. Law: the joined pieces equal the decoding of all ids at once.

Only a short window of recent tokens is decoded again, so a token costs the same after ten and after ten thousand.
"""

from __future__ import annotations

from collections.abc import Sequence

from fastslm.text.tokenizer import Tokenizer

KEPT = 8
"""Tokens kept before new ones. A character has at most four bytes and a token at least one, so four suffice."""

WINDOW = 4 * KEPT
UNFINISHED = "\N{REPLACEMENT CHARACTER}"
"""What decoders write for a character whose last bytes are still missing; only the last one can still change."""


class StreamDecoder:
    """Turns token ids into text while they come, never showing half a character.

    Bytes of a character may be spread over tokens: the text waits until the character is complete. A run of
    byte tokens (``<0xE4>``…) waits until the run ends, because decoders judge such a run as a whole.
    """

    def __init__(self, tokenizer: Tokenizer, *, skip_special: bool = True, context: Sequence[int] = ()) -> None:
        """Start after ``context``, the ids that precede the text: they decide whether it begins with a space."""
        self._tokenizer = tokenizer
        self._skip_special = skip_special
        self._window = [id_ for id_ in context[-WINDOW:] if self._has_text(id_)][-KEPT:]
        self._shown = len(self._decode())

    def push(self, id_: int) -> str:
        """Text that has become certain with this token; often one word, sometimes nothing."""
        if not self._has_text(id_):
            return ""
        self._window.append(id_)
        if self._tokenizer.is_byte(id_):
            return ""
        text = self._decode()
        certain = len(text) - text.endswith(UNFINISHED)
        piece = text[self._shown : certain]
        self._shown = max(self._shown, certain)
        if len(self._window) > WINDOW:
            self._shrink()
        return piece

    def flush(self) -> str:
        """The rest at the end of the text; incomplete characters come as U+FFFD."""
        text = self._decode()
        piece = text[self._shown :]
        self._shown = len(text)
        return piece

    def _has_text(self, id_: int) -> bool:
        if self._skip_special and id_ in self._tokenizer.special_ids:
            return False
        return bool(self._tokenizer.piece(id_))

    def _decode(self) -> str:
        return self._tokenizer.decode(self._window, skip_special=self._skip_special)

    def _shrink(self) -> None:
        held_back = len(self._decode()) - self._shown
        del self._window[:-KEPT]
        self._shown = len(self._decode()) - held_back
