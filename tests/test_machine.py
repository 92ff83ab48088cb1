"""Cores, quota and memory as a container shows them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastslm.machine import Cores, cpu_quota, inspect, inspect_cores, is_busy, memory_limit


@pytest.mark.parametrize(("text", "quota"), [("max 100000\n", None), ("150000 100000\n", 1.5), ("junk", None)])
def test_the_quota_of_a_container_is_read(tmp_path: Path, text: str, quota: float | None) -> None:
    """Version 2 of control groups."""
    (tmp_path / "cpu.max").write_text(text)
    assert cpu_quota(tmp_path, tmp_path / "nothing") == quota


@pytest.mark.parametrize(("limit", "quota"), [("-1", None), ("50000", 0.5)])
def test_the_older_quota_is_read(tmp_path: Path, limit: str, quota: float | None) -> None:
    """Version 1 of control groups."""
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(limit)
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert cpu_quota(tmp_path, tmp_path / "nothing") == quota


@pytest.mark.parametrize(
    "text", ["max", "100000", "0 100000", "-1 100000", "5 0", "9" * 400 + " 1", "1e5 100000", "１ ２", "1 2 3", "\0"]
)
def test_a_quota_that_cannot_be_meant_is_none(tmp_path: Path, text: str) -> None:
    """Nothing in these files may end the program."""
    (tmp_path / "cpu.max").write_text(text)
    assert cpu_quota(tmp_path, tmp_path / "nothing") is None


def test_the_group_of_this_process_and_those_above_it_count(tmp_path: Path) -> None:
    """A service of systemd is limited in a group of its own, and so is the slice that holds it: the least counts."""
    own, inner = tmp_path / "own", tmp_path / "system.slice" / "a.service"
    own.write_text("12:cpuset:/elsewhere\n3:cpu,cpuacct:/old\n0::/system.slice/a.service\nnonsense\n0::/../../etc\n")
    inner.mkdir(parents=True)
    (inner / "cpu.max").write_text("300000 100000\n")
    assert cpu_quota(tmp_path, own) == 3.0
    (inner.parent / "cpu.max").write_text("200000 100000\n")
    assert cpu_quota(tmp_path, own) == 2.0
    old = tmp_path / "cpu" / "old"
    old.mkdir(parents=True)
    (old / "cpu.cfs_quota_us").write_text("150000")
    (old / "cpu.cfs_period_us").write_text("100000")
    assert cpu_quota(tmp_path, own) == 1.5


@pytest.mark.parametrize(
    ("cores", "choices"),
    [
        (Cores(2, 2, 2, None), (2,)),
        (Cores(24, 16, 8, None), (8, 16, 24)),
        (Cores(16, 8, 8, None), (8, 16)),
        (Cores(16, 8, 8, 2.9), (2,)),
        (Cores(16, 8, 4, 6.0), (4, 6)),
        (Cores(16, 8, 8, 0.5), (1,)),
        (Cores(1, 1, 1, 4.0), (1,)),
    ],
)
def test_fast_cores_all_cores_or_all_processors_within_the_quota(cores: Cores, choices: tuple[int, ...]) -> None:
    """The numbers of threads to choose from, the least without a measurement."""
    assert cores.choices == choices
    assert cores.threads == choices[0]


def processors(folder: Path, siblings: list[str], **files: list[str]) -> Path:
    """The system's description of processors 0, 1, …"""
    for cpu, text in enumerate(siblings):
        topology = folder / f"cpu{cpu}" / "topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(text + "\n")
        for name, values in files.items():
            path = folder / f"cpu{cpu}" / name.replace("__", "/")
            path.parent.mkdir(exist_ok=True)
            path.write_text(values[cpu] + "\n")
    return folder


def test_slow_cores_and_hyper_threads_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two fast cores with two threads each and two slow ones, of which this process may not use the last."""
    monkeypatch.setattr("fastslm.machine._allowed", lambda: [0, 1, 2, 3, 4])
    siblings = ["0-1", "0-1", "2-3", "2-3", "4", "5"]
    speeds = ["5000000", "5000000", "4800000", "4800000", "3600000", "3600000"]
    found = inspect_cores(processors(tmp_path, siblings, cpufreq__cpuinfo_max_freq=speeds))
    assert (found.logical, found.physical, found.fast) == (5, 3, 2)


@pytest.mark.parametrize("capacity", [["1024", "junk"], ["1024", "-5"], ["1024", ""]])
def test_speeds_that_are_not_told_of_all_are_equal(
    capacity: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A core is called slow only where the system says so."""
    monkeypatch.setattr("fastslm.machine._allowed", lambda: [0, 1])
    found = inspect_cores(processors(tmp_path, ["0", "1"], cpu_capacity=capacity))
    assert (found.logical, found.physical, found.fast) == (2, 2, 2)


def test_without_a_description_of_processors_there_are_still_cores(tmp_path: Path) -> None:
    """As in some sandboxes."""
    found = inspect_cores(tmp_path)
    assert 1 <= found.fast == found.physical <= found.logical


@pytest.mark.skipif(not hasattr(os, "setpriority"), reason="the system has no niceness")
def test_a_polite_process_is_behind_others_and_never_before_them() -> None:
    """In a process of its own, because it cannot be taken back."""
    code = (
        "import os; from fastslm.machine import be_polite\n"
        "be_polite(); be_polite(); one = os.getpriority(os.PRIO_PROCESS, 0)\n"
        "os.setpriority(os.PRIO_PROCESS, 0, 15); be_polite()\n"
        "print(one >= 10, os.getpriority(os.PRIO_PROCESS, 0) >= 15)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "True True\n"


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
    assert 1 <= here.cores.fast <= here.cores.physical <= here.cores.logical
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
