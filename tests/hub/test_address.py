"""A GGUF at any address: fetched once, fetched again when it changes, used when nobody answers."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastslm.config import Settings
from fastslm.errors import (
    ConnectionLost,
    DiskFull,
    FastSLMError,
    FileMissing,
    OfflineMode,
    ServerBusy,
    ServerRefused,
)
from fastslm.hub import Fetched, fetch_model, parse, plan
from support.file_server import FileServer

DATA = random.Random(3).randbytes(2_500_000)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with FileServer(DATA) as server:
        yield server


@pytest.fixture
def here(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", hub_cache=tmp_path / "cache", connections=4)


def pull(server: FileServer, settings: Settings) -> Fetched:
    return fetch_model(parse(server.url), settings)


def test_a_second_pull_needs_only_a_head(server: FileServer, here: Settings) -> None:
    """The file is recognised by its ETag and size."""
    fetched = pull(server, here)
    assert fetched.path.read_bytes() == DATA
    assert fetched.path.name == "tiny.gguf"
    assert fetched.path.is_relative_to(here.downloads_dir)
    assert fetched.commit == hashlib.sha256(DATA).hexdigest()
    assert len(DATA) <= fetched.wire_bytes < 1.2 * len(DATA)  # a slow tail may be fetched by two
    server.requests.clear()
    again = pull(server, here)
    assert (again.path, again.commit, again.wire_bytes) == (fetched.path, fetched.commit, 0)
    assert server.requests == [("HEAD", "")]


@pytest.mark.parametrize("change", ["etag", "modified"])
def test_a_changed_file_is_fetched_again(server: FileServer, here: Settings, change: str) -> None:
    """By its ETag, or by its date where there is none."""
    if change == "modified":
        server.etag, server.modified = "", "Mon, 02 Jan 2023 10:00:00 GMT"
    first = pull(server, here)
    server.data = DATA[::-1]
    setattr(server, change, '"v2"' if change == "etag" else "Tue, 03 Jan 2023 10:00:00 GMT")
    second = pull(server, here)
    assert second.path.read_bytes() == DATA[::-1]
    assert second.commit != first.commit


def test_what_is_here_is_used_when_nobody_answers(server: FileServer, here: Settings) -> None:
    """Offline by will, or because the server is gone."""
    fetched = pull(server, here)
    server.requests.clear()
    off = pull(server, dataclasses.replace(here, offline=True))
    assert server.requests == []
    server.__exit__()
    gone = pull(server, here)
    for found in (off, gone):
        assert (found.path, found.commit, found.from_cache) == (fetched.path, fetched.commit, True)


def test_nothing_here_and_nobody_answers(server: FileServer, here: Settings) -> None:
    """The two cases have errors of their own."""
    with pytest.raises(OfflineMode):
        pull(server, dataclasses.replace(here, offline=True))
    server.__exit__()
    with pytest.raises(ConnectionLost, match="cannot talk to"):
        pull(server, here)


@pytest.mark.parametrize(
    ("status", "error"), [(404, FileMissing), (410, FileMissing), (500, ServerBusy), (418, ServerRefused)]
)
def test_refusals(server: FileServer, here: Settings, status: int, error: type[FastSLMError]) -> None:
    """One class for each kind of no."""
    server.status = status
    with pytest.raises(error, match=str(status)):
        pull(server, here)


def test_a_server_without_head_is_asked_for_one_byte(server: FileServer, here: Settings) -> None:
    """Signed addresses often allow GET only."""
    server.head_status = 403
    assert pull(server, here).path.read_bytes() == DATA
    assert ("GET", "bytes=0-0") in server.requests


def test_a_server_that_tells_no_size(server: FileServer, here: Settings) -> None:
    """One stream to its end; the hash is recorded all the same."""
    server.announce_size = False
    fetched = pull(server, here)
    assert fetched.path.read_bytes() == DATA
    assert fetched.commit == hashlib.sha256(DATA).hexdigest()


def test_redirects_are_followed_but_never_away_from_tls(server: FileServer, here: Settings) -> None:
    """A redirect to plain http somewhere else is refused before it is asked."""
    server.redirect = server.url.replace("/models/", "/elsewhere/")
    assert pull(server, here).path.read_bytes() == DATA
    server.redirect = "http://example.invalid/x.gguf"
    other = fetch_model
    with pytest.raises(ServerRefused, match="expected https"):
        other(parse(server.url.replace("tiny", "other")), here)


def test_a_damaged_record_or_a_cut_file_is_fetched_again(server: FileServer, here: Settings) -> None:
    """Neither is believed."""
    fetched = pull(server, here)
    record = fetched.path.parent / "source.json"
    for damage in ("", "[]", '{"url": 1}', json.dumps({"name": "", "identity": "", "size": "x", "sha256": "x"})):
        record.write_text(damage)
        assert len(DATA) <= pull(server, here).wire_bytes <= 1.1 * len(DATA)
    fetched.path.write_bytes(DATA[:-1])
    assert pull(server, here).path.read_bytes() == DATA
    assert sorted(path.name for path in fetched.path.parent.iterdir()) == [".lock", "source.json", "tiny.gguf"]


def test_no_room(server: FileServer, here: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused before the first byte of the file."""
    monkeypatch.setattr(plan.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(DiskFull):
        pull(server, here)
    assert {method for method, _ in server.requests} == {"HEAD"}


def test_a_query_tells_addresses_apart_and_is_not_repeated(server: FileServer, here: Settings) -> None:
    """Each has a folder of its own; the name alone finds the file again, but cannot ask for it."""
    refs = [parse(f"{server.url}?sig={secret}") for secret in ("SECRETQ", "SECRETR")]
    folders = [fetch_model(ref, here).path.parent for ref in refs]
    assert folders[0] != folders[1]
    record = folders[0] / "source.json"
    assert json.loads(record.read_text())["name"] == refs[0].name
    assert stat.S_IMODE(record.stat().st_mode) == 0o600
    assert fetch_model(parse(refs[0].name), here).path.parent == folders[0]
    server.requests.clear()
    with pytest.raises(OfflineMode, match="its query is not kept"):
        fetch_model(parse(f"{server.url}#query-{'0' * 16}"), here)
    assert server.requests == []


@pytest.mark.parametrize("status", [404, 418, 500])
def test_a_refusal_does_not_repeat_the_query(server: FileServer, here: Settings, status: int) -> None:
    """Neither in its message nor in its facts."""
    server.status = status
    with pytest.raises(FastSLMError) as caught:
        fetch_model(parse(f"{server.url}?sig=SECRETQ"), here)
    assert "SECRETQ" not in f"{caught.value} {vars(caught.value)}"
    server.status, server.redirect = 200, "http://example.invalid/x.gguf?sig=SECRETQ"
    with pytest.raises(ServerRefused, match="expected https") as caught:
        fetch_model(parse(f"{server.url}?sig=SECRETQ"), here)
    assert "SECRETQ" not in f"{caught.value} {vars(caught.value)}"


def test_spaces_and_letters_of_any_script_are_escaped(server: FileServer, here: Settings) -> None:
    """As browsers do; the library would refuse such an address with a message that repeats the query."""
    address = server.url.replace("tiny", "klein é x") + "?sig=SECRET Qé"
    assert fetch_model(parse(address), here).path.read_bytes() == DATA
