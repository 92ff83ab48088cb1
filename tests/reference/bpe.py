"""Byte-pair merging, slow and obvious: the pair of the lowest rank, the leftmost of equals, until none is left."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence


def merged(word: Sequence[str], ranks: Mapping[tuple[str, str], int]) -> list[str]:
    """The tokens of a word that is given as its symbols."""
    tokens = list(word)
    while True:
        found = [(ranks[pair], i) for i, pair in enumerate(itertools.pairwise(tokens)) if pair in ranks]
        if not found:
            return tokens
        at = min(found)[1]
        tokens[at : at + 2] = [tokens[at] + tokens[at + 1]]
