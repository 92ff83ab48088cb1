"""Slow, obvious twin of ``engine/pooling.py``: one text, one token at a time."""

import math


def pool_one(vectors, way):
    """The pooled vector of a text's token vectors, padding left out."""
    width, count = len(vectors[0]), len(vectors)
    if way == "cls":
        return list(vectors[0])
    if way == "lasttoken":
        return list(vectors[-1])
    if way == "max":
        return [max(vector[i] for vector in vectors) for i in range(width)]
    weights = [place + 1 for place in range(count)] if way == "weightedmean" else [1] * count
    divisor = math.sqrt(count) if way == "mean_sqrt_len_tokens" else sum(weights)
    return [sum(w * v[i] for w, v in zip(weights, vectors, strict=True)) / divisor for i in range(width)]
