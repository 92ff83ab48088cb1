"""Measurements survive, and whatever else is in their file does no harm."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fastslm.errors import StoreError
from fastslm.store import machine_file
from fastslm.store.machine_file import MOST_RUNS, MachineFile, Run
from fastslm.store.manifest import ModelKind

RUN = Run(ModelKind("llama", "int4", "native"), 1000, 2, 10, 0.05)


def test_what_is_noted_is_read_again(tmp_path: Path) -> None:
    """By another process too; kinds of models are kept apart."""
    path = tmp_path / "home" / "machine.json"
    MachineFile(path).note_bandwidth(2, 2e10)
    MachineFile(path).note_run(RUN)
    for change in ({"precision": "int8"}, {"target": "portable"}):
        MachineFile(path).note_run(replace(RUN, kind=replace(RUN.kind, **change)))
    found = MachineFile(path)
    assert found.bandwidth(2) == 2e10
    assert found.bandwidth(1) is None
    assert found.runs(RUN.kind) == (RUN,)


def test_the_newest_runs_are_kept(tmp_path: Path) -> None:
    """The file does not grow for ever."""
    file = MachineFile(tmp_path / "machine.json")
    for number in range(MOST_RUNS + 3):
        file.note_run(replace(RUN, kv_bytes=number))
    assert [run.kv_bytes for run in file.runs(RUN.kind)] == list(range(3, MOST_RUNS + 3))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"version": 2}', '{"version": 1, "machine": "another", "bandwidth": {"2": 1e10}}']
)
def test_a_file_that_is_not_ours_is_begun_again(tmp_path: Path, text: str) -> None:
    """Damaged, of another version, or carried here from another machine: nothing was measured."""
    path = tmp_path / "machine.json"
    path.write_text(text)
    assert MachineFile(path).bandwidth(2) is None
    MachineFile(path).note_bandwidth(2, 3e10)
    assert MachineFile(path).bandwidth(2) == 3e10


def test_values_that_cannot_be_are_passed_over(tmp_path: Path) -> None:
    """A time of zero would make an infinite speed."""
    path = tmp_path / "machine.json"
    file = MachineFile(path)
    file.note_run(RUN)
    path.write_text(path.read_text().replace("0.05", "0"))
    assert file.runs(RUN.kind) == ()
    path.write_text(path.read_text().replace('"token_s"', '"other"'))
    assert file.runs(RUN.kind) == ()
    file.note_bandwidth(1, -5)
    assert file.bandwidth(1) is None


def test_a_home_that_cannot_be_made_is_an_error_of_ours(tmp_path: Path) -> None:
    """The path is named."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"machine\.json"):
        MachineFile(tmp_path / "file" / "machine.json").note_run(RUN)


def test_another_machine_with_the_same_home_measures_for_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A home on a shared disk."""
    MachineFile(tmp_path / "machine.json").note_bandwidth(2, 2e10)
    monkeypatch.setattr(machine_file, "signature", lambda: "another")
    assert MachineFile(tmp_path / "machine.json").bandwidth(2) is None
