"""QMoE: each row is the weighted sum of the experts that it chose, and of nothing else."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.operators import OneOperator, open_session

from fastslm import _native, ops
from reference import mixture, packing

ACTIVATIONS = {
    0: lambda x: x / (1 + np.exp(-x)),
    1: lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    2: lambda x: 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))),
}
GATES = {**{number: lambda g, u, f=f: f(g) * u for number, f in ACTIVATIONS.items()}, 3: mixture.clamped}
COUNTS = (1, 2, 3, 7, 30, 200)
"""Rows of a call: 200 give experts both more and fewer than the kernels for a few rows take."""


@dataclass(frozen=True)
class Format:
    """How a matrix is packed."""

    bits: int
    group: int = 32
    has_offsets: bool = False
    scaled: bool = False
    has_steps: bool = False

    def attributes(self, prefix: str, rows: int, inputs: int) -> dict[str, int]:
        values = {"K": inputs, "N": rows, "bits": self.bits, "group_size": self.group}
        values |= {"offsets": 2 if self.scaled else int(self.has_offsets), "steps": int(self.has_steps)}
        values |= {"layout": ops.layout_version()}
        return {prefix + name: value for name, value in values.items()}


@dataclass(frozen=True)
class Matrix:
    """A random matrix: the numbers that it stands for, and its packed bytes."""

    weights: np.ndarray
    packed: np.ndarray

    @staticmethod
    def random(rng: np.random.Generator, form: Format, rows: int, inputs: int) -> Matrix:
        codes = rng.integers(0, 2**form.bits, (rows, inputs), dtype=np.uint8)
        scales = (rng.random((rows, inputs // form.group)) / 2**form.bits).astype(np.float32)
        offsets = rng.normal(size=scales.shape).astype(np.float32) * 0.1 if form.has_offsets else None
        offsets = -np.rint(rng.random(scales.shape) * 15).astype(np.float32) if form.scaled else offsets
        steps = packing.Steps.random(rng, rows, inputs) if form.has_steps else None
        beside = (steps.steps, steps.bases) if steps else ()
        scales *= np.float32(0.1 if form.has_steps else 1)
        packed = _native.pack_linear(codes, scales, offsets, *beside, bits=form.bits)  # type: ignore[arg-type]
        return Matrix(packing.weights(codes, scales, offsets, form.bits, scaled=form.scaled, steps=steps), packed)


@dataclass
class Case:
    """A layer of random experts."""

    gate_up: Format = Format(4)
    down: Format = Format(4)
    experts: int = 5
    chosen: int = 2
    normalized: bool = True
    activation: int = 0
    width: int = 96
    inputs: int = 128
    biased: bool = False

    def __post_init__(self) -> None:
        rng = np.random.default_rng(5)
        sizes = [(self.width, self.inputs)] * 2 + [(self.inputs, self.width)]
        forms = (self.gate_up, self.gate_up, self.down)
        self.parts = [
            tuple(Matrix.random(rng, form, *size) for form, size in zip(forms, sizes, strict=True))
            for _ in range(self.experts)
        ]
        self.router = rng.normal(size=(self.experts, self.inputs)).astype(np.float32) * 0.2
        self.router_bias = rng.normal(size=self.experts).astype(np.float32) * 0.5
        widths = (self.width, self.width, self.inputs)
        self.biases = [tuple(rng.normal(size=size).astype(np.float32) for size in widths) for _ in range(self.experts)]
        self.x = rng.normal(size=(max(COUNTS), self.inputs)).astype(np.float32)

    @property
    def attributes(self) -> dict[str, int]:
        return {
            "experts": self.experts,
            "chosen": self.chosen,
            "normalized": int(self.normalized),
            "activation": self.activation,
            **self.gate_up.attributes("gate_up_", -(-self.width // 32) * 64, self.inputs),
            **self.down.attributes("down_", self.inputs, self.width),
        }

    def interleaved(self, expert: int) -> np.ndarray:
        """Blocks of 32 rows of gate and up by turns."""
        blocks = -(-self.width // 32)
        halves = [matrix.packed.reshape(blocks, -1) for matrix in self.parts[expert][:2]]
        return np.stack(halves, axis=1).reshape(-1)

    @property
    def weights(self) -> dict[str, np.ndarray]:
        gate_up = np.concatenate([self.interleaved(expert) for expert in range(self.experts)])
        weights = {
            "router": self.router,
            "gate_up": gate_up,
            "down": np.concatenate([parts[2].packed for parts in self.parts]),
        }
        return weights | (self.bias_weights if self.biased else {})

    @property
    def bias_weights(self) -> dict[str, np.ndarray]:
        blocks = [np.pad(each, (0, -len(each) % 32)).reshape(-1, 32) for parts in self.biases for each in parts[:2]]
        inner = np.stack([np.stack(blocks[i : i + 2], axis=1) for i in range(0, len(blocks), 2)])
        return {
            "router_bias": self.router_bias,
            "gate_up_bias": inner.reshape(self.experts, -1),
            "down_bias": np.stack([parts[2] for parts in self.biases]),
        }

    def session(self, folder: Path, **changed: np.ndarray) -> Any:
        weights = self.weights | changed
        model = OneOperator("QMoE", ["x", *weights], ["y"], self.attributes, weights)
        return open_session(model.save(folder))

    def expected(self, count: int) -> np.ndarray:
        experts = [tuple(matrix.weights for matrix in parts) for parts in self.parts]
        return mixture.mixture(
            self.x[:count],
            self.router,
            experts,  # type: ignore[arg-type]
            self.chosen,
            GATES[self.activation],
            normalized=self.normalized,
            groups=(self.gate_up.group, self.down.group),
            biases=(self.router_bias, self.biases) if self.biased else None,  # type: ignore[arg-type]
        )

    def bound(self) -> float:
        """Where float32 rounds an inner number to the other byte, the result moves by one step times a weight.

        Two such steps of the largest group, besides what float32 adds.
        """
        rounded = packing.quantized(self.x, self.gate_up.group)
        biases = self.biases if self.biased else [(0.0, 0.0)] * self.experts
        inner = max(
            np.abs(GATES[self.activation](rounded @ gate.weights.T + bias[0], rounded @ up.weights.T + bias[1])).max()
            for (gate, up, _), bias in zip(self.parts, biases, strict=True)
        )
        return 2 * float(inner / 127 * max(np.abs(parts[2].weights).max() for parts in self.parts))


CASES = [
    Case(),
    Case(Format(4, has_offsets=True), Format(8)),
    Case(Format(8), Format(4, has_offsets=True), normalized=False),
    Case(Format(4, 64), Format(8, 32, has_offsets=True), activation=1),
    Case(Format(8, 128), Format(4, 128, has_offsets=True), width=128, activation=2),
    Case(Format(4, has_offsets=True, scaled=True), Format(4, 32, has_offsets=True, scaled=True)),
    Case(experts=1, chosen=1),
    Case(experts=4, chosen=4, normalized=False),
    Case(experts=40, chosen=8, width=32, inputs=64),
    Case(Format(4, 64, has_steps=True), Format(4, 32, has_steps=True)),
    Case(Format(8), Format(8), activation=3, biased=True),
    Case(Format(4, has_offsets=True), Format(8), width=64, activation=3, biased=True, normalized=False),
    Case(experts=40, chosen=4, width=32, inputs=64, biased=True),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_row_is_the_sum_of_its_experts(case: Case, tmp_path: Path) -> None:
    """In every packed format, with both kinds of shares, for calls of few rows and of many."""
    session, expected = case.session(tmp_path), case.expected(max(COUNTS))
    for count in COUNTS:
        found = session.run(None, {"x": case.x[:count]})[0]
        error = np.abs(found - expected[:count])
        assert error.max() <= case.bound() + 1e-5 * np.abs(expected).max(), count
        assert np.median(error) <= 1e-6 * np.abs(expected).max(), count


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_row_does_not_depend_on_its_company(case: Case, tmp_path: Path) -> None:
    """Greedy text is the same with and without batching, chunked prefill and caching."""
    session = case.session(tmp_path)
    alone = np.concatenate([session.run(None, {"x": row[None]})[0] for row in case.x])
    for count in COUNTS:
        assert session.run(None, {"x": case.x[:count]})[0].tobytes() == alone[:count].tobytes(), count
    assert session.run(None, {"x": case.x[::-1]})[0].tobytes() == alone[::-1].tobytes()


@pytest.mark.parametrize("width", [96, 64])
def test_a_single_expert_computes_what_our_layers_compute(width: int, tmp_path: Path) -> None:
    """With one expert for each row the numbers are those of QGateUp and QLinear to the last bit."""
    case = Case(chosen=1, width=width)
    found = case.session(tmp_path).run(None, {"x": case.x})[0]
    best = (case.x.astype(np.float64) @ case.router.T).argmax(axis=1)
    for expert in range(case.experts):
        gate_up, down = (
            {name.removeprefix(prefix): value for name, value in case.attributes.items() if name.startswith(prefix)}
            for prefix in ("gate_up_", "down_")
        )
        mine = case.x[best == expert]
        first = OneOperator(
            "QGateUp", ["x", "w"], ["y"], {**gate_up, "activation": 0, "width": width}, {"w": case.interleaved(expert)}
        )
        inner = open_session(first.save(tmp_path)).run(None, {"x": mine})[0]
        second = OneOperator("QLinear", ["x", "w"], ["y"], down, {"w": case.parts[expert][2].packed})
        alone = open_session(second.save(tmp_path)).run(None, {"x": inner})[0]
        assert found[best == expert].tobytes() == alone.tobytes()


def test_experts_that_nobody_chose_are_not_read(tmp_path: Path) -> None:
    """Their bytes may be anything: a token pays for the chosen ones only."""
    case = Case()
    session = case.session(tmp_path)
    x = case.x[:1]
    scores = (x.astype(np.float64) @ case.router.T)[0]
    read = mixture.chosen_shares(scores, case.chosen, normalized=True)
    spoilt = {name: case.weights[name].reshape(case.experts, -1).copy() for name in ("gate_up", "down")}
    for weights in spoilt.values():
        weights[[expert for expert in range(case.experts) if expert not in read]] = 0xFF  # scales that are no numbers
    (tmp_path / "spoilt").mkdir()
    other = case.session(tmp_path / "spoilt", **{name: value.reshape(-1) for name, value in spoilt.items()})
    expected = session.run(None, {"x": x})[0]
    assert np.isfinite(expected).all()
    assert other.run(None, {"x": x})[0].tobytes() == expected.tobytes()


@pytest.mark.parametrize("normalized", [False, True])
def test_of_equal_scores_the_first_expert_is_chosen(normalized: bool, tmp_path: Path) -> None:
    """A router of zeros gives all of them the same share."""
    case = Case(normalized=normalized)
    case.router = np.zeros_like(case.router)
    found = case.session(tmp_path).run(None, {"x": case.x[:8]})[0]
    np.testing.assert_allclose(found, case.expected(8), atol=case.bound())


def test_what_is_no_number_stays_in_its_row(tmp_path: Path) -> None:
    """A score that is NaN or infinite chooses somebody, and nobody else's answer changes."""
    case = Case()
    session = case.session(tmp_path)
    x = case.x[:7].copy()
    x[2, 5], x[4, 0] = np.nan, np.inf
    found, expected = (session.run(None, {"x": each})[0] for each in (x, case.x[:7]))
    assert np.isnan(found[[2, 4]]).all()
    others = [0, 1, 3, 5, 6]
    assert found[others].tobytes() == expected[others].tobytes()


