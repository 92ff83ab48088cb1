"""Jobs and the engine: what is published when, and what one failed file means for the others."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fastslm.config import Settings
from fastslm.errors import (
    ChecksumMismatch,
    ConnectionLost,
    FastSLMError,
    FileMissing,
    FileSystemError,
    LinkExpired,
    NetworkError,
    ServerBusy,
    ServerRefused,
    SizeMismatch,
)
from fastslm.hub.transfer import Job, Link, _options, transfer
from fastslm.progress import Progress, silent
from support.file_server import FileServer

DATA = b"0123456789" * 30_000


@pytest.fixture
def server() -> Iterator[FileServer]:
    with FileServer(DATA) as server:
        yield server


@pytest.fixture
def here(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, hub_cache=tmp_path / "cache", connections=2)


def job(folder: Path, name: str, resolve: Callable[[], Link], publish: Callable[[str], None] | None = None) -> Job:
    partial = folder / f"{name}.partial"
    return Job(
        name=name,
        partial=partial,
        journal=folder / f"{name}.journal",
        size=len(DATA),
        algorithm="sha256",
        digest=hashlib.sha256(DATA).hexdigest(),
        identity="1",
        resolve=resolve,
        publish=publish or (lambda digest: partial.rename(folder / f"{name}.{digest[:8]}") and None),
    )


def test_progress_ends_at_the_total(server: FileServer, here: Settings, tmp_path: Path) -> None:
    """First the addresses, then the bytes, up to the last one; never backwards."""
    seen: list[Progress] = []
    jobs = [job(tmp_path, name, lambda: Link(server.url)) for name in ("a", "b")]
    moved = transfer(jobs, here, seen.append)
    assert (moved.wire_bytes, moved.resumed_bytes) == (2 * len(DATA), 0)
    assert [report.detail for report in seen if report.stage == "resolving"] == ["a", "b"]
    done = [report.done for report in seen if report.stage == "downloading"]
    assert done == sorted(done)
    assert (done[-1], seen[-1].total) == (2 * len(DATA), 2 * len(DATA))
    digest = hashlib.sha256(DATA).hexdigest()[:8]
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"a.{digest}", f"b.{digest}"]


def test_a_job_without_an_address_does_not_stop_the_others(server: FileServer, here: Settings, tmp_path: Path) -> None:
    """Nor does one that cannot be published; the first error is told at the end."""
    published: list[str] = []

    def vanished() -> Link:
        raise FileMissing("gone")

    def no_room(_: str) -> None:
        raise FileSystemError("cannot publish")

    jobs = [
        job(tmp_path, "a", vanished),
        job(tmp_path, "b", lambda: Link(server.url), no_room),
        job(tmp_path, "c", lambda: Link(server.url), published.append),
    ]
    with pytest.raises(FileMissing, match="gone"):
        transfer(jobs, here, silent)
    assert published == [hashlib.sha256(DATA).hexdigest()]


def test_an_expired_address_is_asked_for_again_a_few_times(server: FileServer, here: Settings, tmp_path: Path) -> None:
    """Each time with a fresh address, but not for ever."""
    asked: list[int] = []

    def resolve() -> Link:
        asked.append(1)
        server.status = 403 if len(asked) < 3 else 200
        return Link(server.url)

    assert len(DATA) <= transfer([job(tmp_path, "a", resolve)], here, silent).wire_bytes <= 1.1 * len(DATA)
    assert len(asked) == 3

    def never() -> Link:
        asked.append(1)
        server.status = 410
        return Link(server.url)

    asked.clear()
    with pytest.raises(LinkExpired):
        transfer([job(tmp_path, "b", never)], here, silent)
    assert len(asked) == 3


def test_a_404_names_the_file(server: FileServer, here: Settings, tmp_path: Path) -> None:
    """A signed address means nothing to the user, so the error has the file's own name."""
    server.status = 404
    with pytest.raises(FileMissing, match="`a` has vanished"):
        transfer([job(tmp_path, "a", lambda: Link(server.url))], here, silent)


def test_what_was_verified_but_not_yet_in_place_is_not_fetched_again(here: Settings, tmp_path: Path) -> None:
    """A process killed between the check and the renaming of a file has lost nothing; damage is still noticed."""
    published: list[str] = []
    kept = job(tmp_path, "a", resolve=lambda: pytest.fail("nobody needs to be asked"), publish=published.append)
    kept.partial.write_bytes(DATA)
    moved = transfer([kept], here, silent)
    assert (moved.wire_bytes, moved.resumed_bytes) == (0, len(DATA))
    assert published == [kept.digest]


def test_a_complete_file_with_a_wrong_byte_is_fetched_again(server: FileServer, here: Settings, tmp_path: Path) -> None:
    """Only the hash counts."""
    damaged = job(tmp_path, "a", lambda: Link(server.url))
    damaged.partial.write_bytes(b"x" + DATA[1:])
    assert len(DATA) <= transfer([damaged], here, silent).wire_bytes <= 1.1 * len(DATA)


def test_nothing_to_do(here: Settings) -> None:
    """An empty list of jobs starts no engine."""
    assert transfer([], here, silent).wire_bytes == 0


@pytest.mark.usefixtures("impatient")
def test_an_address_where_nobody_listens(here: Settings, tmp_path: Path) -> None:
    """After the engine's attempts a network error."""
    with pytest.raises(ConnectionLost):
        transfer([job(tmp_path, "a", lambda: Link("http://127.0.0.1:9/x"))], here, silent)


def test_settings_reach_the_engine(here: Settings) -> None:
    """The number of connections is the user's; the proxy is the one of the address's scheme."""
    assert _options(here, "https://example.org/x").connections == 2


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("status", "data", "kind", "words"),
    [
        (403, DATA, LinkExpired, "`a` cannot be fetched: .* status 403"),
        (418, DATA, ServerRefused, "`a` cannot be fetched: .* status 418"),
        (500, DATA, ServerBusy, "`a` cannot be fetched: .* status 500"),
        (200, DATA + b"x", SizeMismatch, "`a` cannot be fetched: .* sent a Content-Length of"),
        (200, DATA[::-1], ChecksumMismatch, "^the hash of `a` is `[0-9a-f]{64}`, expected"),
    ],
)
def test_every_error_names_the_file(
    server: FileServer, here: Settings, tmp_path: Path, status: int, data: bytes, kind: type[FastSLMError], words: str
) -> None:
    """The address of a CDN means nothing to the user; it stays among the facts, and class and cause stay too."""
    server.status, server.data = status, data
    with pytest.raises(kind, match=words) as caught:
        transfer([job(tmp_path, "a", lambda: Link(server.url))], here, silent)
    assert type(caught.value.__cause__) is type(caught.value)
    if isinstance(caught.value, NetworkError):
        assert caught.value.url == server.url
        assert caught.value.status in (status, 206)
    if isinstance(caught.value, ChecksumMismatch):
        assert (caught.value.subject, caught.value.expected) == ("a", hashlib.sha256(DATA).hexdigest())
