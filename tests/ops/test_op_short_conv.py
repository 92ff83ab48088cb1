"""ShortConv: a convolution over the last positions, whose past lies in a cache like keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto
from tests.support.operators import OneOperator, open_session

from fastslm import ops
from reference.short_conv import short_conv

CAPACITY = 320
FORMATS: list[tuple[ops.CacheFormat, float]] = [("f32", 1e-6), ("f16", 2e-3), ("int16", 2e-4), ("int8", 3e-2)]


@dataclass(frozen=True)
class Case:
    """A convolution with random weights."""

    heads: int
    head_dim: int
    kernel: int = 3
    biased: bool = False

    @property
    def width(self) -> int:
        return self.heads * self.head_dim

    @property
    def weights(self) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(11)
        found = {"taps": rng.normal(size=(self.kernel, self.width)).astype(np.float32)}
        return found | ({"bias": rng.normal(size=self.width).astype(np.float32)} if self.biased else {})

    def session(self, folder: Path) -> Any:
        types = {"last": TensorProto.INT32, "past": TensorProto.UINT8, "present": TensorProto.UINT8}
        attributes = {"heads": self.heads, "head_dim": self.head_dim}
        operands = ["gates", "past", "last", *self.weights]
        return open_session(
            OneOperator("ShortConv", operands, ["y", "present"], attributes, self.weights, types).save(folder)
        )

    def cache(self, batch: int = 1, format_: ops.CacheFormat = "f32") -> np.ndarray:
        return np.zeros((batch, self.heads, CAPACITY, ops.cache_row_bytes(format_, self.head_dim)), np.uint8)

    def gates(self, rng: np.random.Generator, tokens: int) -> np.ndarray:
        return rng.normal(size=(tokens, 3 * self.width)).astype(np.float32)

    def expected(self, gates: np.ndarray) -> np.ndarray:
        return short_conv(gates, self.weights["taps"], self.weights.get("bias"))


CASES = [Case(2, 16), Case(4, 64, 4, biased=True), Case(3, 40, 1), Case(1, 24, 7), Case(40, 64)]


def step(session: Any, cache: onnxruntime.OrtValue, gates: np.ndarray, last: Sequence[int]) -> np.ndarray:
    """One call with past and present in the same memory."""
    binding, positions = session.io_binding(), np.array(last, np.int32)
    binding.bind_output("y")
    binding.bind_cpu_input("gates", gates)
    binding.bind_cpu_input("last", positions)
    binding.bind_ortvalue_input("past", cache)
    binding.bind_ortvalue_output("present", cache)
    session.run_with_iobinding(binding)
    return binding.get_outputs()[0].numpy()


def run(
    case: Case, session: Any, gates: np.ndarray, lengths: Sequence[int], format_: ops.CacheFormat = "f32"
) -> np.ndarray:
    cache = onnxruntime.OrtValue.ortvalue_from_numpy(case.cache(format_=format_))
    done, parts = 0, []
    for length in lengths:
        parts.append(step(session, cache, gates[done : done + length], [done + length - 1]))
        done += length
    assert done == len(gates)
    return np.concatenate(parts)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_agrees_with_the_definition(case: Case, tmp_path: Path, rng: np.random.Generator) -> None:
    """In every format of the cache, as closely as it allows: part of the largest number."""
    session, gates = case.session(tmp_path), case.gates(rng, 60)
    expected = case.expected(gates)
    for format_, bound in FORMATS:
        found = run(case, session, gates, [60], format_)
        np.testing.assert_allclose(found, expected, atol=bound * np.abs(expected).max(), rtol=0, err_msg=format_)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_calls_may_be_cut_anywhere(case: Case, tmp_path: Path, rng: np.random.Generator) -> None:
    """To the last bit, also with a rounding cache: a greedy answer does not depend on the pieces of its prompt."""
    session, gates = case.session(tmp_path), case.gates(rng, 300)
    for format_, _ in FORMATS:
        whole = run(case, session, gates, [300], format_)
        for lengths in ([1, 1, 1, 297], [2, 298], [255, 1, 1, 43], [299, 1]):
            assert run(case, session, gates, lengths, format_).tobytes() == whole.tobytes(), format_


def test_a_forgotten_tail_leaves_no_trace(tmp_path: Path, rng: np.random.Generator) -> None:
    """What lies behind the positions that are told is never looked at."""
    case = Case(2, 16)
    session, gates, other = case.session(tmp_path), case.gates(rng, 12), case.gates(rng, 9)
    cache = onnxruntime.OrtValue.ortvalue_from_numpy(case.cache())
    step(session, cache, gates[:5], [4])
    step(session, cache, other, [13])
    found = step(session, cache, gates[5:], [11])
    assert found.tobytes() == run(case, session, gates, [12])[5:].tobytes()


def test_rows_of_a_batch_are_padded_at_their_end(tmp_path: Path, rng: np.random.Generator) -> None:
    """A short prompt beside a long one, then a token for each: as if they were alone; padding gives zeros."""
    case, lengths = Case(2, 16, biased=True), [7, 3, 1]
    session, texts = case.session(tmp_path), [case.gates(rng, length + 1) for length in lengths]
    padded = np.stack([np.pad(text[:-1], ((0, 8 - len(text)), (0, 0))) for text in texts])
    cache = onnxruntime.OrtValue.ortvalue_from_numpy(case.cache(batch=3))
    first = step(session, cache, padded.reshape(21, -1), [length - 1 for length in lengths]).reshape(3, 7, -1)
    second = step(session, cache, np.stack([text[-1] for text in texts]), lengths)
    for row, (text, length) in enumerate(zip(texts, lengths, strict=True)):
        expected = case.expected(text)
        np.testing.assert_allclose(first[row, :length], expected[:length], atol=1e-5)
        assert not first[row, length:].any()
        np.testing.assert_allclose(second[row], expected[length], atol=1e-5)


def test_a_cache_elsewhere_is_copied(tmp_path: Path, rng: np.random.Generator) -> None:
    """Where past and present are not bound to the same memory."""
    case = Case(2, 16)
    session, gates = case.session(tmp_path), case.gates(rng, 6)
    feeds = {"gates": gates[:4], "past": case.cache() + 255, "last": np.array([3], np.int32)}
    _, cache = session.run(None, feeds)
    assert not cache[:, :, 4:].any()
    found, _ = session.run(None, {"gates": gates[4:], "past": cache, "last": np.array([5], np.int32)})
    np.testing.assert_allclose(found, case.expected(gates)[4:], atol=1e-5)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"gates": np.zeros((1, 95), np.float32)}, r"gates has shape \[1, 95\], expected \[tokens, 96\]"),
        ({"gates": np.zeros((3, 96), np.float32), "last": np.zeros(2, np.int32)}, r"seqlens_k has shape \[2\]"),
        ({"past": np.zeros((1, 2, 8, 65), np.uint8)}, r"past has shape \[1, 2, 8, 65\]"),
        (
            {"past": np.zeros((1, 3, 8, 64), np.uint8)},
            r"past has shape \[1, 3, 8, 64\], expected \[1, 2, capacity, row\]",
        ),
        ({"last": np.array([CAPACITY], np.int32)}, "row 0 has 321 positions, expected 1 to 320"),
        ({"last": np.array([-1], np.int32)}, "row 0 has 0 positions, expected 1 to 320"),
        ({"taps": np.zeros((65, 32), np.float32)}, r"taps has shape \[65, 32\], expected \[1 to 64, 32\]"),
        ({"taps": np.zeros((3, 31), np.float32)}, r"taps has shape \[3, 31\]"),
        ({"bias": np.zeros(31, np.float32)}, r"bias has shape \[31\], expected \[32\]"),
    ],
)
def test_what_does_not_belong_together_is_refused(
    changed: dict[str, np.ndarray], sentence: str, tmp_path: Path
) -> None:
    """It would be read beyond its end."""
    case = Case(2, 16, biased=True)
    types = {"last": TensorProto.INT32, "past": TensorProto.UINT8, "present": TensorProto.UINT8}
    operands = ["gates", "past", "last", "taps", "bias"]
    session = open_session(
        OneOperator("ShortConv", operands, ["y", "present"], {"heads": 2, "head_dim": 16}, {}, types).save(tmp_path)
    )
    feeds = {"gates": np.zeros((1, 96), np.float32), "past": case.cache(), "last": np.zeros(1, np.int32)}
    with pytest.raises(Exception, match=f"ShortConv: {sentence}"):
        session.run(None, feeds | case.weights | changed)
