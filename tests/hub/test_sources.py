"""Several places for the same bytes, and addresses that end in the middle of a download."""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from pathlib import Path

import pytest

from fastslm.config import Settings
from fastslm.errors import AccessDenied, FastSLMError, UsageError
from fastslm.hub import fetch_model, parse
from fastslm.progress import Progress
from support.file_server import FileServer
from support.hub_server import FakeHub, Fault

REF = parse("org/tiny")
WEIGHTS = "model.safetensors"
MIB = 1 << 20
LARGE = 32 * MIB
"""More than two connections ask for at first."""


@pytest.fixture
def data() -> bytes:
    return os.urandom(12 * MIB)


def files(data: bytes) -> dict[str, bytes]:
    return {"config.json": b"{}", WEIGHTS: data}


def test_an_address_that_ends_in_the_middle_costs_one_question(hub: FakeHub, hub_settings: Settings) -> None:
    """Every connection finds out, one asks; what was received stays."""
    data = os.urandom(LARGE)
    hub.add_repo("org/tiny", files(data))
    hub.add_fault(Fault("slow", path=WEIGHTS, delay_s=0.004))
    ended = threading.Event()

    def end(progress: Progress) -> None:
        if progress.stage == "downloading" and progress.done > MIB and not ended.is_set():
            ended.set()
            hub.expire_links()

    fetched = fetch_model(REF, dataclasses.replace(hub_settings, connections=2), progress=end)
    assert ended.is_set()
    assert (fetched.path / WEIGHTS).read_bytes() == data
    assert len(hub.log("hub", "HEAD", WEIGHTS)) == 2
    assert fetched.wire_bytes <= 1.1 * len(data)


def test_an_address_is_renewed_before_it_ends(hub: FakeHub, hub_settings: Settings, data: bytes) -> None:
    """Addresses of a few seconds, a slow line: nobody ever meets a 403."""
    hub.link_seconds = 3.0
    hub.add_repo("org/tiny", files(data))
    hub.add_fault(Fault("slow", path=WEIGHTS, delay_s=0.06))
    fetched = fetch_model(REF, dataclasses.replace(hub_settings, connections=2))
    assert (fetched.path / WEIGHTS).read_bytes() == data
    assert fetched.wire_bytes <= 1.1 * len(data)


def test_when_a_fresh_address_is_refused_its_reason_is_told(hub: FakeHub, hub_settings: Settings) -> None:
    """Not the CDN's word about an expired request, but the hub's about the token."""
    data = os.urandom(LARGE)
    repo = hub.add_repo("org/tiny", files(data), gated=True)
    settings = dataclasses.replace(hub_settings, token="hf_good", connections=2)
    hub.add_fault(Fault("slow", path=WEIGHTS, delay_s=0.004))

    def lock_out(progress: Progress) -> None:
        if progress.stage == "downloading" and progress.done > MIB and hub.tokens:
            hub.tokens.clear()
            hub.expire_links()

    with pytest.raises(AccessDenied):
        fetch_model(REF, settings, progress=lock_out)
    assert repo.gated


def test_a_mirror_shares_the_work_and_never_sees_the_token(hub: FakeHub, hub_settings: Settings, data: bytes) -> None:
    """The bytes come from both, the token goes to its own origin only."""
    hub.add_repo("org/tiny", files(data))
    hub.add_fault(Fault("slow", path=WEIGHTS, delay_s=0.004))
    with FakeHub() as mirror:
        mirror.add_repo("org/tiny", files(data))
        mirror.add_fault(Fault("slow", path=WEIGHTS, delay_s=0.004))
        settings = dataclasses.replace(hub_settings, mirrors=(mirror.endpoint,), token="hf_good")
        fetched = fetch_model(REF, settings)
        assert (fetched.path / WEIGHTS).read_bytes() == data
        assert fetched.dropped_sources == ()
        assert hub.log("cdn", "GET")
        assert mirror.log("cdn", "GET")
        assert all(request.authorization == "" for request in mirror.log())


def test_a_mirror_that_lies_is_named_and_the_file_is_right(hub: FakeHub, hub_settings: Settings, data: bytes) -> None:
    """Trust is in the hash; what the liar sent is replaced."""
    hub.add_repo("org/tiny", files(data))
    hub.add_fault(Fault("slow", path=WEIGHTS, delay_s=0.002))
    with FakeHub() as mirror:
        wrong = bytes(byte ^ 1 for byte in data)
        commit = hub.repos["org/tiny"].refs["main"]
        mirror.add_repo("org/tiny", files(wrong))
        mirror.repos["org/tiny"].commits[commit] = mirror.repos["org/tiny"].commits.popitem()[1]
        settings = dataclasses.replace(hub_settings, mirrors=(mirror.endpoint,))
        fetched = fetch_model(REF, settings)
    assert (fetched.path / WEIGHTS).read_bytes() == data
    assert any(mirror.endpoint in line and "sent wrong bytes" in line for line in fetched.dropped_sources)


def test_a_mirror_that_is_not_there_is_done_without(
    hub: FakeHub, hub_settings: Settings, model_files: dict[str, bytes]
) -> None:
    """The user is told, the model arrives."""
    hub.add_repo("org/tiny", model_files)
    with FakeHub() as mirror:
        settings = dataclasses.replace(hub_settings, mirrors=(mirror.endpoint,))
        fetched = fetch_model(REF, settings)
    assert (fetched.path / WEIGHTS).read_bytes() == model_files[WEIGHTS]
    assert all(mirror.endpoint in line for line in fetched.dropped_sources)


def test_a_file_without_a_hash_has_no_mirrors(tmp_path: Path) -> None:
    """Nothing could tell which of two answers is right."""
    with FileServer(b"GGUF") as server:
        settings = Settings(home=tmp_path, hub_cache=tmp_path / "cache", mirrors=("http://127.0.0.1:9",))
        with pytest.raises(UsageError, match="no published hash"):
            fetch_model(parse(server.url), settings)
        assert server.requests == []


def test_a_limit_holds_for_a_whole_pull(hub: FakeHub, hub_settings: Settings, data: bytes) -> None:
    """Twelve MiB at six MiB a second take two seconds, whatever the line could do."""
    hub.add_repo("org/tiny", files(data))
    began = time.monotonic()
    fetch_model(REF, dataclasses.replace(hub_settings, limit_rate=6 * MIB))
    assert time.monotonic() - began > 1.8


def test_a_pause_is_kept_by_every_connection(hub: FakeHub, hub_settings: Settings, data: bytes) -> None:
    """A CDN that says 429 with a time is not asked before it."""
    hub.add_repo("org/tiny", files(data))
    hub.add_fault(Fault("status", path=WEIGHTS, status=429, headers={"Retry-After": "1"}, times=1))
    began = time.monotonic()
    try:
        fetch_model(REF, hub_settings)
    except FastSLMError as error:
        pytest.fail(str(error))
    assert time.monotonic() - began > 1
