"""Linear biases and the choice of who turns the heads."""

from __future__ import annotations

import numpy as np
import pytest

from fastslm.export.decoder.attention import alibi_slopes, turns_inside
from fastslm.export.decoder.shape import AttentionShape
from fastslm.export.rope import Rope


@pytest.mark.parametrize(
    ("heads", "exponents"),
    [
        (1, [8]),
        (4, [2, 4, 6, 8]),
        (8, [1, 2, 3, 4, 5, 6, 7, 8]),
        (12, [1, 2, 3, 4, 5, 6, 7, 8, 0.5, 1.5, 2.5, 3.5]),
    ],
)
def test_slopes_are_those_of_the_paper(heads: int, exponents: list[float]) -> None:
    """A geometric series; when the heads are no power of two, every other one of the next longer series follows."""
    np.testing.assert_allclose(alibi_slopes(heads), [2.0**-exponent for exponent in exponents])


@pytest.mark.parametrize(
    ("head_dim", "turned", "expected"), [(64, 64, True), (64, 16, True), (80, 20, False), (72, 16, False)]
)
def test_odd_sizes_are_turned_outside(head_dim: int, turned: int, expected: bool) -> None:
    """The attention operator takes heads of a multiple of 16 and frequencies of a multiple of 8."""
    assert turns_inside(AttentionShape(4, 4, head_dim), Rope((1.0,) * (turned // 2))) == expected
