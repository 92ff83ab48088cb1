"""A plan says beforehand what a download will do, and refuses what must not or cannot be done."""

from __future__ import annotations

from collections import namedtuple
from pathlib import Path

import pytest

from fastslm.config import Settings
from fastslm.errors import AccessDenied, DiskFull, ServerRefused
from fastslm.hub import cache, plan
from fastslm.hub.client import HubClient
from fastslm.hub.layout import RepoLayout
from fastslm.hub.plan import check_space, make_plan
from fastslm.hub.refs import parse
from fastslm.hub.select import Wishes
from support.hub_server import FakeHub

Usage = namedtuple("Usage", "total used free")


def test_a_plan_of_a_fresh_download(
    hub: FakeHub, hub_settings: Settings, client: HubClient, model_files: dict[str, bytes]
) -> None:
    """Sizes and hashes of the chosen files, for two requests."""
    repo = hub.add_repo("org/tiny", {**model_files, "extra/notes.txt": b"x"})
    made = make_plan(parse("org/tiny"), hub_settings, Wishes(), client)
    assert made.commit == repo.refs["main"]
    assert {file.path: file.size for file in made.files} == {path: len(data) for path, data in model_files.items()}
    assert {file.digest for file in made.files} == {repo.commits[made.commit][path].etag for path in model_files}
    assert (made.total_bytes, made.cached_bytes) == (sum(map(len, model_files.values())), 0)
    assert len(hub.log()) == 2


def test_a_commit_with_a_known_listing_costs_no_request(
    hub: FakeHub, hub_settings: Settings, client: HubClient, model_files: dict[str, bytes]
) -> None:
    """A commit never changes."""
    commit = hub.add_repo("org/tiny", model_files).refs["main"]
    layout = RepoLayout(hub_settings.hub_cache, "org/tiny")
    cache.prepare(layout)
    cache.write_tree(layout, commit, client.list_files("org/tiny", commit))
    hub.clear()
    assert make_plan(parse(f"org/tiny@{commit}"), hub_settings, Wishes(), client).commit == commit
    assert hub.log() == []


def test_files_of_the_same_content_are_one_download(hub: FakeHub, hub_settings: Settings, client: HubClient) -> None:
    """Two names, one blob; and a blob that is here counts as cached, but not when it is cut short."""
    repo = hub.add_repo("org/tiny", {"config.json": b"{}", "tokenizer_config.json": b"{}", "model.safetensors": b"w"})
    made = make_plan(parse("org/tiny"), hub_settings, Wishes(), client)
    assert [file.path for file in made.missing] == ["config.json", "model.safetensors"]
    layout = RepoLayout(hub_settings.hub_cache, "org/tiny")
    cache.prepare(layout)
    weights = repo.commits[made.commit]["model.safetensors"]
    layout.blob(weights.etag).write_bytes(b"w")
    assert make_plan(parse("org/tiny"), hub_settings, Wishes(), client).cached_bytes == 1
    layout.blob(weights.etag).write_bytes(b"")
    assert make_plan(parse("org/tiny"), hub_settings, Wishes(), client).cached_bytes == 0


@pytest.mark.parametrize("path", ["../../outside.json", "/etc/passwd", "a/../../../x", "C:\\x"])
def test_malicious_names_in_a_listing(hub: FakeHub, hub_settings: Settings, client: HubClient, path: str) -> None:
    """A listing cannot make us write outside the snapshot."""
    hub.add_repo("org/evil", {"config.json": b"{}", "model.safetensors": b"w", path: b"boo"})
    with pytest.raises(ServerRefused, match="leads out of its folder"):
        make_plan(parse("org/evil"), hub_settings, Wishes(include=("*",)), client)


def test_masked_hashes_are_asked_for_file_by_file(
    hub: FakeHub, hub_settings: Settings, client: HubClient, model_files: dict[str, bytes]
) -> None:
    """Without access the question itself is refused, and says why."""
    hub.add_repo("org/gated", model_files, gated=True)
    with pytest.raises(AccessDenied, match="`org/gated` is gated"):
        make_plan(parse("org/gated"), hub_settings, Wishes(), client)


def test_a_disk_that_is_too_small(
    hub: FakeHub,
    hub_settings: Settings,
    client: HubClient,
    model_files: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Refused before the first byte, with both numbers; what a partial file already takes is not asked for twice."""
    hub.add_repo("org/tiny", model_files)
    made = make_plan(parse("org/tiny"), hub_settings, Wishes(), client)
    free = plan.MARGIN_BYTES + 1000
    monkeypatch.setattr(plan.shutil, "disk_usage", lambda _: Usage(0, 0, free))
    with pytest.raises(DiskFull) as caught:
        check_space(made, hub_settings)
    assert (caught.value.needed, caught.value.available) == (made.total_bytes + plan.MARGIN_BYTES, free)
    layout = RepoLayout(hub_settings.hub_cache, "org/tiny")
    layout.partials.mkdir(parents=True)
    for file in made.missing:
        Path(layout.partial(file.digest)).write_bytes(bytes(file.size))
    check_space(made, hub_settings)
