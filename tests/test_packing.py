"""Packing of weights: the layout is the one described, and nothing that cannot be stored is stored."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastslm import _native
from fastslm.errors import UsageError
from reference import packing


@given(st.integers(0, 2**32 - 1), st.sampled_from([4, 8]), st.sampled_from([32, 64, 128]), st.booleans())
@settings(max_examples=25, deadline=None)
def test_the_layout_is_the_one_described(seed: int, bits: int, group: int, has_offsets: bool) -> None:
    """Every code, scale and offset lies where the slow twin puts it, and comes back."""
    rng = np.random.default_rng(seed)
    rows, groups = int(rng.integers(1, 70)), int(rng.integers(1, 4))
    codes = rng.integers(0, 2**bits, (rows, groups * group), dtype=np.uint8)
    scales, offsets = (rng.normal(size=(rows, groups)).astype(np.float32) for _ in range(2))
    packed = _native.pack_linear(codes, scales, offsets if has_offsets else None, bits=bits)
    np.testing.assert_array_equal(packed, packing.pack(codes, scales, offsets if has_offsets else None, bits))
    assert len(packed) % 64 == 0
    back = _native.unpack_linear(packed, codes.shape, bits=bits, group=group, has_offsets=has_offsets)
    np.testing.assert_array_equal(back[0], codes)
    np.testing.assert_array_equal(back[1], scales.astype(np.float16))
    assert back[2] is None if not has_offsets else (back[2] == offsets.astype(np.float16)).all()
    assert back[3:] == (None, None)


@given(st.integers(0, 2**32 - 1), st.sampled_from([32, 64, 128, 256]))
@settings(max_examples=25, deadline=None)
def test_steps_lie_where_described(seed: int, group: int) -> None:
    """Two steps in a byte, units of whole cache lines; and all come back."""
    rng = np.random.default_rng(seed)
    rows, groups = int(rng.integers(1, 70)), int(rng.integers(1, 4))
    codes = rng.integers(0, 16, (rows, groups * group), dtype=np.uint8)
    scales = rng.normal(size=(rows, groups)).astype(np.float32)
    steps = packing.Steps.random(rng, rows, groups * group)
    packed = _native.pack_linear(codes, scales, None, steps.steps, steps.bases, bits=4)
    np.testing.assert_array_equal(packed, packing.pack(codes, scales, None, 4, steps))
    assert len(packed) == -(-rows // 32) * groups * {32: 640, 64: 1216, 128: 2304, 256: 4544}[group]
    back = _native.unpack_linear(packed, codes.shape, bits=4, group=group, has_steps=True)
    expected = (codes, scales.astype(np.float16), None, steps.steps, steps.bases)
    for found, wanted in zip(back, expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(("step", "base"), [(16, 0), (15, -9), (15, 23), (1, -128), (1, 121)])
def test_steps_that_leave_a_byte_are_refused(step: int, base: int) -> None:
    """A kernel multiplies bytes."""
    steps, bases = np.full((1, 1), step, np.uint8), np.full((1, 1), base, np.int8)
    with pytest.raises(UsageError, match=f"`steps` is `{step} around {base}`, expected at most 15"):
        _native.pack_linear(np.zeros((1, 32), np.uint8), np.ones((1, 1), np.float32), None, steps, bases, bits=4)


def test_steps_go_with_four_bits_and_without_offsets() -> None:
    """And with as many of them as the inputs want."""
    codes, scales = np.zeros((2, 64), np.uint8), np.ones((2, 1), np.float32)
    steps, bases = np.zeros((2, 2), np.uint8), np.zeros((2, 2), np.int8)
    for bits, offsets in ((8, None), (4, scales)):
        with pytest.raises(UsageError, match="`has_steps` is `true`, expected false with 8 bits or offsets"):
            _native.pack_linear(codes, scales, offsets, steps, bases, bits=bits)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="`steps` is `2 values`, expected 4"):
        _native.pack_linear(codes, scales, None, steps[:1], bases, bits=4)
    with pytest.raises(UsageError, match="`bases` is `0 values`, expected 4"):
        _native.pack_linear(codes, scales, None, steps, bits=4)
    with pytest.raises(UsageError, match="`group` is `512`, expected 32, 64, 128 or 256"):
        _native.unpack_linear(np.zeros(0, np.uint8), (0, 512), bits=4, group=512, has_steps=True)
    with pytest.raises(UsageError, match="`group` is `256`, expected 32, 64 or 128"):
        _native.unpack_linear(np.zeros(0, np.uint8), (0, 256), bits=4, group=256)


def test_float16_is_rounded_as_numpy_rounds_it() -> None:
    """Also where numbers are subnormal, halfway, or carry into the next exponent."""
    every = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    middle = (every[:-1] + every[1:]) / 2
    numbers = np.concatenate([every, middle, np.nextafter(middle, 0), np.nextafter(middle, np.float32(1e9)), [1e-30]])
    numbers = np.concatenate([numbers, -numbers]).astype(np.float32)
    scales = np.resize(numbers, (-(-len(numbers) // 32) * 32, 1))
    packed = _native.pack_linear(np.zeros((len(scales), 32), np.uint8), scales, bits=4)
    found = packed.reshape(-1, 576)[:, 512:].copy().view(np.uint16).reshape(-1)
    np.testing.assert_array_equal(found, scales[:, 0].astype(np.float16).view(np.uint16))


@pytest.mark.parametrize("wrong", [65520.0, np.inf, np.nan, -1e30])
def test_what_float16_cannot_hold_is_refused(wrong: float) -> None:
    """A model with such a scale is not silently destroyed."""
    scales = np.full((1, 1), wrong, np.float32)
    with pytest.raises(UsageError, match=r"`scales` is `.*`, expected a number below 65520"):
        _native.pack_linear(np.zeros((1, 32), np.uint8), scales, bits=4)


def test_sizes_that_disagree_are_refused() -> None:
    """Each message names the argument, what it is and what it should be."""
    codes, scales = np.zeros((2, 64), np.uint8), np.ones((2, 2), np.float32)
    with pytest.raises(UsageError, match="`codes` is `16`, expected at most 15"):
        _native.pack_linear(codes + 16, scales, bits=4)
    with pytest.raises(UsageError, match="`bits` is `3`, expected 4 or 8"):
        _native.pack_linear(codes, scales, bits=3)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="`group` is `16`, expected 32, 64 or 128"):
        _native.pack_linear(codes, np.ones((2, 4), np.float32), bits=4)
    with pytest.raises(UsageError, match="`scales` is `6 values`, expected 4"):
        _native.pack_linear(codes, np.ones((3, 2), np.float32), bits=4)
    with pytest.raises(UsageError, match="`packed` is `100 values`, expected 1152"):
        _native.unpack_linear(np.zeros(100, np.uint8), (2, 64), bits=4, group=32, has_offsets=False)


@pytest.mark.parametrize("group", [32, 64, 128, 256])
def test_sizes_are_known_before(group: int) -> None:
    """A weights file is laid out before its matrices are packed."""
    codes, steps = np.zeros((70, 512), np.uint8), np.zeros((70, 16), np.uint8)
    scales = np.zeros((70, 512 // group), np.float32)
    packed = _native.pack_linear(codes, scales, steps=steps, bases=steps.astype(np.int8), bits=4)
    assert _native.packed_bytes((70, 512), bits=4, group=group, has_steps=True) == len(packed)
    with pytest.raises(UsageError, match="`group` is `0`, expected more than 0"):
        _native.packed_bytes((70, 512), bits=4, group=0)
