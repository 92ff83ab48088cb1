"""Quantising loses what it must lose and no more."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fastslm import _native
from fastslm.errors import ConversionFailed, UsageError
from fastslm.export.quantize import pack4, quantize4, quantize4_offsets, quantize8
from reference import quantize as twin
from reference.blocks import dequantize, unpack4

ROWS = arrays(np.float32, (3, 64), elements=st.floats(-(2.0**60), 2.0**60, width=32))


def restore4(rows: np.ndarray) -> np.ndarray:
    codes, scales, zeros = quantize4(rows)
    return dequantize(unpack4(codes), scales, unpack4(zeros)[:, : scales.shape[1]])


def restore8(rows: np.ndarray) -> np.ndarray:
    codes, scales = quantize8(rows)
    return dequantize(codes.astype(np.int64), scales, 128)


def blocks(rows: np.ndarray) -> np.ndarray:
    return rows.astype(np.float64).reshape(len(rows), -1, 32)


@given(ROWS)
@settings(max_examples=60, deadline=None)
def test_eight_bits_are_off_by_half_a_step_at_most(rows: np.ndarray) -> None:
    """The step is the largest magnitude of the block over 127."""
    error = np.abs(blocks(restore8(rows)) - blocks(rows)).max(axis=-1)
    assert (error <= np.abs(blocks(rows)).max(axis=-1) / 127 * 0.501 + 2e-28).all()


@given(ROWS)
@settings(max_examples=60, deadline=None)
def test_four_bits_lose_no_more_than_plain_rounding(rows: np.ndarray) -> None:
    """The search may only improve on 16 even steps: half a step for the code, half for the zero point."""
    low, high = np.minimum(blocks(rows).min(-1), 0), np.maximum(blocks(rows).max(-1), 0)
    error = ((blocks(restore4(rows)) - blocks(rows)) ** 2).sum(axis=-1)
    assert (error <= 32 * ((high - low) / 15) ** 2 * 1.01 + 1e-40).all()


def test_four_bits_keep_normal_weights_within_the_known_error() -> None:
    """Squared error over squared weights; llama.cpp's Q4_0 leaves about 0.0075 on such weights."""
    rows = np.random.default_rng(1).normal(0, 0.05, (64, 512)).astype(np.float32)
    assert ((restore4(rows) - rows) ** 2).sum() < 0.0060 * (rows**2).sum()


def test_one_outlier_costs_its_own_block_only() -> None:
    """Blocks do not share a scale."""
    rows = np.random.default_rng(2).normal(0, 0.05, (1, 96)).astype(np.float32)
    spoiled = rows.copy()
    spoiled[0, 40] = 100.0
    for restore in (restore4, restore8):
        clean, hurt = restore(rows), restore(spoiled)
        np.testing.assert_array_equal(clean[0, :32], hurt[0, :32])
        np.testing.assert_array_equal(clean[0, 64:], hurt[0, 64:])
        assert abs(hurt[0, 40] - 100) < 1


@pytest.mark.parametrize("value", [0.0, 1e-38, -1e-45])
def test_empty_blocks_become_zeros(value: float) -> None:
    """A block too small to scale is nothing, not NaN."""
    rows = np.full((2, 32), value, np.float32)
    for restore in (restore4, restore8):
        assert np.abs(restore(rows)).max() <= abs(value)


@pytest.mark.parametrize("value", [3.0, -0.001])
def test_equal_weights_are_kept(value: float) -> None:
    """A block with one value has an exact representation."""
    rows = np.full((1, 32), value, np.float32)
    for restore in (restore4, restore8):
        np.testing.assert_allclose(restore(rows), rows, rtol=1e-6)


def test_zero_points_of_an_odd_number_of_blocks_fill_half_a_byte() -> None:
    """Every row of zero points starts at a byte of its own."""
    rows = np.random.default_rng(3).normal(0.5, 1, (4, 96)).astype(np.float32)
    codes, scales, zeros = quantize4(rows)
    assert (codes.shape, scales.shape, zeros.shape) == ((4, 48), (4, 3), (4, 2))
    assert not (zeros[:, 1] >> 4).any()
    np.testing.assert_array_equal(quantize4(rows[2:])[2], zeros[2:])


def test_packing_puts_the_even_code_low() -> None:
    """The order of MatMulNBits."""
    assert pack4(np.array([[1, 2, 15, 0]], np.uint8)).tolist() == [[0x21, 0x0F]]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("thorough", [False, True])
@pytest.mark.parametrize("group", [32, 64, 128])
def test_the_search_is_that_of_its_twin(group: int, thorough: bool, weighted: bool) -> None:
    """To the last bit, also where a tile is not full and where rows are short."""
    random = np.random.default_rng(4)
    rows = random.normal(0.01, 0.05, (7, 3 * group)).astype(np.float32)
    importance = random.random(3 * group).astype(np.float32) if weighted else None
    result = _native.quantize(rows, bits=4, group=group, importance=importance, thorough=thorough)
    assert result is not None
    codes, scales, zeros = twin.quantize4(rows, importance, group, thorough=thorough)
    np.testing.assert_array_equal(unpack4(result[0]).reshape(-1, group), codes)
    np.testing.assert_array_equal(result[1].reshape(-1), scales)
    np.testing.assert_array_equal(result[2].reshape(-1), zeros)


