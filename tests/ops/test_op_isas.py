"""Every instruction set that runs here passes the tests of the operators."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastslm import ops

OPERATORS = sorted(str(path) for path in Path(__file__).parent.glob("test_op_*.py") if path.name != Path(__file__).name)


@pytest.mark.skipif("FASTSLM_ISA" in os.environ, reason="this is the run for one instruction set")
@pytest.mark.parametrize("isa", ops.available_isas()[1:])
def test_the_same_tests_pass_with(isa: str) -> None:
    """The best set is tested in this process; each process has one set."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:xdist", "-p", "no:cacheprovider", "-o", "addopts=",
               *OPERATORS]  # fmt: skip
    root = Path(__file__).parent.parent.parent
    environment = os.environ | {"FASTSLM_ISA": isa}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
