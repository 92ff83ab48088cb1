"""Attention: agrees with its definition, and gives the same bits however the tokens are cut into calls."""

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
from reference import attention as slow

CAPACITY = 640


@dataclass(frozen=True)
class Case:
    heads: int
    kv_heads: int
    head_dim: int
    rotary_half: int
    window: int = 0
    soft_cap: float = 0.0
    interleaved: int = 0
    scale: float = 0.0
    extras: str = ""  # of norms, sinks, slopes

    def values(self, name: str, *shape: int) -> np.ndarray | None:
        """Numbers of an extra input, the same whenever they are asked for; None without it."""
        return (
            np.linspace(0.1, 1.7, int(np.prod(shape)), dtype=np.float32).reshape(shape) if name in self.extras else None
        )

    @property
    def norms(self) -> np.ndarray | None:
        return self.values("norms", 2, self.head_dim)

    @property
    def sinks(self) -> np.ndarray | None:
        return self.values("sinks", self.heads)

    @property
    def slopes(self) -> np.ndarray | None:
        return self.values("slopes", self.heads)

    @property
    def width(self) -> int:
        return (self.heads + 2 * self.kv_heads) * self.head_dim

    def tables(self) -> tuple[np.ndarray, np.ndarray]:
        angles = np.outer(np.arange(CAPACITY), 1000.0 ** -(np.arange(self.rotary_half) / max(1, self.rotary_half)))
        return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)

    def session(self, folder: Path, inputs: Sequence[str] = ("x", "", "")) -> Any:
        names = ["heads", "kv_heads", "head_dim", "window", "soft_cap", "interleaved", "scale"]
        attributes = {name: getattr(self, name) for name in names}
        cosines, sines = self.tables()
        operands = [*inputs, "pk", "pv", "last"]
        types = {"last": TensorProto.INT32}
        types |= dict.fromkeys(("pk", "pv", "k", "v"), TensorProto.UINT8)
        norms = [None, None] if self.norms is None else [*self.norms]
        tables = {"cos": cosines, "sin": sines} if self.rotary_half else {"cos": None, "sin": None}
        extra = tables | {"qn": norms[0], "kn": norms[1], "sinks": self.sinks, "slopes": self.slopes}
        operands += [name if value is not None else "" for name, value in extra.items()]
        weights = {name: value for name, value in extra.items() if value is not None}
        return open_session(
            OneOperator("Attention", operands, ["y", "k", "v"], attributes, weights, types).save(folder)
        )

    def cache(self, batch: int = 1, format_: ops.CacheFormat = "f32") -> list[Any]:
        shape = (batch, self.kv_heads, CAPACITY, ops.cache_row_bytes(format_, self.head_dim))
        return [onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(shape, np.uint8)) for _ in range(2)]

    def expected(self, x: np.ndarray) -> np.ndarray:
        return slow.attention(x, *self.tables(), self)


CASES = [
    Case(6, 2, 64, 32),
    Case(9, 3, 64, 32, window=70),
    Case(4, 4, 40, 20),
    Case(4, 1, 80, 40, soft_cap=15.0),
    Case(4, 2, 128, 64, interleaved=1),
    Case(2, 1, 32, 8, scale=0.3),
    Case(7, 1, 16, 8, window=1),
    Case(2, 2, 24, 0),
    Case(6, 2, 64, 32, extras="norms"),
    Case(4, 2, 32, 16, window=70, extras="sinks"),
    Case(5, 5, 24, 0, extras="slopes"),
    Case(6, 3, 40, 8, extras="norms sinks slopes"),
]
FORMATS: list[tuple[ops.CacheFormat, float]] = [("f32", 4e-6), ("f16", 2e-3), ("int16", 4e-4), ("int8", 4e-2)]


def step(session: Any, cache: list[Any], x: np.ndarray, last: Sequence[int]) -> np.ndarray:
    """One call with past and present in the same memory."""
    binding, positions = session.io_binding(), np.array(last, np.int32)  # kept until the call is over
    binding.bind_output("y")  # outputs come in the order in which they were bound
    binding.bind_cpu_input("x", x)
    binding.bind_cpu_input("last", positions)
    for name, value in zip(("k", "v"), cache, strict=True):
        binding.bind_ortvalue_input(f"p{name}", value)
        binding.bind_ortvalue_output(name, value)
    session.run_with_iobinding(binding)
    return binding.get_outputs()[0].numpy()