def test_leading_dimensions_are_kept(tmp_path: Path) -> None:
    """[batch, sequence, K] stays so; no rows give none."""
    case = Case()
    session = case.session(tmp_path)
    assert session.run(None, {"x": case.x[:6].reshape(2, 3, -1)})[0].shape == (2, 3, case.inputs)
    assert session.run(None, {"x": case.x[:0]})[0].shape == (0, case.inputs)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"experts": 0}, "attribute `experts` is 0, expected 1 to 4096"),
        ({"experts": 1 << 40}, "attribute `experts` is 1099511627776, expected 1 to 4096"),
        ({"chosen": 6}, "attribute `chosen` is 6, expected 1 to 5"),
        ({"chosen": 0}, "attribute `chosen` is 0, expected 1 to 5"),
        ({"normalized": 2}, "attribute `normalized` is 2, expected 0 to 1"),
        ({"activation": 4}, "attribute `activation` is 4, expected 0 to 3"),
        ({"gate_up_bits": 5}, "attribute `gate_up_bits` is 5, expected 4 or 8"),
        ({"down_group_size": 48}, "attribute `down_group_size` is 48, expected 32, 64 or 128"),
        ({"down_layout": 1}, f"packed layout is version 1, expected {ops.layout_version()}"),
        ({"gate_up_K": 100}, "attribute `gate_up_K` is 100, expected a multiple of group_size 32"),
        ({"experts": 4}, r"packed weights have shape \[\d+\], expected \[4 \* \d+\] for N 192 and K 128"),
        ({"gate_up_offsets": 1}, r"packed weights have shape \[\d+\], expected \[5 \* \d+\]"),
        ({"experts": 4096, "gate_up_K": 1 << 31, "gate_up_N": 1 << 31}, "packed weights have shape"),
    ],
    ids=str,
)
def test_a_graph_that_does_not_fit_its_weights_does_not_load(
    changed: dict[str, int], sentence: str, tmp_path: Path
) -> None:
    """What is wrong shows when the model is loaded, not in the middle of an answer."""
    case = Case()
    model = OneOperator("QMoE", ["x", "router", "gate_up", "down"], ["y"], case.attributes | changed, case.weights)
    with pytest.raises(Exception, match=f"QMoE: {sentence}"):
        open_session(model.save(tmp_path))


