"""``fastslm bench``: speeds, memory and the share of the bandwidth, for a person and for a script."""

from __future__ import annotations

import pytest

from cli.conftest import Run


@pytest.fixture(autouse=True)
def small_bandwidth(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gigabyte per second, known without half a gigabyte of memory."""
    monkeypatch.setattr("fastslm.engine.measure.measure_bandwidth", lambda threads, available: 1e9)


def test_bench_tells_speeds_memory_and_threads(fastslm: Run, tiny_file: str) -> None:
    """One line for each prompt, in the order given; the same as numbers with --json."""
    shown = fastslm("bench", tiny_file, "-p", "64", "-p", "16", "-n", "8", "-r", "1", "--threads", "1")
    assert shown.code == 0, shown.err
    assert "1 thread" in shown.out
    assert shown.out.index("64 tokens") < shown.out.index("16 tokens")
    assert shown.out.count("tokens/s") == 4
    data = fastslm("bench", tiny_file, "-p", "16", "-n", "8", "-r", "2", "--json").data
    [speed] = data["speeds"]
    assert (data["model"], speed["prompt_tokens"], speed["new_tokens"]) == (tiny_file, 16, 8)
    assert speed["prefill_tokens_per_s"]["lowest"] <= speed["prefill_tokens_per_s"]["median"]
    assert speed["bandwidth_share"] == pytest.approx(speed["bytes_per_s"] / 1e9)
    assert data["rss_bytes"] > 0
    assert data["load_s"] > 0


def test_bench_refuses_what_the_context_cannot_hold(fastslm: Run, tiny_file: str) -> None:
    """The default prompt of 512 tokens is too long for a model of 128 positions."""
    shown = fastslm("bench", tiny_file, "--quiet")
    assert shown.code == 4
    assert "512" in shown.err
    assert shown.out == ""


def test_bench_refuses_numbers_without_a_meaning(fastslm: Run, tiny_file: str) -> None:
    """Wrong usage, before anything is loaded."""
    assert fastslm("bench", tiny_file, "-r", "0").code == 2
    assert fastslm("bench", tiny_file, "-p", "1").code == 2
