"""Model folders appear whole, are replaced whole, and leave nothing behind."""

from __future__ import annotations

import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.store.test_manifest import manifest

from fastslm.errors import ChecksumMismatch, FileMissing, FormatError, StoreError
from fastslm.store import models
from fastslm.store.manifest import MANIFEST_NAME

DEAD_PID = 2**22 + 1


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def build(target: Path, content: str = "graph") -> Path:
    with models.building(target) as folder:
        (folder / "model.onnx").write_text(content)
        manifest(hashes={"model.onnx": hashlib.sha256(content.encode()).hexdigest()}).write(folder)
    return target


def test_names_become_the_folders_of_the_design(tmp_path):
    path = models.folder_path(tmp_path, "HuggingFaceTB/SmolLM2-135M", "0123456789abcdef", "int4")
    assert path == tmp_path / "HuggingFaceTB--SmolLM2-135M" / "0123456789ab-int4"
    assert models.folder_path(tmp_path, "gpt2", "c0ffee", "fp32") == tmp_path / "gpt2" / "c0ffee-fp32"


@given(name=st.text(), commit=st.text(), precision=st.sampled_from(["int4", "../x", ""]))
def test_no_name_leaves_the_folder_of_models(name, commit, precision):
    """Names come from command lines, addresses and paths."""
    root = Path("/models")
    path = models.folder_path(root, name, commit, precision)
    assert path.parent.parent == root
    for part in (path.parent.name, path.name):
        assert part == Path(part).name
        assert not part.startswith(".")
        assert len(part.encode()) < 255
        assert "\0" not in part


def test_names_that_are_not_plain_stay_apart(tmp_path):
    asked = [
        "/home/a/model",
        "/home/b/model",
        "org/m@main",
        "org/m@dev",
        "../m",
        "..",
        "https://x.org/m.gguf",
        "m" * 300,
    ]
    assert len({models.folder_path(tmp_path, name, "c", "int4") for name in asked}) == len(asked)


def test_a_folder_is_not_seen_before_it_is_whole(tmp_path):
    target = tmp_path / "m" / "c-int4"
    with models.building(target) as folder:
        (folder / "model.onnx").write_text("x")
        assert not target.exists()
    assert (target / "model.onnx").read_text() == "x"
    assert names(target.parent) == [target.name]


def test_a_failed_conversion_leaves_nothing_and_keeps_the_old_model(tmp_path):
    target = tmp_path / "m" / "c-int4"

    def fail() -> None:
        with models.building(target) as folder:
            (folder / "model.onnx").write_text("half")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert names(target.parent) == []
    build(target, "old")
    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert (target / "model.onnx").read_text() == "old"
    assert names(target.parent) == [target.name]


def test_a_second_conversion_replaces_the_first(tmp_path):
    target = build(tmp_path / "m" / "c-int4", "old")
    build(target, "new")
    assert (target / "model.onnx").read_text() == "new"
    assert names(target.parent) == [target.name]


def test_a_rename_that_fails_puts_the_old_folder_back(tmp_path, monkeypatch):
    target = build(tmp_path / "m" / "c-int4", "old")
    real = Path.rename

    def refuse(self: Path, other: Path) -> Path:
        if self.name.endswith(".tmp"):
            raise OSError(13, "Permission denied")
        return real(self, other)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(StoreError, match="cannot be put in place: Permission denied"):
        build(target, "new")
    assert (target / "model.onnx").read_text() == "old"
    assert names(target.parent) == [target.name]


def test_threads_that_build_the_same_model_do_not_collide(tmp_path):
    """Each has a scratch folder of its own, and the last one to finish is what is there; it is always whole."""
    target = tmp_path / "m" / "c-int4"
    at_once = threading.Barrier(4, timeout=10)

    def work(number: int) -> None:
        for _ in range(20):
            with models.building(target) as folder:
                (folder / "model.onnx").write_text(str(number))
                (folder / "second").write_text(str(number))
                at_once.wait()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert (target / "model.onnx").read_text() == (target / "second").read_text()
    assert names(target.parent) == [target.name]


def test_the_lock_of_a_place_lets_one_in_at_a_time(tmp_path):
    """The second is told that it waits, and goes on when the first has finished."""
    folder, waited, order = models.folder_path(tmp_path, "o/n", "c" * 12, "int4"), threading.Event(), []

    def second() -> None:
        with models.exclusive(folder, waited.set):
            order.append("second")

    with ThreadPoolExecutor(1) as pool:
        with models.exclusive(folder, lambda: None):
            later = pool.submit(second)
            assert waited.wait(10)
            order.append("first")
        later.result(10)
    assert order == ["first", "second"]
    assert models.remove_leftovers(tmp_path) == ()


