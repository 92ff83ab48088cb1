"""What is complete in the cache is found without asking anybody; what is not is not shown as if it were."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from fastslm.errors import DiskFull, FileSystemError
from fastslm.hub.layout import RepoLayout, file_errors, find_snapshot
from fastslm.hub.select import Wishes

COMMIT = "c" * 40


def snapshot(layout: RepoLayout, files: dict[str, bytes]) -> None:
    """A snapshot as an older client leaves it: no listing."""
    for path, data in files.items():
        layout.pointer(COMMIT, path).parent.mkdir(parents=True, exist_ok=True)
        layout.pointer(COMMIT, path).write_bytes(data)
    layout.ref("").parent.mkdir(parents=True, exist_ok=True)
    layout.ref("").write_text(COMMIT)


def test_a_snapshot_of_an_older_client_is_used(tmp_path: Path) -> None:
    """Without a listing the files themselves tell."""
    layout = RepoLayout(tmp_path, "org/name")
    snapshot(layout, {"config.json": b"{}", "model.safetensors": b"w", "x.bin": b""})
    for revision in ("", "main", COMMIT):
        found = find_snapshot(layout, revision, Wishes())
        assert found is not None
        assert found.paths == ("config.json", "model.safetensors")
    assert find_snapshot(layout, "other", Wishes()) is None
    assert find_snapshot(layout, "", Wishes(file="absent.gguf")) is None


def test_a_snapshot_without_weights_is_not_complete(tmp_path: Path) -> None:
    """Somebody looked at the configuration only."""
    layout = RepoLayout(tmp_path, "org/name")
    snapshot(layout, {"config.json": b"{}"})
    assert find_snapshot(layout, "", Wishes()) is None


def test_a_missing_shard_is_noticed(tmp_path: Path) -> None:
    """The index knows how many shards there are."""
    layout = RepoLayout(tmp_path, "org/name")
    shards = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    index = json.dumps({"weight_map": {"a": shards[0], "b": shards[1]}}).encode()
    snapshot(layout, {"config.json": b"{}", "model.safetensors.index.json": index, shards[0]: b"w"})
    assert find_snapshot(layout, "", Wishes()) is None
    snapshot(layout, {shards[1]: b"w"})
    assert find_snapshot(layout, "", Wishes()) is not None
    snapshot(layout, {"model.safetensors.index.json": b"[]"})
    assert find_snapshot(layout, "", Wishes()) is None


def test_a_listing_tells_sizes(tmp_path: Path) -> None:
    """A file of the wrong length is not there, nor is a dangling link."""
    layout = RepoLayout(tmp_path, "org/name")
    snapshot(layout, {"config.json": b"{}", "model.safetensors": b"w"})
    sizes = {"config.json": 2, "model.safetensors": 1}
    for wrong in (0, 1):
        files = {p: {"size": n + wrong, "blob_id": "0" * 40} for p, n in sizes.items()}
        layout.tree(COMMIT).parent.mkdir(exist_ok=True)
        layout.tree(COMMIT).write_text(json.dumps({"format_version": 1, "files": files}))
        assert (find_snapshot(layout, "", Wishes()) is None) == bool(wrong)
    layout.tree(COMMIT).unlink()
    layout.pointer(COMMIT, "model.safetensors").unlink()
    layout.pointer(COMMIT, "model.safetensors").symlink_to("../../blobs/gone")
    assert find_snapshot(layout, "", Wishes()) is None


def test_errors_of_the_operating_system_name_the_path() -> None:
    """A full disk is a class of its own, everything else says what could not be done with which file."""
    with pytest.raises(DiskFull, match="cannot write `/x`: No space left"), file_errors("write", Path("/x")):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(FileSystemError) as caught, file_errors("write", Path("/x")):
        raise OSError(errno.EROFS, "Read-only file system", "/y")
    assert (caught.value.path, caught.value.errno) == ("/y", errno.EROFS)
