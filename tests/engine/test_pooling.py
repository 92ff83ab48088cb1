"""Token vectors become one vector in the way that the repository names, and padding counts for nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastslm.encoder_facts import POOLINGS
from fastslm.engine.pooling import normalized, pool
from reference.pooling import pool_one


@pytest.mark.parametrize("way", POOLINGS)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.integers(0, 1000))
def test_each_way_is_what_its_name_says(way: str, lengths: list[int], seed: int) -> None:
    """Against the slow twin, whatever stands in the padding."""
    tokens = np.random.default_rng(seed).normal(size=(len(lengths), max(lengths), 3)).astype(np.float32)
    mask = np.array([[float(i < length) for i in range(max(lengths))] for length in lengths], np.float32)
    found = pool(tokens, mask, [way])
    for row, length in enumerate(lengths):
        np.testing.assert_allclose(found[row], pool_one(tokens[row, :length].tolist(), way), rtol=1e-4, atol=1e-5)


def test_several_ways_are_joined_in_their_order() -> None:
    """A vector of two poolings is twice as wide."""
    tokens = np.array([[[1, 2], [3, 8]]], np.float32)
    assert pool(tokens, np.ones((1, 2), np.float32), ["cls", "mean"]).tolist() == [[1, 2, 2, 5]]


def test_normalised_vectors_have_length_one() -> None:
    """So that a product is a cosine; nothing stays nothing instead of NaN."""
    found = normalized(np.array([[3, 4], [0, 0]], np.float32))
    np.testing.assert_allclose(found, [[0.6, 0.8], [0, 0]], rtol=1e-6)
