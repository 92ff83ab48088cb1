"""A file at a second place, without a second copy where that can be had."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fastslm.errors import FileSystemError
from fastslm.store import placing
from fastslm.store.placing import place


def test_the_content_is_the_same_and_costs_nothing(tmp_path: Path) -> None:
    """By reflink or by a hard link, as the file system of the tests can."""
    source, target = tmp_path / "a", tmp_path / "b"
    source.write_bytes(os.urandom(100_000))
    way = place(source, target)
    assert target.read_bytes() == source.read_bytes()
    assert way in ("reflink", "hard link")
    assert (way == "hard link") == (target.stat().st_ino == source.stat().st_ino)


def test_a_link_is_followed(tmp_path: Path) -> None:
    """A snapshot of the hub cache is made of links; what is placed is the file."""
    (tmp_path / "blob").write_bytes(b"content")
    (tmp_path / "link").symlink_to("blob")
    place(tmp_path / "link", tmp_path / "target")
    assert not (tmp_path / "target").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"content"


def test_across_disks_it_is_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither way works, as between two file systems."""

    def refuse(source: Path, target: Path) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(placing, "_reflink", lambda source, target: False)
    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "a").write_bytes(b"content")
    place(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"content"
    assert (tmp_path / "b").stat().st_ino != (tmp_path / "a").stat().st_ino


def test_what_is_there_is_never_overwritten(tmp_path: Path) -> None:
    """And a source that is not there is an error that names it."""
    (tmp_path / "a").write_bytes(b"new")
    (tmp_path / "b").write_bytes(b"old")
    with pytest.raises(FileSystemError):
        place(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"old"
    with pytest.raises(FileSystemError, match="missing"):
        place(tmp_path / "missing", tmp_path / "c")
    assert not (tmp_path / "c").exists()