def run(
    case: Case, session: Any, x: np.ndarray, lengths: Sequence[int], format_: ops.CacheFormat = "f32"
) -> np.ndarray:
    cache, done, parts = case.cache(format_=format_), 0, []
    for length in lengths:
        parts.append(step(session, cache, x[done : done + length], [done + length - 1]))
        done += length
    assert done == len(x)
    return np.concatenate(parts)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_agrees_with_the_definition(case: Case, tmp_path: Path, rng: np.random.Generator) -> None:
    """float32 sums over 300 keys stay within 4e-6 of float64; keys and values of fewer bits add their rounding."""
    x = rng.normal(size=(300, case.width)).astype(np.float32)
    session, expected = case.session(tmp_path), case.expected(x)
    for format_, bound in FORMATS:
        found = run(case, session, x, [300], format_)
        np.testing.assert_allclose(found, expected, atol=bound, rtol=0, err_msg=format_)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_calls_may_be_cut_anywhere(case: Case, tmp_path: Path, rng: np.random.Generator) -> None:
    """A token's result is the same bits in a prefill, in a chunk and alone, across tiles and chunks of keys."""
    x = rng.normal(size=(600, case.width)).astype(np.float32)
    session = case.session(tmp_path)
    cut = [1, 2, 60, 1, 1, 190, *[1] * 8, 300, *[1] * 37]
    for format_, _ in FORMATS:
        whole = run(case, session, x, [600], format_)
        assert run(case, session, x, cut, format_).tobytes() == whole.tobytes(), format_
        assert run(case, session, x, [255, 1, 1, 343], format_).tobytes() == whole.tobytes(), format_


@pytest.mark.parametrize("head_dim", [16, 24, 40, 64])
def test_rows_of_a_cache_are_what_is_said(head_dim: int, tmp_path: Path, rng: np.random.Generator) -> None:
    """float16 as numpy rounds it, from the smallest numbers to those that it cannot hold; int8 to the nearest step."""
    case = Case(1, 1, head_dim, 0)
    session = case.session(tmp_path)
    x = (rng.normal(size=(30, case.width)) * 10.0 ** rng.integers(-7, 7, (30, 1))).astype(np.float32)
    keys = x[:, head_dim : 2 * head_dim]
    halves, codes = case.cache(format_="f16"), case.cache(format_="int8")
    step(session, halves, x, [29])
    step(session, codes, x, [29])
    stored = halves[0].numpy()[0, 0, :30].copy().view(np.float16)
    np.testing.assert_array_equal(stored, keys.clip(-65504, 65504).astype(np.float16))
    rows = codes[0].numpy()[0, 0, :30]
    scales = rows[:, head_dim:].copy().view(np.float16).astype(np.float32).repeat(32, axis=1)[:, :head_dim]
    peaks = np.stack([np.abs(keys[:, at : at + 32]).max(axis=1) for at in range(0, head_dim, 32)], axis=1)
    np.testing.assert_array_equal(scales[:, ::32], (peaks / np.float32(127)).astype(np.float16))
    error = np.abs(rows[:, :head_dim].view(np.int8) * scales - keys)
    assert (error <= scales * 0.57 + 65 * 2.0**-24).all()  # the scale itself is rounded, by half of 2^-10 of 127 steps


@pytest.mark.parametrize("head_dim", [7, 16, 40, 64, 130])
def test_rows_of_words_keep_their_norm_and_all_their_digits(
    head_dim: int, tmp_path: Path, rng: np.random.Generator
) -> None:
    """Words of at most 32,700 and a Euclidean norm of at most 65,000, to the nearest step; what is tiny is zero."""
    case = Case(1, 1, head_dim, 0)
    session, cache = case.session(tmp_path), case.cache(format_="int16")
    x = (rng.normal(size=(40, case.width)) * 10.0 ** rng.integers(-9, 15, (40, 1))).astype(np.float32)
    x[::7, head_dim] = 1e3 * np.abs(x[::7]).max(axis=1)  # one number outweighs the others
    x[39] = 1e-31
    keys = x[:, head_dim : 2 * head_dim].astype(np.float64)
    step(session, cache, x, [39])
    rows = cache[0].numpy()[0, 0, :40]
    words = rows[:, : 2 * head_dim].copy().view(np.int16).astype(np.float64)
    scales = rows[:, 2 * head_dim :].copy().view(np.float32)
    norms = np.linalg.norm(words, axis=1, keepdims=True)
    assert np.abs(words).max() <= 32_700
    assert norms.max() <= 65_000 + head_dim**0.5 / 2
    assert norms[:39].min() >= 32_699
    assert not rows[39].any()
    assert (np.abs(words * scales - keys)[:39] <= 0.501 * scales[:39]).all()


