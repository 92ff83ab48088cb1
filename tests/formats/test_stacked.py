"""Experts that lie in one tensor are handed out as matrices, as floats and as MXFP4, number for number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastslm.errors import FormatError
from fastslm.formats.safetensors import SafetensorsFile
from fastslm.formats.source import Extent
from fastslm.formats.stacked import StackedExperts
from support.tiny_files import write_safetensors

EXPERTS, WIDTH, INPUTS = 3, 8, 64
STEM = "model.layers.0.mlp.experts"
FP4 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
Arrays = dict[str, tuple[str, np.ndarray]]


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers that are the same every time."""
    return np.random.default_rng(3)


def opened(folder: Path, arrays: Arrays) -> StackedExperts:
    write_safetensors(folder / "model.safetensors", arrays)
    return StackedExperts(SafetensorsFile(folder / "model.safetensors"))


def float_stack(rng: np.random.Generator) -> Arrays:
    return {
        "before.weight": ("F32", rng.normal(size=(2, 3))),
        f"{STEM}.gate_up_proj": ("F32", rng.normal(size=(EXPERTS, INPUTS, 2 * WIDTH)).astype(np.float32)),
        f"{STEM}.gate_up_proj_bias": ("F32", rng.normal(size=(EXPERTS, 2 * WIDTH)).astype(np.float32)),
        f"{STEM}.down_proj": ("F32", rng.normal(size=(EXPERTS, WIDTH, INPUTS)).astype(np.float32)),
        f"{STEM}.down_proj_bias": ("F32", rng.normal(size=(EXPERTS, INPUTS)).astype(np.float32)),
    }


def packed_stack(rng: np.random.Generator) -> Arrays:
    codes = rng.integers(0, 256, (EXPERTS, 2 * WIDTH, INPUTS // 32, 16), dtype=np.uint8)
    scales = rng.integers(100, 140, codes.shape[:3], dtype=np.uint8)
    return {f"{STEM}.gate_up_proj_blocks": ("U8", codes), f"{STEM}.gate_up_proj_scales": ("U8", scales)}


def number(codes: np.ndarray, scales: np.ndarray, expert: int, row: int, column: int) -> float:
    """One number of an MXFP4 stack, by the words of the format."""
    byte = int(codes[expert, row, column // 32, column % 32 // 2])
    code = byte >> 4 if column % 2 else byte & 15
    value = FP4[code & 7] * 2.0 ** (int(scales[expert, row, column // 32]) - 127)
    return -value if code & 8 else value


def test_floats_are_turned_and_shared_out_by_turns(tmp_path: Path, rng: np.random.Generator) -> None:
    """Even columns are the gate, odd ones the layer beside it; a bias goes with its expert."""
    arrays = float_stack(rng)
    source = opened(tmp_path, arrays)
    assert "before.weight" in source
    assert f"{STEM}.gate_up_proj" not in source
    assert len(list(source)) == 1 + EXPERTS * 6
    for expert in range(EXPERTS):
        for first, part in enumerate(("gate_proj", "up_proj")):
            stack, bias = arrays[f"{STEM}.gate_up_proj"][1], arrays[f"{STEM}.gate_up_proj_bias"][1]
            name = f"{STEM}.{expert}.{part}"
            assert source.info(f"{name}.weight").shape == (WIDTH, INPUTS)
            np.testing.assert_array_equal(source.read(f"{name}.weight", 2, 5), stack[expert].T[first::2][2:5])
            np.testing.assert_array_equal(source.read(f"{name}.bias"), bias[expert, first::2])
        name = f"{STEM}.{expert}.down_proj"
        np.testing.assert_array_equal(source.read(f"{name}.weight"), arrays[f"{STEM}.down_proj"][1][expert].T)
        np.testing.assert_array_equal(source.read(f"{name}.bias"), arrays[f"{STEM}.down_proj_bias"][1][expert])


def test_mxfp4_has_the_numbers_of_the_format(tmp_path: Path, rng: np.random.Generator) -> None:
    """Four bits of sign, exponent and mantissa times the power of two of their block."""
    arrays = packed_stack(rng)
    source = opened(tmp_path, arrays)
    codes, scales = (array for _, array in arrays.values())
    for expert in range(EXPERTS):
        for first, part in enumerate(("gate_proj", "up_proj")):
            name = f"{STEM}.{expert}.{part}.weight"
            assert (source.info(name).dtype, source.info(name).shape) == ("MXFP4", (WIDTH, INPUTS))
            expected = [
                [number(codes, scales, expert, 2 * row + first, column) for column in range(INPUTS)]
                for row in range(1, 6)
            ]
            np.testing.assert_array_equal(source.read(name, 1, 6), np.array(expected, np.float32))


@pytest.mark.parametrize("make", [float_stack, packed_stack])
def test_an_expert_needs_its_own_bytes_only(tmp_path: Path, make: object, rng: np.random.Generator) -> None:
    """So it can be converted while the others are still being fetched."""
    arrays: Arrays = make(rng)  # type: ignore[operator]
    source = opened(tmp_path, arrays)
    data = (tmp_path / "model.safetensors").read_bytes()
    stacks = [array for name, (_, array) in arrays.items() if "gate_up_proj" in name and not name.endswith("bias")]
    found = source.extents(f"{STEM}.1.up_proj.weight")
    assert [isinstance(each, Extent) for each in found] == [True] * len(stacks)
    for extent, stack in zip(found, stacks, strict=True):
        assert data[extent.begin : extent.end] == stack[1].tobytes()


def changed(rng: np.random.Generator, **arrays: tuple[str, np.ndarray] | None) -> Arrays:
    found = {**packed_stack(rng), **{f"{STEM}.gate_up_proj_{kind}": value for kind, value in arrays.items()}}
    return {name: value for name, value in found.items() if value is not None}


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"scales": None}, "tensor `.*_scales` is missing"),
        ({"scales": ("U8", np.zeros((3, 16, 1)))}, r"_scales` has type `U8` and shape `\[3, 16, 1\]`, expected U8 of"),
        ({"scales": ("F32", np.zeros((3, 16, 2)))}, r"_scales` has type `F32`"),
        ({"blocks": ("U8", np.zeros((3, 16, 2)))}, r"_blocks` .* expected 4 dimensions"),
        ({"blocks": ("U8", np.zeros((3, 16, 2, 8)))}, r"_blocks` .* expected U8 in blocks of 16"),
        ({"blocks": ("U8", np.zeros((3, 15, 2, 16)))}, r"_blocks` .* expected a multiple of 2 rows"),
        ({"blocks": ("U8", np.zeros((0, 16, 2, 16)))}, r"_blocks` .* the first of 1 to 4096 experts"),
        ({"bias": ("F32", np.zeros(16))}, r"_bias` .* expected 2 dimensions"),
    ],
)
def test_stacks_that_do_not_fit_are_refused(
    tmp_path: Path, arrays: dict[str, tuple[str, np.ndarray] | None], words: str, rng: np.random.Generator
) -> None:
    """By name, when the model is opened."""
    with pytest.raises(FormatError, match=words):
        opened(tmp_path, changed(rng, **arrays))
