"""MXFP4 blocks: every code with every power of two, and what a conversion keeps of them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from fastslm.errors import ConversionFailed, UnsupportedModel
from fastslm.export.encoding import INT8, encode_rows
from fastslm.export.matrices import MatrixWriter
from fastslm.export.native.packing import store_packed
from fastslm.export.weights import WeightsFile
from fastslm.formats.prequantized import mxfp4
from fastslm.formats.prequantized.settings import read_settings
from fastslm.formats.safetensors import SafetensorsFile
from fastslm.formats.source import TensorInfo
from fastslm.formats.stacked import StackedExperts
from support.tiny_files import write_safetensors

NAME = "x.experts.0.down_proj.weight"


def block(exponent: int) -> np.ndarray:
    """All sixteen codes, twice, [1, 1, 17]."""
    codes = np.arange(16, dtype=np.uint8)
    return np.concatenate([[exponent], codes | (codes << 4)]).astype(np.uint8).reshape(1, 1, 17)


@pytest.mark.parametrize("exponent", [0, 1, 2, 103, 104, 127, 142, 143, 250, 253, 254])
def test_every_code_is_what_ggml_makes_of_it(exponent: int) -> None:
    """The gguf package is the judge."""
    from gguf.constants import GGMLQuantizationType
    from gguf.quants import dequantize

    with np.errstate(over="ignore"):
        expected = dequantize(block(exponent).reshape(1, -1), GGMLQuantizationType.MXFP4)
    np.testing.assert_array_equal(mxfp4.floats(block(exponent)), expected)


def test_the_exponent_that_is_no_number() -> None:
    """Such a block is damaged, and the conversion says so."""
    assert np.isnan(mxfp4.floats(block(255))).all()


def stacked(folder: Path, exponent: int) -> StackedExperts:
    """One matrix of 32 rows of one block."""
    codes = np.tile(np.arange(16, dtype=np.uint8) * 17, (1, 32, 1, 1))
    scales = np.full((1, 32, 1), exponent, np.uint8)
    arrays = {"x.experts.down_proj_blocks": ("U8", codes), "x.experts.down_proj_scales": ("U8", scales)}
    write_safetensors(folder / "m.safetensors", arrays)
    return StackedExperts(SafetensorsFile(folder / "m.safetensors"))


def stored(folder: Path, exponent: int) -> None:
    source = stacked(folder, exponent)
    with WeightsFile(folder / "weights") as weights, ThreadPoolExecutor(1) as pool:
        store_packed(MatrixWriter(source, weights, "exact", pool, lambda name: None), NAME)


@pytest.mark.parametrize("exponent", [104, 127, 143])
def test_bytes_and_a_scale_are_the_same_numbers(tmp_path: Path, exponent: int) -> None:
    """Nothing is rounded on the way to 8 bits, and float16 can hold the scale."""
    source = stacked(tmp_path, exponent)
    codes, scales = encode_rows(source, source.info(NAME), INT8, slice(0, 32))
    assert (scales == scales.astype(np.float16)).all()
    values = (codes.astype(np.float32) - 128) * np.repeat(scales, 32, axis=1)
    np.testing.assert_array_equal(values, source.read(NAME))
    stored(tmp_path, exponent)


@pytest.mark.parametrize(
    ("exponent", "words"),
    [
        (103, r"tensor `x.experts.0.down_proj.weight` needs a scale of `2.98e-08`, expected at least 5.96e-08"),
        (144, r"tensor `x.experts.0.down_proj.weight` needs a scale of `65536`, expected at most 65504"),
        (255, r"tensor `x.experts.0.down_proj.weight` holds `nan`, expected finite numbers"),
    ],
)
def test_a_scale_beyond_float16_is_refused(tmp_path: Path, exponent: int, words: str) -> None:
    """Instead of other numbers than the file has."""
    with pytest.raises(ConversionFailed, match=words):
        stored(tmp_path, exponent)


def test_a_block_of_zeros_has_no_scale() -> None:
    """Whatever its exponent: zeros are kept too."""
    zeros = np.zeros((1, 1, 17), np.uint8)
    numbers, scales = mxfp4.doubled(zeros)
    assert not numbers.any()
    assert not scales.any()


def test_other_models_in_mxfp4_are_refused() -> None:
    """Nobody knows where they keep their blocks."""
    config = {"model_type": "llama", "quantization_config": {"quant_method": "mxfp4"}}
    with pytest.raises(UnsupportedModel, match="the weights of `llama` are quantised by `mxfp4`, expected `gpt_oss`"):
        read_settings(config)
    assert TensorInfo("x", mxfp4.DTYPE, (1, 32)).is_quantized
