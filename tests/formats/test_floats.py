"""Plain floats of every width become the float32 that is nearest to them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastslm.formats.floats import ITEM_TYPES, row_range, to_float32


@given(st.integers(0, 2**16 - 1))
def test_bfloat16_is_the_upper_half_of_a_float32(bits):
    """All 65536 values: normal, tiny, infinite and NaN."""
    found = to_float32(np.array([bits], dtype="<u2"), "BF16")
    assert found.dtype == np.float32
    assert found.view(np.uint32)[0] == bits << 16


@pytest.mark.parametrize("dtype", ["F16", "F32", "F64"])
def test_other_floats_are_rounded_as_numpy_does_and_copied(dtype):
    raw = np.array([0.1, -2.5, 65504, np.inf, -0.0], dtype=ITEM_TYPES[dtype])
    found = to_float32(raw, dtype)
    np.testing.assert_array_equal(found, raw.astype(np.float32))
    found[0] = 9
    assert raw[0] != 9


def test_a_double_out_of_range_becomes_infinite_without_a_warning():
    assert to_float32(np.array([1e300, -1e300]), "F64").tolist() == [np.inf, -np.inf]


@given(st.integers(0, 9), st.integers(-12, 12), st.one_of(st.none(), st.integers(-12, 12)))
def test_row_ranges_are_those_of_slices(rows, start, stop):
    first, last = row_range(rows, start, stop)
    assert list(range(first, last)) == list(range(rows))[start:stop]