def test_rows_of_a_batch_are_padded_at_their_end(tmp_path: Path, rng: np.random.Generator) -> None:
    """Each row gives what it gives alone; padding gives zeros; decoding goes on at each row's own length."""
    case = Case(6, 2, 64, 32)
    session = case.session(tmp_path)
    lengths, longest = [5, 40, 1], 40
    x = rng.normal(size=(3, longest, case.width)).astype(np.float32)
    more = rng.normal(size=(3, 1, case.width)).astype(np.float32)
    cache = case.cache(batch=3)
    first = step(session, cache, x, [length - 1 for length in lengths])
    second = step(session, cache, more, lengths)
    for row, length in enumerate(lengths):
        alone = run(case, session, np.concatenate([x[row, :length], more[row]]), [length, 1])
        assert first[row, :length].tobytes() == alone[:length].tobytes()
        assert second[row].tobytes() == alone[length:].tobytes()
        assert not first[row, length:].any()


def test_separate_query_key_and_value(tmp_path: Path, rng: np.random.Generator) -> None:
    """Three inputs are as good as one packed one, and present may be other memory than past."""
    case = Case(6, 2, 64, 32)
    x = rng.normal(size=(20, case.width)).astype(np.float32)
    (tmp_path / "packed").mkdir()
    expected = run(case, case.session(tmp_path / "packed"), x, [20])
    session = case.session(tmp_path, ("q", "kk", "vv"))
    parts = np.split(x, [6 * 64, 8 * 64], axis=1)
    empty = np.zeros((1, 2, CAPACITY, 256), np.uint8)
    feeds = dict(zip(("q", "kk", "vv"), (np.ascontiguousarray(part[:13]) for part in parts), strict=True))
    y, k, v = session.run(None, feeds | {"pk": empty, "pv": empty, "last": np.array([12], np.int32)})
    assert y.tobytes() == expected[:13].tobytes()
    assert not empty.any()
    feeds = dict(zip(("q", "kk", "vv"), (np.ascontiguousarray(part[13:]) for part in parts), strict=True))
    y, k, _ = session.run(None, feeds | {"pk": k, "pv": v, "last": np.array([19], np.int32)})
    assert y.tobytes() == expected[13:].tobytes()
    assert not k[0, :, 20:].any()


@pytest.mark.parametrize(("last", "sentence"), [(-1, "has 0 positions"), (CAPACITY, "has 641 positions")])
def test_positions_outside_the_cache_are_refused(last: int, sentence: str, tmp_path: Path) -> None:
    """A wrong length is an error and not a write somewhere into memory."""
    case = Case(2, 1, 16, 8)
    with pytest.raises(Exception, match=f"Attention: row 0 {sentence}, expected 1 to {CAPACITY}"):
        step(case.session(tmp_path), case.cache(), np.zeros((1, case.width), np.float32), [last])


def test_shapes_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    """The message says which input, what it is and what it should be."""
    case = Case(2, 1, 16, 8)
    session = case.session(tmp_path)
    with pytest.raises(Exception, match=r"Attention: query has shape \[1, 60\], expected \[tokens, 64\]"):
        step(session, case.cache(), np.zeros((1, 60), np.float32), [0])
    with pytest.raises(Exception, match=r"Attention: seqlens_k has shape \[2\], expected \[batch\] for 3 tokens"):
        step(session, case.cache(), np.zeros((3, case.width), np.float32), [0, 0])
    with pytest.raises(
        Exception,
        match=r"Attention: past has shape \[2, 1, 640, 64\], expected \[1, 1, capacity, 64, 32, 36 or 18\] bytes",
    ):
        step(session, case.cache(batch=2), np.zeros((3, case.width), np.float32), [2])
    odd = onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros((1, 1, CAPACITY, 17), np.uint8))
    with pytest.raises(Exception, match=r"Attention: past has shape \[1, 1, 640, 17\]"):
        step(session, [odd, odd], np.zeros((3, case.width), np.float32), [2])
