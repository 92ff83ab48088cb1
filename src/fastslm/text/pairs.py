"""Texts, and pairs of texts, to the token ids that an encoder takes: special tokens added, cut to a length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastslm.errors import FileMissing, FormatError, UsageError
from fastslm.text.tokenizer import load_inner, no_text


@dataclass(frozen=True)
class Encoded:
    """One input of an encoder: token ids, and for each whether it is of the second text of a pair."""

    ids: Sequence[int]
    kinds: Sequence[int]

    def __len__(self) -> int:
        return len(self.ids)


class PairTokenizer:
    """The tokenizer of one encoder. Immutable after construction, usable from any thread."""

    def __init__(self, tokenizer_json: str, max_tokens: int, *, subject: str = "tokenizer.json") -> None:
        """Load the content of a ``tokenizer.json``.

        Args:
            max_tokens: of one input, special tokens included; of a pair the longer text is cut first.

        Raises:
            FormatError: it is not one, or its special tokens alone are too many.
        """
        self._inner: Any = load_inner(tokenizer_json, subject)
        added = int(self._inner.num_special_tokens_to_add(is_pair=True))
        if max_tokens <= added:
            message = f"`{subject}` adds {added} special tokens, expected fewer than the {max_tokens} of one text"
            raise FormatError(message, subject=subject, expected=max_tokens, found=added)
        self._inner.no_padding()
        self._inner.enable_truncation(max_tokens)

    @staticmethod
    def open(path: Path, max_tokens: int) -> PairTokenizer:
        """Load a file. Raises FileMissing, FormatError."""
        try:
            return PairTokenizer(path.read_text(encoding="utf-8"), max_tokens, subject=str(path))
        except FileNotFoundError:
            raise FileMissing(f"there is no tokenizer at `{path}`", what="file", name=str(path)) from None
        except (OSError, UnicodeDecodeError) as error:
            raise FormatError(f"`{path}` cannot be read: {error}", subject=str(path)) from error

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """Each text by itself.

        Raises:
            UsageError: one is no text, or cannot be encoded (lone surrogates).
        """
        return self._encode(list(texts), [])

    def encode_pairs(self, first: str, seconds: Sequence[str]) -> list[Encoded]:
        """The pairs of one text with each of the others. Raises as ``encode``."""
        return self._encode([(first, second) for second in seconds], [first])

    def _encode(self, inputs: list[Any], more: list[str]) -> list[Encoded]:
        try:
            found = self._inner.encode_batch(inputs, add_special_tokens=True)
        except (UnicodeEncodeError, TypeError):
            texts = [*more, *(each[1] if isinstance(each, tuple) else each for each in inputs)]
            raise no_text(next((text for text in texts if not _is_sound(text)), texts)) from None
        except (KeyboardInterrupt, SystemExit, MemoryError):
            raise
        except BaseException as error:  # a panic of the library derives from BaseException
            raise UsageError(f"the tokenizer refuses a text: {error}", name="text") from error
        return [Encoded(each.ids, each.type_ids) for each in found]


def _is_sound(text: object) -> bool:
    return isinstance(text, str) and not any("\ud800" <= character <= "\udfff" for character in text)
