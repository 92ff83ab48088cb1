"""Blocks of GGUF keep their numbers: the gguf package is the judge."""

from __future__ import annotations

import gguf
import numpy as np
import pytest

from fastslm.export.blocks import import_q4_0, import_q4_1, import_q8_0
from reference.blocks import dequantize, unpack4

ROWS = np.random.default_rng(0).normal(0.01, 0.1, (5, 96)).astype(np.float32)


def quantized(kind: str) -> tuple[np.ndarray, np.ndarray]:
    type_ = gguf.GGMLQuantizationType[kind]
    raw = gguf.quantize(ROWS, type_)
    return raw.reshape(len(ROWS), -1, gguf.GGML_QUANT_SIZES[type_][1]), gguf.dequantize(raw, type_)


def test_q8_0() -> None:
    """Signed bytes move up by 128."""
    raw, expected = quantized("Q8_0")
    codes, scales = import_q8_0(raw)
    np.testing.assert_allclose(dequantize(codes.astype(np.int64), scales, 128), expected, rtol=2e-7)


def test_q4_0() -> None:
    """Codes change their order inside a block, nothing else."""
    raw, expected = quantized("Q4_0")
    codes, scales = import_q4_0(raw)
    np.testing.assert_allclose(dequantize(unpack4(codes), scales, 8), expected, rtol=2e-7)


def test_q4_1() -> None:
    """The minimum becomes an offset from the middle of the codes."""
    raw, expected = quantized("Q4_1")
    codes, scales, offsets = import_q4_1(raw)
    found = dequantize(unpack4(codes), scales, 8, offsets)
    np.testing.assert_allclose(found, expected, atol=2e-7 * np.abs(expected).max())


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "Q4_1"])
def test_any_bytes_are_some_numbers(kind: str) -> None:
    """A damaged file gives wrong numbers, never an overrun; infinite scales are found by the caller."""
    size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]][1]
    raw = np.random.default_rng(1).integers(0, 256, (2, 3, size), np.uint8)
    codes, scales, *_ = {"Q8_0": import_q8_0, "Q4_0": import_q4_0, "Q4_1": import_q4_1}[kind](raw)
    assert codes.shape == (2, 96 if kind == "Q8_0" else 48)
    assert scales.shape == (2, 3)