def test_matrices_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    """The inner width of an expert and the width of the model appear in both matrices."""
    for name, size, sentence in (
        ("gate_up", Case(width=64), "attribute `gate_up_N` is 192, expected 128 for two halves of width 64"),
        ("down", Case(inputs=64), "attribute `down_N` is 64, expected 128 as `gate_up_K`"),
    ):
        case = Case()
        down = {key: value for key, value in size.attributes.items() if key.startswith("down_")}
        weights = case.weights | {"down": size.weights["down"]}
        model = OneOperator("QMoE", ["x", "router", "gate_up", "down"], ["y"], case.attributes | down, weights)
        with pytest.raises(Exception, match=f"QMoE: {sentence}"):
            open_session(model.save(tmp_path))
        assert name in sentence


@pytest.mark.parametrize(("shape", "text"), [((4, 128), r"\[4, 128\]"), ((5, 64), r"\[5, 64\]"), ((640,), r"\[640\]")])
def test_a_router_of_another_shape_is_refused(shape: tuple[int, ...], text: str, tmp_path: Path) -> None:
    """It would be read beyond its end."""
    case = Case()
    session = case.session(tmp_path, router=np.zeros(shape, np.float32))
    with pytest.raises(Exception, match=rf"QMoE: router has shape {text}, expected \[5, 128\]"):
        session.run(None, {"x": case.x[:1]})


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("router_bias", r"router bias has shape \[6\], expected 5 values"),
        ("gate_up_bias", r"gate and up bias has shape \[6\], expected 960 values"),
        ("down_bias", r"down bias has shape \[6\], expected 640 values"),
    ],
)
def test_biases_of_another_size_are_refused(name: str, sentence: str, tmp_path: Path) -> None:
    """They would be read beyond their end."""
    case = Case(biased=True)
    session = case.session(tmp_path, **{name: np.zeros(6, np.float32)})
    with pytest.raises(Exception, match=f"QMoE: {sentence}"):
        session.run(None, {"x": case.x[:1]})


def test_activations_of_another_width_are_refused(tmp_path: Path) -> None:
    """The message has the shape found and the shape expected."""
    with pytest.raises(Exception, match=r"QMoE: input has shape \[2, 127\], expected \[..., 128\]"):
        Case().session(tmp_path).run(None, {"x": np.zeros((2, 127), np.float32)})
