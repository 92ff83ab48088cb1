"""QLinear: right numbers, and the same bits for a row whatever else is in the call."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from tests.support.operators import OneOperator, open_session

from fastslm import _native
from reference import packing

ROWS_OF_EVERY_KERNEL = (1, 2, 3, 4, 5, 8, 12, 13, 14, 64)


@dataclass
class Case:
    """A random matrix in one format."""

    bits: int
    group: int
    has_offsets: bool
    rows: int = 96
    inputs: int = 256
    passes: int = 1
    scaled: bool = False
    has_steps: bool = False

    def __post_init__(self) -> None:
        rng = np.random.default_rng(3)
        groups = self.inputs // self.group
        self.codes = rng.integers(0, 2**self.bits, (self.rows, self.inputs), dtype=np.uint8)
        self.scales = (rng.random((self.rows, groups)) * 0.1).astype(np.float32)
        self.offsets = rng.normal(size=(self.rows, groups)).astype(np.float32) if self.has_offsets else None
        self.steps = packing.Steps.random(rng, self.rows, self.inputs) if self.has_steps else None
        steps = (self.steps.steps, self.steps.bases) if self.steps else ()
        self.packed = _native.pack_linear(self.codes, self.scales, self.offsets, *steps, bits=self.bits)
        self.x = rng.normal(size=(64, self.inputs)).astype(np.float32)

    @property
    def attributes(self) -> dict[str, int]:
        return {
            "K": self.inputs,
            "N": self.rows,
            "bits": self.bits,
            "group_size": self.group,
            "offsets": int(self.has_offsets) + int(self.scaled),
            "steps": int(self.has_steps),
            "layout": _native.packed_layout_version(),
            "passes": self.passes,
        }

    def expected(self) -> np.ndarray:
        scaled, steps = self.scaled, self.steps
        weights = packing.weights(self.codes, self.scales, self.offsets, self.bits, scaled=scaled, steps=steps)
        rounded = packing.quantized if self.passes == 1 else packing.quantized_twice
        return rounded(self.x, self.group) @ weights.T

    @property
    def tolerance(self) -> float:
        """Of the largest product: what float32 adds; in a second pass it may also turn a code to its neighbour."""
        return (4e-7 if self.passes == 1 else 4e-6) * np.sqrt(self.inputs / 32)

    def session(self, folder: Path, **weights: np.ndarray) -> object:
        names = ["x", "w", "bias" if "bias" in weights else "", "residual" if "residual" in weights else ""]
        constants = {"w": self.packed} | {k: v for k, v in weights.items() if k == "bias"}
        return open_session(OneOperator("QLinear", names, ["y"], self.attributes, constants).save(folder))


FORMATS = [
    Case(4, 32, False),
    Case(4, 32, True),
    Case(4, 64, False),
    Case(4, 128, True),
    Case(8, 32, False),
    Case(8, 32, True),
    Case(8, 128, False),
    Case(4, 32, False, rows=70),
    Case(8, 32, False, rows=1),
    Case(4, 32, True, scaled=True),
    Case(4, 128, True, rows=70, scaled=True),
    Case(8, 32, True, scaled=True),
    Case(4, 32, True, rows=2080, inputs=1536),
    Case(8, 32, False, passes=2),
    Case(8, 64, True, rows=70, passes=2),
    Case(4, 32, True, rows=2080, inputs=1536, passes=2),
    *(Case(4, group, False, has_steps=True) for group in (32, 64, 128, 256)),
    Case(4, 64, False, rows=70, inputs=576, has_steps=True),
    Case(4, 256, False, rows=2080, inputs=1536, has_steps=True),
    Case(4, 128, False, passes=2, has_steps=True),
]


@pytest.mark.parametrize("case", FORMATS, ids=str)
def test_products_are_those_of_the_quantised_numbers(case: Case, tmp_path: Path) -> None:
    """Integer parts are exact; what float32 adds over the groups is far below what quantisation took away."""
    expected = case.expected()
    found = case.session(tmp_path).run(None, {"x": case.x})[0]
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= case.tolerance * np.abs(expected).max()


def test_two_passes_see_nearly_the_float_activations(tmp_path: Path) -> None:
    """One number that dwarfs its neighbours costs them nothing, as it does in 8 bits with one scale."""
    case = Case(8, 32, False, passes=2)
    case.x[:, ::32] *= 300
    weights = packing.weights(case.codes, case.scales, case.offsets, case.bits)
    found = case.session(tmp_path).run(None, {"x": case.x})[0]
    assert np.abs(found - case.x @ weights.T).max() <= 1e-4 * np.abs(case.x @ weights.T).max()
    once = packing.quantized(case.x, case.group) @ weights.T
    assert np.abs(found - case.x @ weights.T).max() <= 0.01 * np.abs(once - case.x @ weights.T).max()


@pytest.mark.parametrize("case", FORMATS, ids=str)
def test_a_row_does_not_depend_on_its_company(case: Case, tmp_path: Path) -> None:
    """Greedy text is the same with and without batching, chunked prefill and caching."""
    session = case.session(tmp_path)
    alone = np.concatenate([session.run(None, {"x": row[None]})[0] for row in case.x])
    for count in ROWS_OF_EVERY_KERNEL:
        assert session.run(None, {"x": case.x[:count]})[0].tobytes() == alone[:count].tobytes(), count


@pytest.mark.parametrize("count", [1, 5, 64])
def test_bias_and_residual_are_added_in_this_order(count: int, tmp_path: Path, rng: np.random.Generator) -> None:
    """Both are plain float32 additions to the plain product."""
    case = Case(4, 32, False, rows=70)
    bias = rng.normal(size=case.rows).astype(np.float32)
    residual = rng.normal(size=(count, case.rows)).astype(np.float32)
    (tmp_path / "plain").mkdir()
    product = case.session(tmp_path / "plain").run(None, {"x": case.x[:count]})[0]
    session = case.session(tmp_path, bias=bias, residual=residual)
    found = session.run(None, {"x": case.x[:count], "residual": residual})[0]
    assert found.tobytes() == (product + bias + residual).tobytes()


def test_leading_dimensions_are_kept(tmp_path: Path) -> None:
    """[batch, sequence, K] gives [batch, sequence, N]; no rows give none."""
    case = Case(8, 32, False)
    session = case.session(tmp_path)
    assert session.run(None, {"x": case.x.reshape(2, 32, -1)})[0].shape == (2, 32, case.rows)
    assert session.run(None, {"x": case.x[:0]})[0].shape == (0, case.rows)


def test_extreme_activations_stay_exact(tmp_path: Path) -> None:
    """The largest codes and activations do not overflow the narrow sums of any instruction set."""
    case = Case(4, 32, False, rows=32, inputs=128)
    for bits, code, sign in ((4, 15, 1), (4, 0, -1), (8, 255, 1), (8, 0, 1), (8, 0, -1)):
        case.bits, case.codes = bits, np.full((32, 128), code, np.uint8)
        case.packed = _native.pack_linear(case.codes, case.scales, bits=bits)
        case.x = np.full((14, 128), 5.0 * sign, np.float32)
        np.testing.assert_allclose(case.session(tmp_path).run(None, {"x": case.x})[0], case.expected(), rtol=1e-6)


@pytest.mark.parametrize(("code", "step", "base"), [(15, 15, 22), (0, 15, -8), (15, 15, -8), (7, 0, -128), (7, 0, 127)])
def test_extreme_steps_stay_exact(code: int, step: int, base: int, tmp_path: Path) -> None:
    """The ends of a byte, times the largest activations, neither meet their neighbours nor overflow."""
    case = Case(4, 256, False, rows=32, has_steps=True)
    case.codes[:] = code
    case.steps = packing.Steps(np.full((32, 8), step, np.uint8), np.full((32, 8), base, np.int8))
    case.packed = _native.pack_linear(case.codes, case.scales, None, case.steps.steps, case.steps.bases, bits=4)
    for sign in (1, -1):
        case.x = np.full((14, 256), 5.0 * sign, np.float32)
        np.testing.assert_allclose(case.session(tmp_path).run(None, {"x": case.x})[0], case.expected(), rtol=1e-6)


def test_rows_of_zeros_give_zeros(tmp_path: Path) -> None:
    """A group of zeros has no scale to divide by."""
    case = Case(4, 32, False)
    assert not case.session(tmp_path).run(None, {"x": np.zeros((3, case.inputs), np.float32)})[0].any()
