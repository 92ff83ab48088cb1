"""The registry: legal states, nothing lost between processes, nothing lost to damage."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st

from fastslm.errors import StoreError
from fastslm.store import registry as registry_module
from fastslm.store.entry import NEXT_STATES, STATES, Entry
from fastslm.store.registry import Registry

SPAWN = multiprocessing.get_context("spawn")
DEAD_PID = 2**22 + 1
"""Above the largest process number of Linux."""


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "home" / "registry.json")


def ready(registry: Registry, name: str = "org/m", precision: str = "auto", folder: str = "/models/a") -> Entry:
    entry = registry.advance(registry.begin(name, precision), "downloaded", commit="c0ffee", snapshot=Path("/cache/s"))
    entry = registry.advance(entry, "converting")
    return registry.advance(entry, "ready", folder=folder, size_bytes=7, resolved_precision="int4")


def test_a_model_goes_its_way_from_download_to_ready(registry):
    entry = registry.begin("org/m", "auto", revision="main")
    assert (entry.state, entry.usable, entry.interrupted, entry.pid) == ("downloading", False, False, os.getpid())
    entry = registry.advance(entry, "downloaded", commit="c0ffee", snapshot=Path("/cache/s"), size_bytes=3)
    entry = registry.advance(entry, "converting")
    entry = registry.advance(entry, "ready", folder="/models/a", size_bytes=7, resolved_precision="int4")
    assert registry.get("org/m") == entry == registry.find("org/m")
    assert registry.list() == (entry,)
    assert (entry.revision, entry.commit, entry.snapshot, entry.folder) == ("main", "c0ffee", "/cache/s", "/models/a")
    assert entry.created <= entry.updated
    assert entry.created.endswith("Z")


def test_nothing_is_there_before_the_first_pull(registry):
    assert registry.list() == ()
    assert registry.get("org/m") is None
    assert registry.find("org/m") is None
    assert registry.remove("org/m") is None
    assert registry.notices == ()


@pytest.mark.parametrize("before", STATES)
@pytest.mark.parametrize("after", STATES)
def test_only_the_next_state_may_follow(registry, before, after):
    entry = dataclasses.replace(registry.begin("org/m"), state=before)
    if after in NEXT_STATES[before]:
        assert registry.advance(entry, after).state == after
    else:
        with pytest.raises(StoreError, match=f"cannot go from `{before}` to `{after}`"):
            registry.advance(entry, after)


def test_an_unknown_fact_or_one_of_a_wrong_type_is_refused_and_harms_nothing(registry):
    """One bad value in the file would hide every model."""
    entry = registry.begin("org/m")
    with pytest.raises(StoreError, match="with colour"):
        registry.advance(entry, "downloaded", colour="red")
    with pytest.raises(StoreError, match="`size_bytes` is '7'"):
        registry.advance(entry, "downloaded", size_bytes="7")
    with pytest.raises(StoreError, match="cannot be recorded"):
        registry.begin("", "auto")
    assert registry.list() == (entry,)


def test_a_failure_has_stage_cause_and_time(registry):
    entry = registry.fail(registry.begin("org/m"), stage="download", cause="connection lost")
    assert (entry.state, entry.stage, entry.cause, entry.usable) == ("failed", "download", "connection lost", False)
    assert entry.failed_at == pytest.approx(entry.updated) or entry.failed_at <= entry.updated
    again = registry.begin("org/m")
    assert (again.state, again.cause, again.failed_at, again.created) == ("downloading", "", "", entry.created)


def test_a_failed_renewal_leaves_the_old_model_ready(registry):
    """`pull` of a model that works, on a train: the model must still run afterwards."""
    good = ready(registry)
    entry = registry.begin("org/m")
    assert registry.find("org/m") == entry
    assert (entry.state, entry.folder, entry.usable) == ("downloading", good.folder, True)
    entry = registry.fail(entry, stage="download", cause="no network")
    assert (entry.state, entry.folder, entry.cause) == ("ready", good.folder, "no network")


def test_a_slower_process_does_not_take_away_what_a_faster_one_finished(registry):
    slow = registry.begin("org/m")
    good = ready(registry)
    assert registry.fail(slow, stage="download", cause="reset").folder == good.folder
    slow = registry.advance(slow, "downloaded", commit="beef")
    assert registry.find("org/m").folder == good.folder
    assert slow.commit == "beef"


def test_the_newest_usable_entry_of_any_precision_is_found(registry):
    ready(registry, precision="int8", folder="/models/8")
    ready(registry, precision="int4", folder="/models/4")
    ready(registry, name="org/other", precision="fp32", folder="/models/o")
    registry.begin("org/m", "fp32")
    assert registry.find("org/m").precision == "int4"
    registry.begin("org/m", "int4")
    assert registry.find("org/m").precision == "int8", "a ready one goes before one that is being renewed"
    assert [entry.key for entry in registry.list()] == ["org/m#fp32", "org/m#int4", "org/m#int8", "org/other#fp32"]
    assert registry.remove("org/m", "int8").folder == "/models/8"
    assert registry.get("org/m", "int8") is None


def test_work_of_a_dead_process_is_seen_as_interrupted(registry):
    entry = registry.begin("org/m")
    dead = {state: dataclasses.replace(entry, state=state, pid=DEAD_PID).interrupted for state in STATES}
    assert dead == {"downloading": True, "downloaded": False, "converting": True, "ready": False, "failed": False}
    assert not entry.interrupted


DAMAGE = {
    "not json": b"{",
    "empty": b"",
    "not utf-8": b'{"version": 1, "models": {"\xff": 1}}',
    "a list": b"[]",
    "another version": b'{"version": 2, "models": {}}',
    "no models": b'{"version": 1}',
    "models is a list": b'{"version": 1, "models": []}',
    "an entry is a number": b'{"version": 1, "models": {"a#auto": 1}}',
    "a field of a wrong type": b'{"version": 1, "models": {"a#auto": {"name": "a", "precision": "auto", "state": 1}}}',
    "an unknown state": b'{"version": 1, "models": {"a#auto": {"name": "a", "precision": "auto", "state": "lost"}}}',
    "a field is missing": b'{"version": 1, "models": {"a#auto": {"name": "a", "state": "ready"}}}',
    "another key": b'{"version": 1, "models": {"b#auto": {"name": "a", "precision": "auto", "state": "ready"}}}',
    "nested": b"[" * 100_000,
}


@pytest.mark.parametrize("case", DAMAGE)
@pytest.mark.parametrize("action", ["list", "begin"])
def test_a_damaged_file_is_set_aside_and_said_so(tmp_path, case, action):
    """The user loses no byte, and goes on working."""
    path = tmp_path / "registry.json"
    path.write_bytes(DAMAGE[case])
    registry = Registry(path)
    if action == "begin":
        assert registry.begin("org/m") == Registry(path).get("org/m")
    else:
        assert registry.list() == ()
    kept = [other for other in tmp_path.iterdir() if other.name.startswith("registry.json.damaged-")]
    assert [other.read_bytes() for other in kept] == [DAMAGE[case]]
    assert len(registry.notices) == 1
    assert kept[0].name in registry.notices[0]


def test_a_file_that_may_not_be_read_is_an_error_not_damage(tmp_path):
    path = tmp_path / "registry.json"
    path.mkdir()
    with pytest.raises(StoreError, match="cannot be read"):
        Registry(path).list()


def test_a_home_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "home").write_text("a file")
    with pytest.raises(StoreError, match="cannot be locked"):
        Registry(tmp_path / "home" / "registry.json").begin("org/m")


def test_a_crash_while_writing_leaves_the_old_file(registry, monkeypatch):
    entry = registry.begin("org/m")

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(registry_module.atomic.os, "fsync", refuse)
    with pytest.raises(StoreError, match="cannot be written: No space left"):
        registry.begin("org/other")
    monkeypatch.undo()
    assert registry.list() == (entry,)
    assert sorted(p.name for p in registry.path.parent.iterdir() if "tmp" in p.name) == []


def test_a_lock_held_too_long_is_an_error_and_reading_needs_none(registry):
    entry = registry.begin("org/m")
    impatient = Registry(registry.path, lock_timeout_s=0.05)
    with FileLock(registry.path.with_name("registry.json.lock")):
        assert impatient.list() == (entry,)
        with pytest.raises(StoreError, match=r"locked by another process for 0\.05 seconds"):
            impatient.begin("org/other")


def hammer(path: str, worker: int, count: int) -> None:
    """What one of several processes does to the same registry."""
    registry = Registry(Path(path), lock_timeout_s=60)
    for i in range(count):
        entry = registry.begin(f"org/m{worker}-{i}")
        registry.advance(entry, "downloaded", commit=str(worker))
        if i % 3 == 0:
            registry.remove(f"org/m{worker}-{i}")


def test_processes_at_the_same_time_lose_nothing(registry):
    workers = [SPAWN.Process(target=hammer, args=(str(registry.path), worker, 12)) for worker in range(3)]
    for process in workers:
        process.start()
    while any(process.is_alive() for process in workers):
        registry.list()  # every look in between sees a whole file
        time.sleep(0.002)
    for process in workers:
        process.join(60)
        assert process.exitcode == 0
    expected = {f"org/m{worker}-{i}": str(worker) for worker in range(3) for i in range(12) if i % 3}
    assert {entry.name: entry.commit for entry in registry.list()} == expected
    assert registry.notices == ()


def test_threads_of_one_process_lose_nothing(registry):
    threads = [threading.Thread(target=registry.begin, args=(f"org/m{i}",)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(registry.list()) == 8


def work_forever(path: str) -> None:
    registry = Registry(Path(path))
    while True:
        registry.begin("org/busy")


def test_a_killed_process_leaves_a_whole_file_and_no_lock(registry):
    """kill -9 in the middle of changes; the next command works at once."""
    process = SPAWN.Process(target=work_forever, args=(str(registry.path),))
    process.start()
    deadline = time.monotonic() + 60
    while registry.get("org/busy") is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join(30)
    left = registry.get("org/busy")
    assert left is not None
    assert left.interrupted
    registry.begin("org/next")
    assert [entry.name for entry in registry.list()] == ["org/busy", "org/next"]
    assert registry.notices == ()


@given(
    st.builds(
        Entry,
        name=st.text(min_size=1),
        precision=st.text(min_size=1),
        state=st.sampled_from(STATES),
        cause=st.text(),
        size_bytes=st.integers(0, 1 << 60),
    )
)
def test_every_entry_survives_the_way_through_json(entry):
    assert Entry.from_json(json.loads(json.dumps(entry.to_json()))) == entry
