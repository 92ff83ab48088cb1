"""SentencePiece BPE, slow and obvious: join the best-scored neighbours until nothing can be joined."""

from __future__ import annotations

import itertools


def encode(text: str, scores: dict[str, float], *, space_prefix: bool) -> list[str]:
    """Pieces of a text; a character that is no piece becomes its byte tokens."""
    text = ((" " if space_prefix and text else "") + text).replace(" ", "▁")
    pieces = list(text)
    while True:
        unions = [a + b for a, b in itertools.pairwise(pieces)]
        joins = [(scores[union], -i) for i, union in enumerate(unions) if union in scores]
        if not joins:
            break
        at = -max(joins)[1]
        pieces[at : at + 2] = [pieces[at] + pieces[at + 1]]
    tokens: list[str] = []
    for piece in pieces:
        tokens += [piece] if piece in scores else [f"<0x{byte:02X}>" for byte in piece.encode()]
    return tokens