def test_a_place_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "models").write_text("a file")
    with pytest.raises(StoreError, match="cannot be made"):
        build(tmp_path / "models" / "m" / "c-int4")


def test_leftovers_of_dead_processes_are_removed_and_of_living_ones_kept(tmp_path):
    target = build(tmp_path / "m" / "c-int4")
    dead = target.with_name(f".c-int8.{DEAD_PID}-0123abcd.tmp")
    alive = target.with_name(f".c-int8.{os.getpid()}-0123abcd.tmp")
    other = target.with_name(".someone-else")
    for folder in (dead, alive, other):
        folder.mkdir()
        (folder / "x").write_text("x")
    assert models.remove_leftovers(tmp_path) == (dead,)
    assert names(target.parent) == sorted([alive.name, other.name, target.name])
    assert models.remove_leftovers(tmp_path / "absent") == ()


def test_a_model_caught_between_two_renames_is_put_back(tmp_path):
    """The process died after it moved the old folder away and before the new one was in place."""
    target = build(tmp_path / "m" / "c-int4", "old")
    aside = target.with_name(f".{target.name}.{DEAD_PID}.old")
    target.rename(aside)
    models.remove_leftovers(tmp_path)
    assert (target / "model.onnx").read_text() == "old"
    build(target, "new").rename(aside)
    build(target, "newer")
    models.remove_leftovers(tmp_path)
    assert (target / "model.onnx").read_text() == "newer"
    assert names(target.parent) == [target.name]


def test_deleting_frees_what_the_folder_took(tmp_path):
    int4, int8 = build(tmp_path / "m" / "c-int4"), build(tmp_path / "m" / "c-int8")
    size = sum(path.stat().st_size for path in int4.iterdir())
    assert models.size_bytes(int4) == size
    assert models.delete(int4, tmp_path) == size
    assert names(int4.parent) == [int8.name]
    models.delete(int8, tmp_path)
    assert names(tmp_path) == []
    assert models.delete(int8, tmp_path) == 0


@pytest.mark.parametrize("path", ["m", ".", "../outside/x", "m/c/deeper"])
def test_nothing_but_a_model_folder_is_deleted(tmp_path, path):
    """A damaged registry must not be able to delete somebody's files."""
    home = tmp_path / "models"
    (home / "m" / "c" / "deeper").mkdir(parents=True)
    (tmp_path / "outside" / "x").mkdir(parents=True)
    with pytest.raises(StoreError, match="is not a model folder"):
        models.delete(home / path, home)
    assert (home / "m" / "c" / "deeper").exists()
    assert (tmp_path / "outside" / "x").exists()


def test_a_sound_folder_verifies(tmp_path):
    target = build(tmp_path / "m" / "c-int4")
    assert models.verify(target, full=False) == ()
    assert models.verify(target, full=True) == ()


def test_a_flipped_byte_is_found_by_the_full_check(tmp_path):
    target = build(tmp_path / "m" / "c-int4", "graph")
    (target / "model.onnx").write_text("grapH")
    assert models.verify(target, full=False) == ()
    (problem,) = models.verify(target, full=True)
    assert isinstance(problem, ChecksumMismatch)
    assert problem.found == hashlib.sha256(b"grapH").hexdigest()
    assert "model.onnx" in problem.message


@pytest.mark.parametrize("full", [False, True])
def test_a_vanished_or_emptied_file_is_found_by_both_checks(tmp_path, full):
    target = build(tmp_path / "m" / "c-int4")
    (target / "model.onnx").write_bytes(b"")
    assert len(models.verify(target, full=full)) == 1
    (target / "model.onnx").unlink()
    (problem,) = models.verify(target, full=full)
    assert isinstance(problem, FileMissing)


def test_a_folder_without_a_sound_manifest_cannot_be_verified(tmp_path):
    target = build(tmp_path / "m" / "c-int4")
    (target / MANIFEST_NAME).write_text("{}")
    with pytest.raises(FormatError):
        models.verify(target, full=False)
    (target / MANIFEST_NAME).unlink()
    with pytest.raises(FileMissing):
        models.verify(target, full=False)