def test_importance_moves_the_error_to_where_it_hurts_less() -> None:
    """The weighted error becomes smaller, the plain one larger."""
    random = np.random.default_rng(5)
    rows = random.normal(0, 0.05, (64, 128)).astype(np.float32)
    importance = random.exponential(1, 128).astype(np.float32) ** 2
    codes, scales, zeros = quantize4(rows, importance)
    weighted = dequantize(unpack4(codes), scales, unpack4(zeros)[:, : scales.shape[1]])
    plain = restore4(rows)
    assert (importance * (weighted - rows) ** 2).sum() < 0.95 * (importance * (plain - rows) ** 2).sum()
    assert ((weighted - rows) ** 2).sum() > ((plain - rows) ** 2).sum()


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_noticed(bits: int, bad: float) -> None:
    """Wherever it stands."""
    for place in (0, 31, 700, 1023):
        rows = np.ones((2, 512), np.float32)
        rows.reshape(-1)[place] = bad
        with pytest.raises(ConversionFailed, match=f"`{bad}`"):
            quantize4(rows) if bits == 4 else quantize8(rows)


@pytest.mark.parametrize("group", [32, 64, 128])
def test_eight_bits_share_a_scale_in_groups(group: int) -> None:
    """That of the largest weight, which is kept."""
    rows = np.random.default_rng(9).normal(0, 0.05, (5, 3 * group)).astype(np.float32)
    codes, scales = quantize8(rows, group)
    largest = np.abs(rows.reshape(5, 3, group)).max(axis=-1)
    np.testing.assert_allclose(scales, largest / 127, rtol=1e-6)
    restored = (codes.astype(np.float32) - 128) * np.repeat(scales, group, axis=1)
    assert (np.abs(restored - rows) <= np.repeat(largest, group, axis=1) / 127 * 0.501).all()


def test_wider_groups_lose_more() -> None:
    """Fewer scales, a little more error: the price of fewer bytes."""
    rows = np.random.default_rng(10).normal(0, 0.05, (64, 512)).astype(np.float32)
    errors = []
    for group in (32, 64, 128):
        codes, scales, offsets = quantize4_offsets(rows, group=group)
        restored = (unpack4(codes).astype(np.float32) - 8) * np.repeat(scales, group, axis=1)
        errors.append(float(((restored + np.repeat(offsets, group, axis=1) - rows) ** 2).sum()))
    assert errors[0] < errors[1] < errors[2] < 1.7 * errors[0]


def test_shapes_that_cannot_be_are_refused() -> None:
    """One sentence each."""
    rows = np.zeros((2, 48), np.float32)
    for group in (0, 16, 48, 256):
        with pytest.raises(UsageError, match=f"`group` is `{group}`, expected 32, 64 or 128"):
            _native.quantize(rows, bits=4, group=group)
    with pytest.raises(UsageError, match="`columns` is `96`, expected a multiple of 64"):
        _native.quantize(np.zeros((2, 96), np.float32), bits=8, group=64)
    with pytest.raises(UsageError, match="`columns` is `48`, expected a multiple of 32"):
        _native.quantize(rows, bits=4)
    with pytest.raises(UsageError, match="`importance` has 3 values, expected 64"):
        _native.quantize(np.zeros((2, 64), np.float32), bits=4, importance=np.ones(3, np.float32))
    with pytest.raises(UsageError, match="bits"):
        _native.quantize(np.zeros((2, 64), np.float32), bits=5)  # type: ignore[arg-type]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("group", [32, 64, 128])
def test_the_search_for_lines_is_that_of_its_twin(group: int, weighted: bool) -> None:
    """To the last bit."""
    random = np.random.default_rng(6)
    rows = random.normal(0.03, 0.05, (7, 3 * group)).astype(np.float32)
    importance = random.random(3 * group).astype(np.float32) if weighted else None
    result = _native.quantize(rows, bits=4, group=group, importance=importance, offsets=True)
    assert result is not None
    codes, scales, offsets = twin.quantize4_offsets(rows, importance, group)
    np.testing.assert_array_equal(result[1].reshape(-1), scales)
    np.testing.assert_array_equal(result[2].reshape(-1), offsets)
    np.testing.assert_array_equal(unpack4(result[0]).reshape(-1, group), codes)


def restore_lines(rows: np.ndarray) -> np.ndarray:
    codes, scales, offsets = quantize4_offsets(rows)
    return dequantize(unpack4(codes), scales, 8) + np.repeat(offsets, 32, axis=1)


def test_a_free_offset_takes_an_eighth_off_the_error() -> None:
    """A zero point must lie on the grid, an offset need not."""
    rows = np.random.default_rng(7).normal(0, 0.05, (64, 512)).astype(np.float32)
    assert ((restore_lines(rows) - rows) ** 2).sum() < 0.88 * ((restore4(rows) - rows) ** 2).sum()


def test_weights_that_lie_on_a_line_are_found_again() -> None:
    """As those of a Q4_1 file that somebody turned into floats."""
    random = np.random.default_rng(8)
    codes = random.integers(0, 16, (8, 4, 32)).astype(np.float32)
    codes[..., :2] = 0, 15
    scales, offsets = (random.normal(0, 0.1, (8, 4, 1)).astype(np.float16).astype(np.float32) for _ in range(2))
    rows = (codes * np.abs(scales) + offsets).reshape(8, 128).astype(np.float32)
    np.testing.assert_allclose(restore_lines(rows), rows, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("value", [0.0, 1e-38, 0.25, -3.0])
def test_equal_weights_are_their_offset(value: float) -> None:
    """Nothing is left for a scale."""
    rows = np.full((1, 64), value, np.float32)
    np.testing.assert_allclose(restore_lines(rows), rows, rtol=1e-6, atol=1e-30)
