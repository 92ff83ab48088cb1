"""The cache that we write by hand is the cache that the official client would have written."""

from __future__ import annotations

import os
import shutil
import stat
import threading
from pathlib import Path

import pytest

from fastslm.config import Settings
from fastslm.errors import FileSystemError
from fastslm.hub import cache
from fastslm.hub.client import HubClient
from fastslm.hub.layout import RepoLayout, known_commit, read_tree
from support.hub_server import FakeHub, HubRepo
from support.official import assert_same_cache, run_official

FILES = {"config.json": b"{}", "model.safetensors": b"weights", "sub/a b.json": b"[]", "sub/copy.json": b"[]"}


def fill(layout: RepoLayout, repo: HubRepo, client: HubClient, *, symlinks: bool = True) -> str:
    """What a pull does after the download, with the bytes put there by hand."""
    commit = repo.refs["main"]
    cache.prepare(layout)
    files = repo.commits[commit]
    for etag in {file.etag for file in files.values()}:
        paths = sorted(path for path, file in files.items() if file.etag == etag)
        layout.partial(etag).write_bytes(files[paths[0]].data)
        cache.publish_blob(layout, etag)
        cache.link(layout, commit, paths, etag, symlinks=symlinks, fresh=True)
    cache.write_tree(layout, commit, client.list_files(repo.name, commit))
    cache.write_ref(layout, "", commit)
    return commit


@pytest.fixture
def layout(hub_settings: Settings) -> RepoLayout:
    return RepoLayout(hub_settings.hub_cache, "org/tiny")


def test_both_write_the_same_tree(hub: FakeHub, client: HubClient, layout: RepoLayout, tmp_path: Path) -> None:
    """Blobs, relative links, refs, listings and modes, byte for byte."""
    repo = hub.add_repo("org/tiny", FILES)
    fill(layout, repo, client)
    script = "from huggingface_hub import snapshot_download\nresult = snapshot_download('org/tiny')"
    run_official(script, endpoint=hub.endpoint, cache=tmp_path / "theirs")
    assert_same_cache(layout.root, tmp_path / "theirs")


def test_modes_follow_the_umask(hub: FakeHub, client: HubClient, layout: RepoLayout) -> None:
    """A group that shares a cache can read what we add to it."""
    repo = hub.add_repo("org/tiny", FILES)
    before = os.umask(0o027)
    try:
        commit = fill(layout, repo, client)
    finally:
        os.umask(before)
    blob = (layout.snapshot(commit) / "config.json").resolve()
    assert stat.S_IMODE(blob.stat().st_mode) == 0o640
    assert not list(layout.partials.iterdir())


def test_a_listing_is_read_back(hub: FakeHub, client: HubClient, layout: RepoLayout) -> None:
    """What we write is what we read; a damaged or masked listing is no listing."""
    repo = hub.add_repo("org/tiny", FILES)
    commit = fill(layout, repo, client)
    assert read_tree(layout, commit) == client.list_files("org/tiny", commit)
    for damage in ("", "[]", '{"format_version": 2}', '{"format_version": 1, "files": {"a": {}}}'):
        layout.tree(commit).write_text(damage)
        assert read_tree(layout, commit) is None
    layout.tree(commit).unlink()
    repo.gated = True
    cache.write_tree(layout, commit, client.list_files("org/tiny", commit))
    assert not layout.tree(commit).exists()


def test_links_are_replaced_and_never_written_through(layout: RepoLayout, tmp_path: Path) -> None:
    """A link that somebody put in a blob's or a snapshot's place loses its name, its target stays as it is."""
    precious = tmp_path / "precious"
    precious.write_text("mine")
    cache.prepare(layout)
    etag, commit = "a" * 64, "b" * 40
    layout.blob(etag).symlink_to(precious)
    layout.pointer(commit, "f").parent.mkdir(parents=True)
    layout.pointer(commit, "f").symlink_to(precious)
    layout.partial(etag).write_text("new")
    cache.publish_blob(layout, etag)
    cache.link(layout, commit, ["f"], etag, symlinks=True, fresh=True)
    assert precious.read_text() == "mine"
    assert layout.pointer(commit, "f").read_text() == "new"


def test_paths_that_lead_out_are_refused(layout: RepoLayout) -> None:
    """The last line of defence, whatever the plan let through."""
    for path in ("../../x", "/etc/x", "a/../../x"):
        with pytest.raises(FileSystemError, match="leads out of its folder"):
            cache.link(layout, "b" * 40, [path], "a" * 64, symlinks=True, fresh=True)


