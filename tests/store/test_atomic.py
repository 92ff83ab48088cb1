"""Files change as a whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from fastslm.store import atomic


def test_a_text_is_replaced_and_nothing_is_left_beside_it(tmp_path):
    path = tmp_path / "a.json"
    atomic.write_text(path, "old")
    atomic.write_text(path, "nëw")
    assert path.read_text(encoding="utf-8") == "nëw"
    assert [other.name for other in tmp_path.iterdir()] == ["a.json"]


def test_a_write_that_fails_keeps_the_old_text(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    atomic.write_text(path, "old")

    def refuse(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", refuse)
    with pytest.raises(OSError, match="No space left"):
        atomic.write_text(path, "new")
    assert path.read_text() == "old"
    assert [other.name for other in tmp_path.iterdir()] == ["a.json"]


def test_every_file_and_folder_is_synced_before_a_tree_is_published(tmp_path, monkeypatch):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_text("x")
    synced = set()
    monkeypatch.setattr(atomic.os, "fsync", lambda handle: synced.add(os.fstat(handle).st_ino))
    atomic.sync_tree(tmp_path)
    everything = {tmp_path, *tmp_path.rglob("*")}
    assert synced == {path.stat().st_ino for path in everything}


def test_living_and_dead_processes_are_told_apart():
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait(30)
    assert atomic.process_is_alive(os.getpid())
    assert not atomic.process_is_alive(ended.pid)
    for impossible in (0, -1, 2**40):
        assert not atomic.process_is_alive(impossible)


def test_a_process_of_another_user_is_alive(monkeypatch):
    def refuse(*_: int) -> None:
        raise PermissionError

    monkeypatch.setattr(atomic.os, "kill", refuse)
    assert atomic.process_is_alive(1)
