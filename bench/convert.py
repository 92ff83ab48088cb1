"""Conversion to 4 bits: seconds, peak memory, peak disk and size of the result, of us and of others in turn.

The models have real shapes and random weights (``bench.shapes``), and stay in the temporary folder for the next run.
``python -m bench convert --peer genai=PYTHON --peer optimum=PYTHON --peer llama.cpp=PYTHON``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import shapes
from bench.converters import PEERS, Order, interpreters
from bench.download import Wishes
from bench.report import Cost, report

CASES = {name: name for name in shapes.SHAPES if name != "wide"}
MB = 1_000_000
TIMEOUT_S = 1200
MODELS = Path(tempfile.gettempdir()) / "fastslm-bench-models"


@dataclass(frozen=True)
class Run(Cost):
    """One conversion; a failed one says why. Disk is what was there at once beside the source."""

    result_mb: float
    failed: str = ""


@dataclass
class _Used:
    """What the commands of a peer took together; memory and disk are the most at any time."""

    cpu_s: float = 0.0
    rss_mb: float = 0.0
    disk_mb: float = 0.0


def size_mb(folder: Path) -> float:
    """Megabytes that the files below a folder take on the disk, also while they come and go."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(Path(root) / name).st_blocks * 512
            except FileNotFoundError:
                continue
    return total / MB


def _run(command: Sequence[str], scratch: Path, used: _Used) -> str:
    """Run to the end; what went wrong, or nothing."""
    quiet = {"HF_HUB_OFFLINE": "1", "FASTSLM_HOME": str(scratch / "home"), "TMPDIR": str(scratch / "tmp")}
    with (scratch / "errors").open("w+", encoding="utf-8") as errors:
        child = subprocess.Popen(command, env={**os.environ, **quiet}, stdout=subprocess.DEVNULL, stderr=errors)
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            pid, status, usage = os.wait4(child.pid, os.WNOHANG)
            used.disk_mb = max(used.disk_mb, size_mb(scratch))
            if pid:
                break
            if time.monotonic() > deadline:
                child.kill()
            time.sleep(0.02)
        child.returncode = os.waitstatus_to_exitcode(status)
        used.cpu_s += usage.ru_utime + usage.ru_stime
        used.rss_mb = max(used.rss_mb, usage.ru_maxrss / 1024)
        errors.seek(0)
        lines = errors.read().strip().splitlines() or ["no message"]
    return lines[-1][:200] if child.returncode else ""


def measure(case: str, peer: str, python: str, source: Path) -> Run:
    """One conversion in a folder of its own, which is removed."""
    with tempfile.TemporaryDirectory(dir=MODELS) as folder:
        scratch, used = Path(folder), _Used()
        (scratch / "tmp").mkdir()
        (scratch / "made").mkdir()
        began, failed = time.monotonic(), ""
        for command in PEERS[peer](Order(source, scratch / "made", python)):
            failed = failed or _run(command, scratch, used)
        seconds = time.monotonic() - began
        result = size_mb(scratch / "made" / "result")
    figures = (seconds, used.cpu_s, used.rss_mb, used.disk_mb, result)
    seconds, cpu_s, rss_mb, disk_mb, result_mb = (round(each, 1) for each in figures)
    return Run(case, peer, seconds, cpu_s, rss_mb, disk_mb, result_mb, failed)


def table(runs: Sequence[Run]) -> list[str]:
    """A line for each run."""
    lines = [f"{'model':14} {'peer':18} {'s':>7} {'cpu s':>7} {'RSS MB':>8} {'disk MB':>8} {'result MB':>9}"]
    for run in runs:
        figures = f"{run.seconds:7.1f} {run.cpu_s:7.1f} {run.rss_mb:8.0f} {run.disk_mb:8.0f} {run.result_mb:9.0f}"
        lines.append(f"{run.case:14} {run.peer:18} {figures} {run.failed}".rstrip())
    return lines


def main(cases: Sequence[str], wishes: Wishes, output: Path | None) -> None:
    """Run the cases, see ``report``."""
    try:
        report(output, lambda _: _runs(cases or tuple(CASES), wishes), table)
    finally:
        for left in MODELS.glob("tmp*"):
            shutil.rmtree(left, ignore_errors=True)


def _runs(cases: Sequence[str], wishes: Wishes) -> Iterator[Run]:
    for case in cases:
        source = shapes.write(case, MODELS / case)
        for _ in range(wishes.repeat):
            for peer, python in interpreters(wishes.peers).items():
                yield measure(case, peer, python, source)
