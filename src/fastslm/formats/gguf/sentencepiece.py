"""SentencePiece BPE as the parts of a ``tokenizer.json``; merges are rebuilt from the scores of the pieces.

SentencePiece joins the neighbours whose union has the best score. A list of merges in the order of falling score,
shorter parts later, does the same (the way transformers converts such models).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastslm.errors import FormatError

SPACE = "▁"
MAX_PIECE_CHARS = 1024
"""Trainers stop at 16 to 64 characters; the ways to split a piece grow with the square of its length."""


def sentencepiece_parts(
    ids: Mapping[str, int], pieces: Sequence[tuple[str, float]], unknown: str | None, *, space_prefix: bool
) -> dict[str, Any]:
    """Normaliser, decoder and model of a tokenizer.json.

    Args:
        ids: every token's id.
        pieces: the normal pieces with their scores; only these take part in merges.
        unknown: token for characters that have no bytes in the vocabulary.
        space_prefix: whether a space is put before each text.
    """
    model: dict[str, Any] = {"type": "BPE", "dropout": None, "unk_token": unknown, "continuing_subword_prefix": None}
    model |= {"end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False}
    model |= {"vocab": dict(ids), "merges": merges_from_scores(pieces)}
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    prepend = [{"type": "Prepend", "prepend": SPACE}] if space_prefix else []
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if space_prefix else []
    unreplace = {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}
    decoders = [unreplace, {"type": "ByteFallback"}, {"type": "Fuse"}, *strip]
    return {
        "normalizer": {"type": "Sequence", "normalizers": [*prepend, replace]},
        "pre_tokenizer": None,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": model,
    }


def merges_from_scores(pieces: Sequence[tuple[str, float]]) -> list[list[str]]:
    """Every way to join two pieces into a third, best score first. Raises FormatError for a piece that is too long."""
    longest = max((len(piece) for piece, _ in pieces), default=0)
    if longest > MAX_PIECE_CHARS:
        message = f"the vocabulary has a piece of {longest} characters, expected at most {MAX_PIECE_CHARS}"
        raise FormatError(message, subject="tokenizer.ggml.tokens", expected=MAX_PIECE_CHARS, found=longest)
    rank = {piece: i for i, (piece, _) in enumerate(pieces)}
    joins: list[tuple[float, int, int, int, int, int, str, str]] = []
    for piece, score in pieces:
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in rank and right in rank:
                joins.append((-score, -len(left), -len(right), rank[piece], rank[left], rank[right], left, right))
    return [[left, right] for *_, left, right in sorted(joins)]
