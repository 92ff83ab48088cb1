"""What a mirror finds in a cache, and what it leaves alone."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from fastslm.config import Settings
from fastslm.errors import FileMissing, ModelNotFound, RevisionNotFound
from fastslm.hub import fetch_model, parse
from fastslm.hub.layout import RepoLayout
from fastslm.mirror.shelf import Shelf
from mirror.conftest import EVERYTHING
from support.hub_server import FakeHub


def _layout(shelf: Shelf) -> RepoLayout:
    return RepoLayout(shelf.root, "org/tiny")


def test_everything_that_was_fetched_is_there(shelf: Shelf, files: dict[str, bytes]) -> None:
    """Names, sizes and hashes are the hub's."""
    commit = shelf.commit_of("org/tiny", "")
    assert shelf.repos() == ("gpt2", "org/tiny")
    assert shelf.refs("org/tiny") == {"main": commit}
    found = {file.path: file for file in shelf.files("org/tiny", commit)}
    assert {path: file.size for path, file in found.items()} == {path: len(data) for path, data in files.items()}
    assert shelf.shared_bytes("org/tiny") == sum(map(len, files.values()))
    for path, data in files.items():
        stored = shelf.stored("org/tiny", commit, path)
        descriptor = stored.open()
        assert os.pread(descriptor, len(data) + 1, 0) == data
        os.close(descriptor)


def test_a_cache_without_listings_says_the_same(shelf: Shelf) -> None:
    """The older official client keeps none; the names of the blobs and the form of a pointer file are enough."""
    commit = shelf.commit_of("org/tiny", "main")
    listed = shelf.files("org/tiny", commit)
    _layout(shelf).tree(commit).unlink()
    walked = Shelf(shelf.root).files("org/tiny", commit)
    assert [(f.path, f.size, f.sha256) for f in walked] == [(f.path, f.size, f.sha256) for f in listed]
    assert [f.blob_id for f in walked if not f.sha256] == [f.blob_id for f in listed if not f.sha256]


def test_a_cache_without_links_says_the_same(hub: FakeHub, teacher: Settings) -> None:
    """Where a file system has no links the files are hashed."""
    from dataclasses import replace

    fetched = fetch_model(parse("org/tiny"), replace(teacher, use_symlinks=False), EVERYTHING)
    shelf = Shelf(teacher.hub_cache)
    listed = shelf.files("org/tiny", fetched.commit)
    _layout(shelf).tree(fetched.commit).unlink()
    regular = {file.path: file.blob_id for file in listed if not file.sha256}
    walked = {file.path: file.blob_id for file in shelf.files("org/tiny", fetched.commit)}
    assert {path: walked[path] for path in regular} == regular


def test_incomplete_files_are_not_there(shelf: Shelf, teacher: Settings) -> None:
    """A file that is too short, a link to nothing and a listed file that was never fetched are not offered."""
    commit = shelf.commit_of("org/tiny", "main")
    layout = _layout(shelf)
    blob = Path(os.path.realpath(layout.pointer(commit, "model.safetensors")))
    blob.chmod(0o600)
    with blob.open("r+b") as file:
        file.truncate(1000)
    Path(os.path.realpath(layout.pointer(commit, "tokenizer.json"))).unlink()
    layout.pointer(commit, "README.md").unlink()
    assert {f.path for f in shelf.files("org/tiny", commit)} == {"config.json", "empty.txt", "sub folder/\u00e4.json"}
    with pytest.raises(FileMissing):
        shelf.stored("org/tiny", commit, "model.safetensors")


@pytest.mark.parametrize("kind", ["file", "folder", "snapshot", "repository"])
def test_links_out_of_the_cache_lead_nowhere(shelf: Shelf, tmp_path: Path, kind: str) -> None:
    """Whoever can write to the cache cannot make the mirror give away other files."""
    commit = shelf.commit_of("org/tiny", "main")
    layout = _layout(shelf)
    layout.tree(commit).unlink()
    secret = tmp_path / "secret"
    (secret / "snapshots" / commit).mkdir(parents=True)
    for place in (secret, secret / "snapshots" / commit):
        (place / "key.txt").write_text("secret")
    if kind == "file":
        layout.pointer(commit, "key.txt").symlink_to(secret / "key.txt")
    elif kind == "folder":
        (layout.snapshot(commit) / "more").symlink_to(secret)
    elif kind == "snapshot":
        (layout.folder / "snapshots" / ("f" * 40)).symlink_to(secret)
    else:
        (shelf.root / "models--evil--repo").symlink_to(secret)
    for repo in shelf.repos():
        for each in (RepoLayout(shelf.root, repo).folder / "snapshots").iterdir():
            assert not [file.path for file in shelf.files(repo, each.name) if "key" in file.path]


def test_a_listing_that_lies_gives_nothing_away(shelf: Shelf, tmp_path: Path) -> None:
    """Paths that leave the snapshot are ignored, and a link must be to the blob that the listing names."""
    commit = shelf.commit_of("org/tiny", "main")
    layout = _layout(shelf)
    (shelf.root / "outside.txt").write_text("x")
    entry = {"size": 1, "blob_id": "0" * 40}
    files = {"../../../outside.txt": entry, "config.json": {"size": 23, "blob_id": "0" * 40}}
    layout.tree(commit).write_text(json.dumps({"format_version": 1, "files": files}))
    assert shelf.files("org/tiny", commit) == ()


@pytest.mark.parametrize("repo", ["..", "../org/tiny", "a/b/c", "org--tiny", "", ".", "org/..", "x" * 200, "a\0b"])
def test_names_that_are_no_names(shelf: Shelf, repo: str) -> None:
    """They are as unknown as a model that is not here."""
    with pytest.raises(ModelNotFound):
        shelf.commit_of(repo, "main")


@pytest.mark.parametrize("revision", ["nope", "../main", "../../../../etc/passwd", "f" * 40, "a\nb"])
def test_revisions_that_are_not_here(shelf: Shelf, revision: str) -> None:
    """A branch is only what the cache has a note of."""
    with pytest.raises(RevisionNotFound):
        shelf.commit_of("org/tiny", revision)
