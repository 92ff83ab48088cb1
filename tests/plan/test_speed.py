"""Speed follows from bytes and bandwidth, and real answers correct it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fastslm.export.footprint import Footprint
from fastslm.plan.speed import correction, formula_s, measured_bandwidth, tokens_per_s
from fastslm.store.machine_file import MachineFile, Run
from fastslm.store.manifest import ModelKind

PRINT = Footprint(ModelKind("llama", "int4", "native"), 4096, 16, 10**9, 10**9, 10**9, 0, 0, 65536, 90000)
RUN = Run(ModelKind("llama", "int4", "native"), 10**9, 16, 65536 * 512, token_s=0.1)


def test_a_model_of_twice_the_bytes_answers_at_about_half_the_speed() -> None:
    """Decoding is bound by memory."""
    large = replace(PRINT, streamed_bytes=2 * 10**9)
    ratio = tokens_per_s(PRINT, 4096, 20e9, ()) / tokens_per_s(large, 4096, 20e9, ())
    assert 1.8 < ratio < 2.0


def test_answers_of_this_machine_outweigh_the_formula() -> None:
    """Three answers at 10 tokens/s, and the same model is expected to do that again."""
    assert tokens_per_s(PRINT, 4096, 20e9, [RUN] * 3) == pytest.approx(10.0, rel=1e-6)


def test_one_answer_that_was_disturbed_does_not_count_for_much() -> None:
    """Nor do two: other programs make an answer slower, never faster."""
    disturbed = replace(RUN, token_s=5.0)
    assert tokens_per_s(PRINT, 4096, 20e9, [disturbed, RUN, disturbed]) == pytest.approx(10.0, rel=1e-6)


def test_models_of_a_similar_size_count_first() -> None:
    """What a tiny model reaches says little about a large one."""
    tiny = replace(RUN, streamed_bytes=10**7, token_s=1.0)
    near = correction(RUN, 20e9, [tiny, tiny, tiny, tiny, RUN])
    assert near == pytest.approx(RUN.token_s / formula_s(RUN, 20e9))
    assert correction(RUN, 20e9, [tiny]) == 1.0


def test_bandwidth_is_measured_once(tmp_path: Path) -> None:
    """The second plan reads the figure; a machine without free memory has none."""
    file = MachineFile(tmp_path / "machine.json")
    assert measured_bandwidth(file, 1, 1000) is None
    file.note_bandwidth(1, 12e9)
    assert measured_bandwidth(file, 1, 1 << 40) == 12e9
