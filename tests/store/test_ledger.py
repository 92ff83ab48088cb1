"""A journal of finished tensors says what it was told, and forgets what it cannot be sure of."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastslm.store.ledger import Finished, Ledger

SUBJECT = {"commit": "abc", "precision": "int4"}
FIRST = Finished(("a", "b"), ((0, 64), (128, 8)), 17)
SECOND = Finished(("c",), (), 23, proven=False, source="ff", values="AAAA")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal of two lines."""
    ledger = Ledger(tmp_path / "ledger", SUBJECT)
    ledger.note(FIRST)
    ledger.note(SECOND)
    return tmp_path / "ledger"


def found(path: Path) -> tuple[Finished | None, Finished | None]:
    ledger = Ledger(path, SUBJECT)
    return ledger.find(FIRST.key), ledger.find(SECOND.key)


def test_another_process_finds_what_was_noted(path: Path) -> None:
    """But trusts nothing that it has not looked at."""
    assert found(path) == (FIRST, SECOND)
    assert not Ledger(path, SUBJECT).trusted


def test_a_tensor_may_be_a_matrix_and_a_vector(path: Path) -> None:
    """They are noted apart."""
    ledger = Ledger(path, SUBJECT)
    ledger.note(Finished(("a",), (), 1, values="BBBB"))
    assert found(path)[0] == FIRST


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_torn_line_is_no_line(path: Path, cut: int) -> None:
    """And does not spoil those that are written after it."""
    path.write_bytes(path.read_bytes()[:-cut])
    assert found(path) == (FIRST, None)
    Ledger(path, SUBJECT).note(SECOND)
    assert found(path) == (FIRST, SECOND)


@pytest.mark.parametrize("text", [b"", b"\0" * 50, b"[]\n", b"{}\n", b"\xff\n", b"[" * 100_000])
def test_what_is_no_journal_begins_one(path: Path, text: bytes) -> None:
    """Whatever it is."""
    path.write_bytes(text)
    assert found(path) == (None, None)


def test_a_hostile_line_ends_the_reading(path: Path) -> None:
    """Places are whole numbers from 0."""
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[0] + lines[1].replace("[0, 64]", "[-1, 64]") + lines[2])
    assert found(path) == (None, None)


def test_a_journal_of_something_else_is_not_believed(path: Path) -> None:
    """Another commit, precision or release has other bytes."""
    assert Ledger(path, {**SUBJECT, "commit": "abd"}).find(FIRST.key) is None


def test_what_is_not_proven_can_be_proven_or_forgotten(path: Path) -> None:
    """When the hash of its file is known."""
    ledger = Ledger(path, SUBJECT)
    ledger.distrust()
    assert found(path) == (FIRST, None)
    ledger.note(SECOND)
    ledger.prove([SECOND.key, "unknown"])
    ledger.distrust()
    assert found(path)[1] is not None
