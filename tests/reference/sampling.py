"""The slow, obvious definition of token sampling: sort everything, in float64."""

import numpy as np


def penalized(logits, recent, filters):
    """llama.cpp's penalties over a window of recent ids."""
    out = logits.astype(np.float64)
    ids, counts = np.unique([i for i in recent if 0 <= i < len(logits)], return_counts=True)
    for token, count in zip(ids.astype(int), counts, strict=True):
        value = out[token]
        value = value / filters.repetition_penalty if value > 0 else value * filters.repetition_penalty
        out[token] = value - filters.presence_penalty - filters.frequency_penalty * count
    return out


def ranked(logits):
    """Ids from the greatest logit to the least, the lower id first among equals, minus infinity left out."""
    order = np.argsort(-logits.astype(np.float64), kind="stable")
    return order[np.isfinite(logits[order])]


def candidates(logits, filters):
    """Ids that pass top-k, then top-p on what top-k left, then min-p; greatest first."""
    kept = ranked(logits)
    if filters.top_k > 0:
        kept = kept[: filters.top_k]
    if filters.top_p < 1:
        kept = kept[: int(np.argmax(reached_mass(logits, kept) >= filters.top_p)) + 1]
    if filters.min_p > 0:
        values = logits[kept].astype(np.float64)
        kept = kept[values >= values[0] + np.log(filters.min_p)]
    return kept


def reached_mass(logits, kept):
    """Share of the probability that is reached after each of the sorted candidates."""
    weights = np.exp(logits[kept].astype(np.float64) - float(logits[kept[0]]))
    mass = np.cumsum(weights) / weights.sum()
    mass[-1] = 1.0
    return mass


def distribution(logits, recent, filters):
    """Probability of every id after penalties, filters and temperature."""
    lowered = penalized(logits, recent, filters)
    kept = candidates(lowered, filters)
    weights = np.exp((lowered[kept] - lowered[kept[0]]) / filters.temperature)
    out = np.zeros(len(logits))
    out[kept] = weights / weights.sum()
    return out
