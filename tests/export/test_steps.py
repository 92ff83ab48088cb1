"""Four bits with a whole step and base for each 32 weights: what is lost, and what must not be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fastslm import _native
from fastslm.errors import ConversionFailed, UsageError
from fastslm.export.quantize import quantize4, quantize4_steps
from reference import packing
from reference import steps as twin
from reference.blocks import dequantize, unpack4

GROUPS = (32, 64, 128, 256)
ROWS = arrays(np.float32, (2, 256), elements=st.floats(-(2.0**20), 2.0**20, width=32))


def stepped(codes: np.ndarray, scales: np.ndarray, steps: np.ndarray, bases: np.ndarray) -> np.ndarray:
    return packing.weights(codes, scales, None, 4, steps=packing.Steps(steps, bases))


def restore(rows: np.ndarray, importance: np.ndarray | None = None, group: int = 256) -> np.ndarray:
    codes, scales, steps, bases = quantize4_steps(rows, importance, group)
    return stepped(unpack4(codes), scales, steps, bases)


def restore_grid(rows: np.ndarray) -> np.ndarray:
    codes, scales, zeros = quantize4(rows)
    return dequantize(unpack4(codes), scales, unpack4(zeros)[:, : scales.shape[1]])


def lost(found: np.ndarray, rows: np.ndarray) -> float:
    return float(((found - rows) ** 2).sum() / (rows.astype(np.float64) ** 2).sum())


def spread(kind: str) -> np.ndarray:
    random = np.random.default_rng(1)
    rows = random.normal(0, 0.05, (64, 512)) if kind != "heavy" else random.standard_t(3, (64, 512)) * 0.05
    rows[:, ::100] *= 20 if kind == "outliers" else 1
    return (rows + (0.1 if kind == "shifted" else 0)).astype(np.float32)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("thorough", [False, True])
@pytest.mark.parametrize("group", GROUPS)
def test_the_search_is_that_of_its_twin(group: int, thorough: bool, weighted: bool) -> None:
    """To the last bit, also where a tile is not full, a row is zeros or what it holds is very small."""
    random = np.random.default_rng(4)
    rows = random.normal(0.01, 0.05, (7, 3 * group)).astype(np.float32)
    rows[1], rows[2], rows[3, : group // 2] = 0, rows[2] * 1e-6, 0.25
    importance = random.random(3 * group).astype(np.float32) if weighted else None
    result = _native.quantize_steps(rows, group=group, importance=importance, thorough=thorough)
    assert result is not None
    codes, scales, steps, bases = twin.quantize4_steps(rows, importance, group, thorough=thorough)
    np.testing.assert_array_equal(result[1].reshape(-1), scales)
    np.testing.assert_array_equal(result[2].reshape(steps.shape), steps)
    np.testing.assert_array_equal(result[3].reshape(bases.shape), bases)
    np.testing.assert_array_equal(unpack4(result[0]).reshape(-1, group), codes)


@pytest.mark.parametrize(
    ("kind", "most"), [("normal", 0.93), ("shifted", 0.93), ("heavy", 1.05), ("outliers", 1.1)], ids=lambda each: each
)
def test_it_fits_as_well_as_a_float_scale_for_each_32(kind: str, most: float) -> None:
    """In half a bit less: the squared error, against a float scale and a zero point for every 32 weights."""
    rows = spread(kind)
    assert lost(restore(rows), rows) < most * lost(restore_grid(rows), rows)


@given(ROWS)
@settings(max_examples=60, deadline=None)
def test_any_row_is_stored_as_it_is_judged(rows: np.ndarray) -> None:
    """Scales are numbers of float16, brackets are bytes, and plain rounding to that scale is not better."""
    codes, scales, steps, bases = quantize4_steps(rows)
    np.testing.assert_array_equal(scales, scales.astype(np.float16))
    assert steps.max() <= 15
    wide = steps.astype(int)
    assert (bases - 8 * wide).min() >= -128
    assert (bases + 7 * wide).max() <= 127
    error = np.abs(stepped(unpack4(codes), scales, steps, bases) - rows).reshape(-1, 256)
    high, low = rows.reshape(-1, 256).max(axis=1), rows.reshape(-1, 256).min(axis=1)
    widest = np.maximum(np.maximum(high, 0) - np.minimum(low, 0), 2.0**-20)
    assert ((error**2).sum(axis=1) <= 256 * (widest / 15) ** 2).all()


@pytest.mark.parametrize("group", GROUPS)
def test_weights_that_have_this_form_come_back(group: int) -> None:
    """As those of a model of ours that somebody turned into floats: next to nothing is lost."""
    random = np.random.default_rng(8)
    steps = random.integers(1, 16, (8, 16))
    steps[:, :: group // 32] = 15
    bases = random.integers(-8, 23, (8, 16))
    codes = random.integers(0, 16, (8, 512))
    codes[:, ::32], codes[:, 1::32] = 0, 15
    scales = np.abs(random.normal(0.01, 0.002, (8, 512 // group))).astype(np.float16)
    rows = stepped(codes, scales, steps, bases).astype(np.float32)
    assert lost(restore(rows, group=group), rows) < 0.1 * lost(restore_grid(rows), rows)


def test_wider_groups_lose_little() -> None:
    """The price of fewer bytes; quick searches lose a little more, too."""
    rows = spread("normal")
    errors = [lost(restore(rows, group=group), rows) for group in GROUPS]
    assert errors == sorted(errors)
    assert errors[-1] < 1.1 * errors[0]


def test_more_starts_fit_better() -> None:
    """What ``thorough`` is for."""
    rows = spread("normal")
    found = [_native.quantize_steps(rows, thorough=thorough) for thorough in (False, True)]
    quick, thorough = (lost(stepped(unpack4(one[0]), *one[1:]), rows) for one in found if one is not None)
    assert thorough < 0.97 * quick < 1.2 * thorough


def test_importance_moves_the_error_to_where_it_hurts_less() -> None:
    """The weighted error becomes smaller, the plain one larger."""
    rows = spread("normal")
    importance = np.random.default_rng(5).exponential(1, 512).astype(np.float32) ** 2
    weighted, plain = restore(rows, importance), restore(rows)
    assert (importance * (weighted - rows) ** 2).sum() < 0.95 * (importance * (plain - rows) ** 2).sum()
    assert lost(weighted, rows) > lost(plain, rows)


@pytest.mark.parametrize("value", [0.0, 3.0, -0.001, 1e-6])
def test_equal_weights_are_their_base(value: float) -> None:
    """Nothing is left for a step; the scale has the accuracy of float16."""
    rows = np.full((1, 512), value, np.float32)
    np.testing.assert_allclose(restore(rows), rows, rtol=3e-3, atol=2.0**-25)


@pytest.mark.parametrize("value", [1e-38, -1e-45])
def test_less_than_float16_can_hold_is_nothing(value: float) -> None:
    """Not NaN."""
    assert not restore(np.full((2, 256), value, np.float32)).any()


def test_an_outlier_costs_its_own_group_only() -> None:
    """Groups do not share a scale."""
    rows = spread("normal")[:1]
    spoiled = rows.copy()
    spoiled[0, 300] = 100
    clean, hurt = restore(rows), restore(spoiled)
    np.testing.assert_array_equal(clean[0, :256], hurt[0, :256])
    assert abs(hurt[0, 300] - 100) < 0.5


@pytest.mark.parametrize("size", [9e6, 1e20, 1e37, 3e38])
def test_weights_beyond_float16_keep_a_scale_that_is_refused(size: float) -> None:
    """However large they are: the packer sees the scale, and nothing is silently made small."""
    rows = spread("normal")[:1, :256]
    for each in (rows / np.abs(rows).max() * np.float32(size), np.full((1, 256), size, np.float32)):
        codes, scales, steps, bases = quantize4_steps(each)
        assert (scales > 65504).all()
        with pytest.raises(UsageError, match="`scales` is"):
            _native.pack_linear(unpack4(codes).astype(np.uint8), scales, None, steps, bases, bits=4)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_noticed(bad: float) -> None:
    """Wherever it stands."""
    for place in (0, 31, 700, 1023):
        rows = np.ones((2, 512), np.float32)
        rows.reshape(-1)[place] = bad
        with pytest.raises(ConversionFailed, match=f"`{bad}`"):
            quantize4_steps(rows)


def test_shapes_that_cannot_be_are_refused() -> None:
    """One sentence each."""
    rows = np.zeros((2, 96), np.float32)
    for group in (0, 16, 48, 512):
        with pytest.raises(UsageError, match=f"`group` is `{group}`, expected 32, 64, 128 or 256"):
            _native.quantize_steps(rows, group=group)
    with pytest.raises(UsageError, match="`columns` is `96`, expected a multiple of 256"):
        _native.quantize_steps(rows)
    with pytest.raises(UsageError, match="`importance` has 3 values, expected 96"):
        _native.quantize_steps(rows, group=32, importance=np.ones(3, np.float32))
    with pytest.raises(UsageError, match="`rows` is not a matrix"):
        _native.quantize_steps(rows[0], group=32)
