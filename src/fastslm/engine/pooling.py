"""From the vectors of a text's tokens to one vector, as sentence-transformers defines it (its ``Pooling`` module)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

LEAST = np.float32(1e-9)
"""Keeps a text without a token from dividing by nothing."""


def pool(tokens: Floats, mask: Floats, ways: Sequence[str]) -> Floats:
    """Pool each text in every one of ``ways`` (words of ``POOLINGS``) and join the results.

    Args:
        tokens: [texts, tokens, width].
        mask: [texts, tokens], 1 for a token and 0 for padding, which is on the right.

    Returns:
        float32 [texts, width * ways].
    """
    return np.concatenate([_WAYS[way](tokens, mask) for way in ways], axis=1)


def normalized(vectors: Floats) -> Floats:
    """The same vectors with length 1; one that is nothing stays so."""
    lengths = np.sqrt((vectors * vectors).sum(axis=1, keepdims=True))
    result: Floats = vectors / np.maximum(lengths, np.float32(1e-12))
    return result


def _first(tokens: Floats, mask: Floats) -> Floats:
    return tokens[:, 0]


def _most(tokens: Floats, mask: Floats) -> Floats:
    masked: Floats = np.where(mask[:, :, None] > 0, tokens, np.float32(-1e9))
    greatest: Floats = masked.max(axis=1)
    return greatest


def _sum(tokens: Floats, mask: Floats) -> Floats:
    result: Floats = np.matmul(mask[:, None, :], tokens)[:, 0]
    return result


def _mean(tokens: Floats, mask: Floats) -> Floats:
    result: Floats = _sum(tokens, mask) / np.maximum(mask.sum(axis=1, keepdims=True), LEAST)
    return result


def _by_root(tokens: Floats, mask: Floats) -> Floats:
    result: Floats = _sum(tokens, mask) / np.sqrt(np.maximum(mask.sum(axis=1, keepdims=True), LEAST))
    return result


def _weighted(tokens: Floats, mask: Floats) -> Floats:
    return _mean(tokens, mask * np.arange(1, mask.shape[1] + 1, dtype=np.float32))


def _last(tokens: Floats, mask: Floats) -> Floats:
    last = np.maximum(mask.sum(axis=1).astype(np.int64) - 1, 0)
    result: Floats = tokens[np.arange(len(tokens)), last]
    return result


_WAYS: Mapping[str, Callable[[Floats, Floats], Floats]] = MappingProxyType(
    {
        "cls": _first,
        "max": _most,
        "mean": _mean,
        "mean_sqrt_len_tokens": _by_root,
        "weightedmean": _weighted,
        "lasttoken": _last,
    }
)
