"""The number of threads is measured once for each share of a machine, and never where there is nothing to choose."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastslm import _native
from fastslm.machine import Cores
from fastslm.store import threads
from fastslm.store.machine_file import MOST_SHARES, MachineFile
from fastslm.store.threads import usual_threads

HYBRID = Cores(logical=24, physical=16, fast=8, quota=None)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """What was measured; the rates say that eight threads read nearly all that memory gives."""
    calls: list[tuple[int, ...]] = []

    def read(size_bytes: int, choices: tuple[int, ...], seconds: float) -> list[float]:
        calls.append(choices)
        return [{8: 50e9, 16: 52e9, 24: 30e9}.get(count, 1e9 * count) for count in choices]

    monkeypatch.setattr(_native, "read_in_step", read)
    monkeypatch.setattr(threads, "is_busy", lambda: False)
    return calls


def test_the_least_number_that_is_about_as_fast_as_any_is_taken(
    tmp_path: Path, measured: list[tuple[int, ...]]
) -> None:
    """Once: the second time it is read from the file."""
    for _ in range(2):
        assert usual_threads(MachineFile(tmp_path / "machine.json"), HYBRID) == 8
    assert measured == [(8, 16, 24)]


def test_another_share_of_the_machine_is_measured_anew(tmp_path: Path, measured: list[tuple[int, ...]]) -> None:
    """A container with another quota, or a process bound to some of the processors."""
    file = MachineFile(tmp_path / "machine.json")
    assert usual_threads(file, HYBRID) == 8
    assert usual_threads(file, Cores(24, 16, 4, 6.5)) == 6
    assert usual_threads(file, Cores(6, 3, 3, None)) == 6
    assert usual_threads(file, HYBRID) == 8
    assert measured == [(8, 16, 24), (4, 6), (3, 6)]


def test_one_choice_needs_no_measurement_and_no_file(tmp_path: Path, measured: list[tuple[int, ...]]) -> None:
    """Most containers and small machines."""
    assert usual_threads(MachineFile(tmp_path / "machine.json"), Cores(2, 2, 2, None)) == 2
    assert not measured
    assert not list(tmp_path.iterdir())


def test_a_busy_machine_is_not_measured(
    tmp_path: Path, measured: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What other programs leave says nothing of the machine, and would be remembered."""
    monkeypatch.setattr(threads, "is_busy", lambda: True)
    assert usual_threads(MachineFile(tmp_path / "machine.json"), HYBRID) == 8
    assert not measured


def test_what_is_remembered_must_be_a_choice(tmp_path: Path, measured: list[tuple[int, ...]]) -> None:
    """A file that somebody edited, or that a release with other choices wrote."""
    for strange in (7, 1000, -1):
        file = MachineFile(tmp_path / "machine.json")
        file.note_threads(threads._share(HYBRID), strange)
        assert usual_threads(file, HYBRID) == 8


def test_where_nothing_can_be_measured_or_written_there_is_still_a_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No memory for the buffer, no more threads, or a home that is a file."""
    monkeypatch.setattr(threads, "is_busy", lambda: False)
    (tmp_path / "home").write_text("")
    assert usual_threads(MachineFile(tmp_path / "home" / "machine.json"), Cores(2, 1, 1, None)) in (1, 2)
    for error in (MemoryError(), RuntimeError("no thread")):

        def fail(*_: object, error: BaseException = error) -> list[float]:
            raise error

        monkeypatch.setattr(_native, "read_in_step", fail)
        assert usual_threads(MachineFile(tmp_path / "machine.json"), HYBRID) == 8


def test_the_file_does_not_grow_with_every_share(tmp_path: Path) -> None:
    """A cluster may start containers of many sizes from one home."""
    file = MachineFile(tmp_path / "machine.json")
    for number in range(MOST_SHARES + 3):
        file.note_threads(str(number), number)
    assert file.threads("2") is None
    assert file.threads("3") == 3
    assert file.threads(str(MOST_SHARES + 2)) == MOST_SHARES + 2
