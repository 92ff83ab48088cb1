"""Attention by its definition, in float64, one token and one head at a time."""

from __future__ import annotations

from typing import Any

import numpy as np


def rotated(x: np.ndarray, cosines: np.ndarray, sines: np.ndarray, interleaved: bool) -> np.ndarray:
    """Turn pairs of [tokens, heads, head_dim] by the angles of their positions 0, 1, 2, ..."""
    half = cosines.shape[1]
    first = np.s_[..., 0 : 2 * half : 2] if interleaved else np.s_[..., :half]
    second = np.s_[..., 1 : 2 * half : 2] if interleaved else np.s_[..., half : 2 * half]
    cos, sin = (table[: len(x), None].astype(np.float64) for table in (cosines, sines))
    y = x.copy()
    y[first] = x[first] * cos - x[second] * sin
    y[second] = x[second] * cos + x[first] * sin
    return y


def attention(x: np.ndarray, cosines: np.ndarray, sines: np.ndarray, options: Any) -> np.ndarray:
    """``x`` [tokens, packed query, key and value]; ``options`` has the attributes and the other inputs of the operator.

    Norms are weights [head_dim], sinks and slopes numbers for each head, or None.
    """
    tokens, heads, kv_heads, size = len(x), options.heads, options.kv_heads, options.head_dim
    packed = x.astype(np.float64).reshape(tokens, heads + 2 * kv_heads, size)
    query, key, value = np.split(packed, [heads, heads + kv_heads], axis=1)
    if options.norms is not None:
        query, key = (normed(each, weight) for each, weight in zip((query, key), options.norms, strict=True))
    query, key = (rotated(each, cosines, sines, bool(options.interleaved)) for each in (query, key))
    y = np.zeros((tokens, heads, size))
    for t in range(tokens):
        seen = slice(max(0, t + 1 - options.window) if options.window else 0, t + 1)
        for head in range(heads):
            of_group = head // (heads // kv_heads)
            scores = key[seen, of_group] @ query[t, head] * (options.scale or size**-0.5)
            if options.soft_cap:
                scores = options.soft_cap * np.tanh(scores / options.soft_cap)
            if options.slopes is not None:
                scores = scores + options.slopes[head] * (np.arange(seen.start, seen.stop) - t)
            weights = np.exp(scores - scores.max())
            sink = 0 if options.sinks is None else np.exp(options.sinks[head] - scores.max())
            y[t, head] = weights @ value[seen, of_group] / (weights.sum() + sink)
    return y.reshape(tokens, -1)


def normed(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Root mean square norm over the last axis."""
    return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-6) * weight
