"""The memory that a plan tells of the demo model is what a real answer takes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastslm.config import Settings
from fastslm.hub import parse
from fastslm.plan.options import PlanOptions
from fastslm.plan.planner import plan
from fastslm.store.machine_file import MachineFile

pytestmark = [pytest.mark.demo, pytest.mark.xdist_group("demo")]

MEASURED = """
import re, sys
from fastslm.cli import main
code = main(sys.argv[1:])
status = open("/proc/self/status").read()
print(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1], file=sys.stderr)
sys.exit(code)
"""
"""A command, and then the most memory that this process ever had (of ``wait4`` the parent's would be part)."""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems count resident memory otherwise")
@pytest.mark.parametrize("positions", [100, 1000])
def test_the_peak_is_within_a_tenth(demo_ready: Settings, tmp_path: Path, positions: int) -> None:
    """Resident memory of a whole process that fills so many positions."""
    settings = Settings(home=tmp_path, hub_cache=demo_ready.hub_cache)
    MachineFile(settings.machine_file).note_bandwidth(1, 1e10)
    file = next(demo_ready.downloads_dir.rglob("*.gguf"))
    options = PlanOptions(precision="exact", context_length=positions)
    expected = plan(parse(str(file)), settings, options).choice.memory.peak_bytes
    words = ["run", "demo", " ".join(["a"] * (positions - 8)), "--raw", "-n", "8", "--temperature", "0"]
    environment = {**os.environ, "FASTSLM_HOME": str(demo_ready.home), "HF_HUB_CACHE": str(demo_ready.hub_cache)}
    done = subprocess.run([sys.executable, "-c", MEASURED, *words], env=environment, capture_output=True, timeout=100)
    assert done.returncode == 0, done.stderr
    peak = int(done.stderr.split()[-1]) * 1024
    assert expected == pytest.approx(peak, rel=0.10)
