"""Every file of the cache is found once, with the hash that its name or the listing tells."""

from __future__ import annotations

import hashlib

from fastslm.config import Settings
from fastslm.hub import fetch_model, parse
from fastslm.hub.disk.inventory import cached_files, repositories
from fastslm.hub.disk.partials import partials
from fastslm.hub.layout import RepoLayout
from support.hub_server import FakeHub

DATA = b"weights" * 1000


def pulled(hub: FakeHub, settings: Settings) -> RepoLayout:
    hub.add_repo("tiny/model", {"config.json": b"{}", "model.safetensors": DATA})
    fetch_model(parse("tiny/model", endpoint=hub.endpoint), settings)
    return RepoLayout(settings.hub_cache, "tiny/model")


def test_each_file_is_listed_once(hub: FakeHub, hub_settings: Settings) -> None:
    """Also when two snapshots show it; a small file by git's hash."""
    layout = pulled(hub, hub_settings)
    hub.repos["tiny/model"].commit({"config.json": b"{}", "model.safetensors": DATA, "README.md": b"new"})
    fetch_model(parse("tiny/model", endpoint=hub.endpoint), hub_settings)
    found = {file.path: file for file in cached_files(layout)}
    assert sorted(found) == ["README.md", "config.json", "model.safetensors"]
    assert found["model.safetensors"].expected == hashlib.sha256(DATA).hexdigest()
    assert found["config.json"].algorithm == "git-sha1"
    assert repositories(hub_settings.hub_cache) == (layout,)


def test_what_is_no_model_is_no_repository(hub_settings: Settings) -> None:
    """Datasets, locks and a cache that is not there."""
    assert repositories(hub_settings.hub_cache) == ()
    for name in (".locks", "datasets--org--name", "version.txt"):
        (hub_settings.hub_cache / name).mkdir(parents=True)
    assert repositories(hub_settings.hub_cache) == ()


def test_unfinished_files_are_no_blobs(hub: FakeHub, hub_settings: Settings) -> None:
    """Those of the official client have a suffix, ours have a folder of their own."""
    layout = pulled(hub, hub_settings)
    (layout.folder / "blobs" / ("a" * 64 + ".incomplete")).write_bytes(b"x")
    layout.partial("b" * 64).write_bytes(b"12345")
    layout.journal("c" * 64).write_bytes(b"123")
    assert len(list(cached_files(layout))) == 2
    found = sorted(partials(hub_settings), key=lambda each: each.file)
    assert [(each.owner, each.size_bytes) for each in found] == [("tiny/model", 5), ("tiny/model", 0)]
    assert found[0].belongs_to("tiny/model@main")
    assert not found[0].belongs_to("tiny/other")
