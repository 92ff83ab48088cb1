"""The generation bench: what it makes of measurements, and that contestants who fail or stand still are told apart."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from json import dumps
from pathlib import Path

import numpy as np
import pytest

from support.tiny_graph import build_model

pytest.importorskip("bench", reason="the sources of the bench are not here")

from bench.generate import figures, judge, memory, operators
from bench.generate.cases import CASES, MAIN, SMALL, Case
from bench.generate.contestant import Contestant, Failure
from bench.generate.figures import Figure
from bench.generate.peers import PEERS, Peer

OURS = Peer("fastslm", "fastslm", "int4")
LOAD = {"threads": 1, "context": 64}


def figure(what: str, peer: str, value: float, **case: object) -> Figure:
    return Figure(
        **{"shape": SMALL, "threads": 2, "prompt": 512, "rows": 1, "what": what, "peer": peer, **case}, value=value
    )


def stands_still(pid: int) -> bool:
    """The signal that stops a process takes its time."""
    for _ in range(500):
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T":
            return True
        time.sleep(0.01)
    return False


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_model(tmp_path_factory.mktemp("model"))


def test_the_judge_compares_our_median_with_the_best_of_the_others() -> None:
    """Stock ONNX Runtime runs our own graph and is no peer; a failed run says nothing."""
    found = [figure("decode", "fastslm", value) for value in (10.0, 30.0, 20.0)]
    found += [figure("decode", "OpenVINO GenAI", 8.0), figure("decode", "llama.cpp Q4_0", 10.0)]
    found += [figure("decode", "stock ONNX Runtime", 40.0)]
    found += [Figure(SMALL, 2, 512, 1, "decode", "transformers bf16", 0.0, failed="no memory")]
    line = next(line for line in judge.LINES if line.text.startswith("decode at 512, 0.5B"))
    assert line.measured(found, "fastslm") == 2.0
    assert line.verdict(2.0) == "must"
    assert [line.verdict(value) for value in (2.2, 1.6, None)] == ["aim", "no", "not measured"]


def test_the_judge_wants_less_of_times_and_memory() -> None:
    found = [figure("step", "fastslm", value, prompt=32, rows=rows) for rows, value in ((1, 10.0), (4, 11.5))]
    line = next(line for line in judge.LINES if line.text.startswith("four rows"))
    assert line.measured(found, "fastslm") == pytest.approx(1.15)
    assert [line.verdict(value) for value in (1.05, 1.15, 1.25)] == ["aim", "must", "no"]


def test_every_line_is_measured_by_the_main_run() -> None:
    """A case that nobody runs would leave a line of the table open for ever."""
    shapes = {(CASES[name].shape, CASES[name].prompt, CASES[name].kind) for name in MAIN}
    assert {(SMALL, 512, "speed"), (SMALL, 8192, "speed"), (SMALL, 32, "speed"), ("demo", 512, "whole")} <= shapes
    assert all(line.measured([], "fastslm") is None for line in judge.LINES)


def test_figures_come_back_from_their_file_and_show_in_the_table(tmp_path: Path) -> None:
    found = [
        figure("decode", "fastslm", 20.0),
        figure("decode", "OpenVINO GenAI", 10.0),
        figure("load", "fastslm", 5.0),
    ]
    found += [Figure(SMALL, 2, 512, 1, "decode", "transformers bf16", 0.0, failed="no memory")]
    path = tmp_path / "run.jsonl"
    path.write_text("\n".join([dumps({"machine": {"cpu": "x"}}), *(dumps(asdict(each)) for each in found)]))
    about, back = figures.read([path])
    assert (about, back) == ({"machine": {"cpu": "x"}}, found)
    shown = "\n".join(figures.table(back))
    assert "ours is 2.00 x as good" in shown
    assert "failed: no memory" in shown


def test_a_contestant_loads_generates_and_stands_still(folder: Path) -> None:
    """Its answers have the seconds of each step; while nobody asks, the system has it stopped."""
    with Contestant(OURS, sys.executable) as contestant:
        assert contestant.ask("load", path=str(folder), **LOAD)["seconds"] > 0
        got = contestant.ask("generate", prompt=16, tokens=3, rows=1, seed=0, below=300)
        assert len(got["steps_s"]) == 3
        assert stands_still(contestant.pid)
        used = memory.of_process(contestant.pid)
        assert 0 < used["anonymous"] < used["rss"]


def test_a_contestant_that_cannot_load_says_why(tmp_path: Path) -> None:
    with Contestant(OURS, sys.executable) as contestant, pytest.raises(Failure, match="FileMissing"):
        contestant.ask("load", path=str(tmp_path), **LOAD)


def test_a_contestant_that_cannot_start_says_why() -> None:
    with pytest.raises(Failure, match="No module named"):
        Contestant(Peer("nobody", "nobody", "int4"), sys.executable)


def test_rows_of_a_batch_write_what_each_writes_alone(folder: Path) -> None:
    """The tiny graph takes one sequence only, so a batch of one stands for several."""
    from bench.generate.engines.fastslm import Batch

    from fastslm.engine.session import open_graph
    from fastslm.store.manifest import ModelManifest

    batch = Batch(open_graph(folder / "model.onnx", 1), ModelManifest.read(folder), rows=1, context=64)
    ids = np.random.default_rng(0).integers(3, 300, (1, 20))
    whole = batch.step(20)(ids, 0)
    batch.step(12)(ids[:, :12], 0)
    assert batch.step(8)(ids[:, 12:], 12) == whole


def test_the_profile_names_the_operators_of_a_step(folder: Path) -> None:
    times = operators.times(folder, Case(SMALL, "operators", prompt=16, tokens=1, repeat=2, threads=1), rows=1)
    assert {"GroupQueryAttention", "MatMul"} <= times.keys()
    assert all(value >= 0 for value in times.values())


def test_names_in_the_cases_are_those_of_contestants() -> None:
    """A misspelt name would be left out without a word."""
    fixed = {peer.name for peer in PEERS} | {"isa", "fastslm avx2", "OpenVINO without AMX"}
    for case in CASES.values():
        assert {*case.peers, *case.more} <= fixed
