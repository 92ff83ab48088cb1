"""Cores, quota and memory as a container shows them."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastslm.machine import Machine, cpu_quota, inspect, is_busy, memory_limit


@pytest.mark.parametrize(("text", "quota"), [("max 100000\n", None), ("150000 100000\n", 1.5), ("junk", None)])
def test_the_quota_of_a_container_is_read(tmp_path: Path, text: str, quota: float | None) -> None:
    """Version 2 of control groups."""
    (tmp_path / "cpu.max").write_text(text)
    assert cpu_quota(tmp_path) == quota


@pytest.mark.parametrize(("limit", "quota"), [("-1", None), ("50000", 0.5)])
def test_the_older_quota_is_read(tmp_path: Path, limit: str, quota: float | None) -> None:
    """Version 1 of control groups."""
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(limit)
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert cpu_quota(tmp_path) == quota


@pytest.mark.parametrize(("physical", "quota", "threads"), [(8, None, 8), (8, 2.9, 2), (8, 0.5, 1), (1, 4.0, 1)])
def test_one_thread_for_each_core_that_we_may_use(physical: int, quota: float | None, threads: int) -> None:
    """More would wait for each other at the memory."""
    assert Machine(16, physical, quota, 1 << 34, 1 << 33).threads == threads


@pytest.mark.parametrize(("load", "busy"), [(0.2, False), (3.4, False), (3.6, True), (40.0, True)])
def test_a_machine_without_an_idle_core_is_busy(load: float, busy: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then threads that wait must not keep a core from work; a system that does not tell its load is idle."""
    monkeypatch.setattr("fastslm.machine.usable_cpus", lambda: 4)
    monkeypatch.setattr("os.getloadavg", lambda: (load, 0.0, 0.0))
    assert is_busy() == busy
    monkeypatch.delattr("os.getloadavg")
    assert not is_busy()


def test_this_machine_has_cores_and_memory() -> None:
    """Real figures, within reason."""
    here = inspect()
    assert 1 <= here.physical_cores <= here.logical_cores
    assert here.memory_bytes > here.available_bytes > 0


def test_a_container_limits_the_memory(tmp_path: Path) -> None:
    """Version 2 of the control groups, then version 1; `max` is no limit."""
    assert memory_limit(tmp_path) is None
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("1000\n")
    assert memory_limit(tmp_path) == 1000
    (tmp_path / "memory.max").write_text("2000\n")
    assert memory_limit(tmp_path) == 2000
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory" / "memory.limit_in_bytes").unlink()
    assert memory_limit(tmp_path) is None
