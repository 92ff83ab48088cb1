"""A download that did not end: it is listed with its progress, taken up again, or given up."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cli.conftest import Run
from fastslm.config import Settings
from support.hub_server import FakeHub, Fault


@pytest.fixture
def data() -> bytes:
    """A weight file that takes a while."""
    return os.urandom(3 << 20)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine gives up soon."""
    from fastslm import _native
    from fastslm.hub import transfer

    def options(settings: Settings, url: str) -> _native.DownloadOptions:
        return _native.DownloadOptions(connections=1, max_attempts=2, backoff_s=0.01, journal_interval_s=0.01)

    monkeypatch.setattr(transfer, "_options", options)


def half(fastslm: Run, hub: FakeHub, name: str, data: bytes) -> Fault:
    """A pull that fails in the middle of its weight file; the fault is switched off afterwards."""
    hub.add_repo(name, {"model.safetensors": data, "config.json": b"{}"})
    fault = hub.add_fault(Fault("drop", path="safetensors", offset=len(data) // 2))
    assert fastslm("pull", name, "--no-convert").code == 5
    fault.times = 0
    return fault


def start_pull(name: str) -> subprocess.Popen[bytes]:
    """The same in a process of its own."""
    words = [sys.executable, "-m", "fastslm", "pull", name, "--no-convert", "--limit-rate", "300K"]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def wait_for(*patterns: tuple[Path, str]) -> None:
    """Until each folder has a file of the pattern."""
    for _ in range(400):
        if all(any(folder.glob(pattern)) for folder, pattern in patterns):
            return
        time.sleep(0.05)
    raise AssertionError(f"nothing like {patterns} after 20 seconds")


@pytest.mark.usefixtures("impatient")
def test_the_list_tells_how_far_a_download_is(fastslm: Run, hub: FakeHub, data: bytes) -> None:
    """In percent for people, in bytes for programs."""
    half(fastslm, hub, "tiny/half", data)
    row = fastslm("list", "--json").data[0]
    assert row["partial_total_bytes"] == len(data)
    assert 0.3 < row["partial_bytes"] / len(data) <= 0.5
    shown = fastslm("list").out
    assert f"{100 * row['partial_bytes'] // len(data)} % of" in shown


@pytest.mark.usefixtures("impatient")
def test_one_command_goes_on_with_all_of_them(fastslm: Run, hub: FakeHub, data: bytes) -> None:
    """Each is completed from where it was; one that fails again does not stop the others, but is told."""
    half(fastslm, hub, "tiny/one", data)
    half(fastslm, hub, "tiny/two", data[::-1])
    hub.clear()
    del hub.repos["tiny/one"]
    shown = fastslm("pull", "--resume-all", "--no-convert", "--json")
    assert shown.code == 3
    assert "tiny/one" in shown.err
    assert [row["name"] for row in shown.data] == ["tiny/two"]
    assert shown.data[0]["resumed_bytes"] > 0.3 * len(data)
    assert shown.data[0]["wire_bytes"] < 0.7 * len(data)


def test_without_anything_to_go_on_with(fastslm: Run, hub: FakeHub) -> None:
    """That is no error; a model beside the option is."""
    shown = fastslm("pull", "--resume-all")
    assert (shown.code, shown.out) == (0, "")
    assert "nothing to go on with" in shown.err
    assert fastslm("pull", "tiny/llama", "--resume-all").code == 2
    assert fastslm("pull").code == 2


@pytest.mark.usefixtures("impatient")
def test_a_failed_download_is_given_up(fastslm: Run, hub: FakeHub, data: bytes, settings: Settings) -> None:
    """Its files go, and its line; --keep leaves the files for later."""
    half(fastslm, hub, "tiny/half", data)
    kept = fastslm("cancel", "tiny/half", "--keep", "--json").data
    assert (kept["stopped"], kept["freed_bytes"], kept["kept_bytes"] > 0) == (0, 0, True)
    assert fastslm("list", "--json").data != []
    freed = fastslm("cancel", "tiny/half", "--json").data["freed_bytes"]
    assert freed == kept["kept_bytes"]
    assert fastslm("list", "--json").data == []
    assert not list(settings.hub_cache.rglob("*.partial"))
    assert fastslm("cancel", "tiny/half").code == 3


@pytest.mark.usefixtures("impatient")
def test_a_usable_model_stays_usable(fastslm: Run, hub: FakeHub, tiny_gguf: bytes, data: bytes) -> None:
    """Only the newer download is given up."""
    assert fastslm("pull", "tiny/llama").code == 0
    hub.repos["tiny/llama"].commit({"README.md": b"# new\n", "tiny.Q8_0.gguf": tiny_gguf[:-1] + data})
    fault = hub.add_fault(Fault("drop", path=".gguf", offset=len(data) // 2))
    assert fastslm("pull", "tiny/llama").code == 5
    fault.times = 0
    assert fastslm("cancel", "tiny/llama").code == 0
    row = fastslm("list", "--json").data[0]
    assert (row["state"], row["usable"], row["partial_total_bytes"]) == ("ready", True, 0)


def test_a_pull_in_another_process_is_stopped(fastslm: Run, hub: FakeHub, data: bytes, settings: Settings) -> None:
    """Within a moment, by its own doing: it ends as after Ctrl-C, and nothing of it is left."""
    hub.add_repo("tiny/slow", {"model.safetensors": data, "config.json": b"{}"})
    with start_pull("tiny/slow") as child:
        try:
            wait_for((settings.hub_cache, "models--tiny--slow/.fastslm/*.journal"))
            assert fastslm("cancel", "tiny/slow", "--json").data["stopped"] == 1
            _, told = child.communicate(timeout=20)
        finally:
            child.kill()
    assert child.returncode == 130
    assert b"cancelled by another process" in told
    assert not list(settings.hub_cache.rglob("*.partial"))
    assert fastslm("list", "--json").data == []
    assert not (settings.home / "cancel").exists()


def test_a_wish_that_nobody_withdrew_stops_no_later_pull(fastslm: Run, hub: FakeHub, settings: Settings) -> None:
    """As when `cancel` itself was killed."""
    from fastslm.store import cancel

    with cancel.asking("tiny/llama", settings):
        assert fastslm("pull", "tiny/llama", "--no-convert").code == 0
