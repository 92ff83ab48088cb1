"""``fastslm mirror`` as a person starts it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from cli.conftest import Run
from fastslm.cli.mirror import remarks
from fastslm.mirror.serve import Opening


def test_it_says_where_it_is_and_ends_with_ctrl_c() -> None:
    """The address is on stdout, so that a script can use it; stopping is no error."""
    command = [sys.executable, "-m", "fastslm", "mirror", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as mirror:
        assert mirror.stdout is not None
        address = mirror.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:")
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(f"{address}/api/models", timeout=10) as it:
            assert json.load(it) == []
        os.kill(mirror.pid, signal.SIGINT)
        _, err = mirror.communicate(timeout=20)
    assert mirror.returncode == 0
    assert "Only this machine can reach it" in err


def test_off_loopback_everything_shared_is_named() -> None:
    """Nobody opens a private cache to the network without having been told."""
    opening = Opening("http://0.0.0.0:8090", False, (("org/tiny", 98_000_000),), "")
    text = "\n".join(remarks(opening))
    assert "Whoever reaches this address" in text
    assert "org/tiny (98.0 MB)" in text
    upstream = Opening("http://127.0.0.1:8090", True, (), "https://hub.example")
    assert "https://hub.example" in "\n".join(remarks(upstream))


def test_a_port_that_is_taken(fastslm: Run) -> None:
    """The message names it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        shown = fastslm("mirror", "--port", str(port))
    assert shown.code == 1
    assert f"cannot listen on `127.0.0.1:{port}`: another program listens there" in shown.err


@pytest.mark.parametrize(
    ("words", "said"),
    [(["--host", "no.such.host.invalid"], "`--host` is"), (["--upstream", "ftp://x"], "`--upstream` is `ftp://x`")],
)
def test_arguments_that_cannot_be_meant(fastslm: Run, words: list[str], said: str) -> None:
    """They are wrong usage."""
    shown = fastslm("mirror", *words)
    assert shown.code == 2
    assert said in shown.err


def test_a_missing_extra_is_named(fastslm: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hint says what to install."""
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    shown = fastslm("mirror", "--port", "0")
    assert shown.code == 1
    assert "fastslm[server]" in shown.err
