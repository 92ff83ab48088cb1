"""The scripted hub against the official client: what satisfies that is good enough to test ourselves with."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.hub_server import FakeHub, Fault
from support.official import run_official

SNAPSHOT = """
from huggingface_hub import snapshot_download
result = snapshot_download({repo!r}, revision={revision!r})
"""


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub(page_size=3) as hub:
        yield hub


def sample_files() -> dict[str, bytes]:
    noise = random.Random(7).randbytes
    return {
        "config.json": b"{}",
        "empty.txt": b"",
        "model.safetensors": noise(300_000),
        "sub folder/näme.json": b'{"a": 1}',
        "tokenizer.json": noise(5000),
    }


def test_the_official_client_downloads_a_whole_repository(hub: FakeHub, tmp_path: Path) -> None:
    """Every byte arrives, the pages of the listing are followed, and the CDN never sees a token."""
    files = sample_files()
    hub.add_repo("org/tiny", files)
    script = SNAPSHOT.format(repo="org/tiny", revision=None)
    folder = Path(run_official(script, endpoint=hub.endpoint, cache=tmp_path / "cache", token="hf_good"))
    assert {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()} == files
    assert len(hub.log("hub", "HEAD", "/resolve/")) == len(files)
    assert [request.authorization for request in hub.log("cdn")] == [""]
    assert len(hub.log("hub", "GET", "/tree/")) in {0, 2}, "two pages, or the older way without a tree"


@pytest.mark.parametrize(
    ("repo", "revision", "error"),
    [
        ("org/none", None, "RepositoryNotFoundError"),
        ("org/private", None, "RepositoryNotFoundError"),
        ("org/tiny", "nope", "RevisionNotFoundError"),
        ("org/gated", None, "GatedRepoError"),
    ],
)
def test_refusals_are_understood_by_the_official_client(
    hub: FakeHub, tmp_path: Path, repo: str, revision: str | None, error: str
) -> None:
    """The scripted refusals carry the headers that the real hub sends."""
    hub.add_repo("org/tiny", sample_files())
    hub.add_repo("org/private", sample_files(), private=True)
    hub.add_repo("org/gated", sample_files(), gated=True)
    script = f"""
        from huggingface_hub import hf_hub_download
        try:
            result = hf_hub_download({repo!r}, "config.json", revision={revision!r})
        except Exception as problem:
            while problem.__cause__ is not None and "EntryNotFound" in type(problem).__name__:
                problem = problem.__cause__
            result = type(problem).__name__
        """
    assert run_official(script, endpoint=hub.endpoint, cache=tmp_path / "cache") == error


def test_a_renamed_repository_is_followed(hub: FakeHub, tmp_path: Path) -> None:
    """Old names keep working through relative redirects."""
    hub.add_repo("org/new", sample_files())
    hub.renamed["org/old"] = "org/new"
    script = SNAPSHOT.format(repo="org/old", revision=None)
    folder = Path(run_official(script, endpoint=hub.endpoint, cache=tmp_path / "cache"))
    assert (folder / "config.json").read_bytes() == b"{}"


def test_links_expire_and_faults_happen_as_scripted(hub: FakeHub) -> None:
    """A fault hits the requests it names, that many times, and a link dies when told."""
    import urllib.error
    import urllib.request

    repo = hub.add_repo("org/tiny", {"model.safetensors": bytes(100_000)})
    file = next(iter(repo.commits.values()))["model.safetensors"]
    url = hub.signed(file, "model.safetensors")
    hub.add_fault(Fault("flip", path="model.safetensors", offset=5, times=1))
    bodies = [urllib.request.urlopen(url, timeout=5).read() for _ in range(2)]
    assert bodies[0][5] == 1
    assert bodies[1] == bytes(100_000)
    hub.expire_links()
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(url, timeout=5)
    assert caught.value.code == 403
    caught.value.close()
