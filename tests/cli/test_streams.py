"""Closed, full, broken and narrow standard streams: never a traceback, always the right exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FASTSLM = f"{sys.executable} -m fastslm"


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a shell line; ``fastslm`` in it is ours."""
    line = command.replace("fastslm", FASTSLM, 1)
    env = {**os.environ, **environment}
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60, env=env, check=False)


@pytest.mark.parametrize("words", ["", "--version", "list", "doctor --offline"])
def test_a_closed_stdout_is_survived(words: str) -> None:
    """Whoever closes it does not want to see anything."""
    shown = shell(f"fastslm {words} >&-")
    assert "Traceback" not in shown.stderr
    assert "unexpected" not in shown.stderr
    assert shown.returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_stdout_is_told_once() -> None:
    """One sentence, exit code 1, and no second complaint when the interpreter ends."""
    shown = shell("fastslm --help >/dev/full")
    assert shown.returncode == 1
    assert len(shown.stderr.splitlines()) == 2
    assert "No space left" in shown.stderr


def test_a_closed_stderr_keeps_the_exit_code() -> None:
    """A script that hides the sentence still sees what happened."""
    assert shell("fastslm show nope/nope 2>&-").returncode == 3


def test_a_closed_stdin_is_an_empty_prompt() -> None:
    """Nobody can type there."""
    shown = shell("fastslm run demo <&-")
    assert shown.returncode == 2
    assert "the prompt is empty" in shown.stderr


def test_a_reader_that_goes_away_is_no_error_of_ours() -> None:
    """`fastslm … | head -1` ends quietly."""
    shown = shell("fastslm --help | true")
    assert shown.stderr == ""


def test_a_narrow_encoding_shows_escapes() -> None:
    """An answer with an emoji on an ASCII terminal goes on to its end."""
    shown = shell("fastslm --help", PYTHONIOENCODING="ascii")
    assert shown.returncode == 0
    assert "Commands:" in shown.stdout


def test_ctrl_c_says_interrupted_and_gives_130() -> None:
    """In the middle of an evaluation; whatever version of the option parser is installed."""
    code = (
        "import signal, sys, time\n"
        "from fastslm import api\n"
        "from fastslm.cli import main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it\n"
        "def load(*a, **k): signal.raise_signal(signal.SIGINT); time.sleep(30)\n"
        "api.load = load\n"
        "sys.exit(main(['run', 'demo', 'hi', '--temperature', '0']))\n"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert shown.returncode == 130
    assert shown.stderr.strip() == "error: interrupted"
