"""The library of operators can be found, and says what it runs on."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastslm import _native, ops
from fastslm.errors import FileMissing, UsageError


def test_the_library_lies_beside_the_extension() -> None:
    """An installation is complete."""
    assert ops.library_path().parent == Path(_native.__file__).parent


def test_a_missing_library_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The engine can fall back to graphs of stock operators."""
    monkeypatch.setattr(_native, "__file__", str(tmp_path / "_native.so"))
    with pytest.raises(FileMissing, match="holds no library of operators"):
        ops.library_path()


def test_the_best_instruction_set_is_used_unless_another_is_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    """`portable` is always there; a name that is not there is refused."""
    names = ops.available_isas()
    assert names[-1] == "portable"
    monkeypatch.delenv("FASTSLM_ISA", raising=False)
    assert ops.active_isa() == names[0]
    monkeypatch.setenv("FASTSLM_ISA", "portable")
    assert ops.active_isa() == "portable"
    monkeypatch.setenv("FASTSLM_ISA", "mmx")
    with pytest.raises(UsageError, match=r"FASTSLM_ISA is `mmx`, expected one that this processor has: .*portable"):
        ops.active_isa()