def test_a_ref_is_written_only_when_it_moves(layout: RepoLayout) -> None:
    """A shared cache may be read-only for us when nothing changes; a commit has no ref at all."""
    cache.prepare(layout)
    cache.write_ref(layout, "refs/pr/1", "a" * 40)
    assert layout.ref("refs/pr/1").read_text() == "a" * 40
    before = layout.ref("refs/pr/1").stat().st_ino
    cache.write_ref(layout, "refs/pr/1", "a" * 40)
    assert layout.ref("refs/pr/1").stat().st_ino == before
    cache.write_ref(layout, "c" * 40, "c" * 40)
    assert not (layout.folder / "refs" / ("c" * 40)).exists()
    layout.ref("bad").write_text("not a commit")
    assert known_commit(layout, "bad") is None


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the super-user may write everywhere")
def test_a_cache_that_may_not_be_written(layout: RepoLayout) -> None:
    """One sentence with the path."""
    layout.root.mkdir()
    layout.root.chmod(0o500)
    try:
        with pytest.raises(FileSystemError, match="cannot make the folder"):
            cache.prepare(layout)
    finally:
        layout.root.chmod(0o700)


def test_a_file_in_the_way_of_the_cache(layout: RepoLayout) -> None:
    """The same for whoever is allowed everything: the folder's name is taken by a file."""
    layout.root.parent.mkdir(exist_ok=True)
    layout.root.write_text("a file")
    with pytest.raises(FileSystemError) as caught:
        cache.prepare(layout)
    assert str(layout.root) in caught.value.path
    assert caught.value.errno != 0


def test_removing_a_snapshot_keeps_what_others_use(layout: RepoLayout) -> None:
    """Blobs shared with another commit stay, everything else of the snapshot goes, and the bytes are counted."""
    cache.prepare(layout)
    first, second = "1" * 40, "2" * 40
    for etag, text in (("a" * 40, "shared"), ("b" * 40, "only first")):
        layout.partial(etag).write_text(text)
        cache.publish_blob(layout, etag)
    cache.link(layout, first, ["x"], "a" * 40, symlinks=True, fresh=True)
    cache.link(layout, first, ["y"], "b" * 40, symlinks=True, fresh=True)
    cache.link(layout, second, ["x"], "a" * 40, symlinks=True, fresh=False)
    cache.write_ref(layout, "main", first)
    assert cache.remove_snapshot(layout, first) == len("only first")
    assert not layout.snapshot(first).exists()
    assert not layout.ref("main").exists()
    assert (layout.snapshot(second) / "x").read_text() == "shared"
    assert cache.remove_snapshot(layout, second) == len("shared")
    assert not layout.folder.exists()
    assert cache.remove_snapshot(layout, second) == 0


def test_a_second_taker_of_a_lock_waits_and_is_told(layout: RepoLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits can say so; the lock file is the official client's, writable for the group."""
    monkeypatch.setattr(cache, "LOCK_POLL_S", 0.02)
    cache.prepare(layout)
    lock, told, order = layout.lock("a" * 64), threading.Event(), []

    def second() -> None:
        with cache.locked([lock], told.set):
            order.append("second")

    before = os.umask(0o002)
    try:
        with cache.locked([lock], lambda: None):
            assert stat.S_IMODE(lock.stat().st_mode) == 0o664
            thread = threading.Thread(target=second)
            thread.start()
            assert told.wait(5)
            order.append("first")
        thread.join(5)
    finally:
        os.umask(before)
    assert order == ["first", "second"]


def test_without_links_files_are_moved_or_copied(hub: FakeHub, client: HubClient, layout: RepoLayout) -> None:
    """On a file system without links the snapshot holds the files; the official client works with that too."""
    pytest.importorskip("fastslm._native")
    repo = hub.add_repo("org/tiny", FILES)
    commit = fill(layout, repo, client, symlinks=False)
    folder = layout.snapshot(commit)
    assert not [path for path in layout.folder.rglob("*") if path.is_symlink()]
    assert {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()} == FILES
    hub.clear()
    script = f"""
        from huggingface_hub import snapshot_download
        result = snapshot_download('org/tiny', revision={commit!r})
    """
    assert Path(run_official(script, endpoint=hub.endpoint, cache=layout.root)) == folder
    shutil.rmtree(folder / "sub")
    layout.partial("f" * 40).write_bytes(b"x")
    cache.publish_blob(layout, "f" * 40)
    cache.link(layout, commit, ["again/x"], "f" * 40, symlinks=False, fresh=False)
    assert layout.blob("f" * 40).exists(), "an older blob may serve others and is copied"
    assert (folder / "again" / "x").read_bytes() == b"x"
