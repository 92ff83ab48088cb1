"""A mirror that fetches what it lacks: once for everybody, served as it arrives, and never a wrong byte finished."""

from __future__ import annotations

import dataclasses
import hashlib
import random
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import IncompleteRead
from pathlib import Path

import pytest

from fastslm.config import Settings
from fastslm.errors import AccessDenied, ModelNotFound, RevisionNotFound
from fastslm.hub import fetch_model, parse
from fastslm.mirror.shelf import Shelf
from fastslm.mirror.stock import UpstreamStock
from mirror.conftest import EVERYTHING
from support.hub_server import FakeHub, Fault
from support.mirror_server import mirroring
from support.official import run_official, tree_of

EMPTY = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
BIG = random.Random(8).randbytes(6 << 20)


@pytest.fixture
def big(hub: FakeHub) -> str:
    """Path of a large file on the hub."""
    commit = hub.add_repo("org/big", {"model.gguf": BIG}).refs["main"]
    return f"/org/big/resolve/{commit}/model.gguf"


def _read(url: str, **headers: str) -> bytes:
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
        return bytes(answer.read())


def test_a_whole_model_through_an_empty_mirror(
    hub: FakeHub, filling: str, pupil: Settings, teacher: Settings, files: dict[str, bytes]
) -> None:
    """The pupil gets everything, and the teacher has it afterwards; an empty file needs no bytes."""
    fetched = fetch_model(parse("org/tiny"), dataclasses.replace(pupil, endpoint=filling), EVERYTHING)
    assert {path: (fetched.path / path).read_bytes() for path in files} == files
    ours, theirs = (tree_of(root / "models--org--tiny") for root in (pupil.hub_cache, teacher.hub_cache))
    assert theirs.items() <= ours.items()
    assert {path.rpartition("/")[2] for path in ours.keys() - theirs.keys()} == {"empty.txt", EMPTY}
    hub.requests.clear()
    fetch_model(
        parse("org/tiny"), dataclasses.replace(pupil, endpoint=filling, hub_cache=pupil.home / "two"), EVERYTHING
    )
    assert [request.path for request in hub.requests] == []


def test_twenty_clients_make_one_download(hub: FakeHub, filling: str, big: str) -> None:
    """They ask at the same moment; upstream sends each byte once."""
    hub.add_fault(Fault("slow", path="model.gguf", delay_s=0.01))
    with ThreadPoolExecutor(20) as pool:
        bodies = list(pool.map(lambda _: _read(filling + big), range(20)))
    assert all(body == BIG for body in bodies)
    assert len(hub.log("hub", "HEAD")) == 2, "one to learn whether anybody may have it, one for the address"
    ranges = [request.range for request in hub.log("cdn", "GET")]
    assert len(ranges) == len(set(ranges))


def test_a_file_is_served_while_it_arrives(hub: FakeHub, filling: str, big: str) -> None:
    """The first bytes are there long before the last, but the last ones only after the hash."""
    hub.add_fault(Fault("slow", path="model.gguf", delay_s=0.03))
    began = time.monotonic()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(filling + big, timeout=60) as answer:
        first = answer.read(1000)
        first_s = time.monotonic() - began
        rest = answer.read()
    assert first + rest == BIG
    assert first_s < (time.monotonic() - began) / 2


def test_a_range_of_a_growing_file(hub: FakeHub, filling: str, big: str) -> None:
    """What is soon there is sent as a range; a client that resumes far ahead of the mirror gets it in the end."""
    hub.add_fault(Fault("slow", path="model.gguf", delay_s=0.01))
    with ThreadPoolExecutor(2) as pool:
        whole = pool.submit(_read, filling + big)
        assert _read(filling + big, Range="bytes=4000000-4000009") == BIG[4_000_000:4_000_010]
        assert whole.result(60) == BIG


def test_a_file_whose_hash_is_wrong_is_finished_for_nobody(
    hub: FakeHub, filling: str, big: str, teacher: Settings
) -> None:
    """The connection is cut before the end, nothing is published, and the next client is not served from the ruins."""
    hub.add_fault(Fault("flip", path="model.gguf", offset=100_000))
    for _ in range(2):
        with pytest.raises((IncompleteRead, urllib.error.HTTPError, ConnectionError)):
            _read(filling + big)
    blobs = teacher.hub_cache / "models--org--big" / "blobs"
    assert not list(blobs.iterdir())


def test_a_byte_that_was_wrong_for_a_moment_reaches_nobody_as_right(hub: FakeHub, filling: str, big: str) -> None:
    """The mirror repairs the file; whoever had begun to read is cut off, and then gets the right bytes."""
    hub.add_fault(Fault("flip", path="model.gguf", offset=100_000, times=1))
    body = b""
    for _ in range(5):
        try:
            body = _read(filling + big)
            break
        except (IncompleteRead, ConnectionError):
            continue
    assert body == BIG


def test_an_upstream_that_breaks_down_is_resumed(hub: FakeHub, filling: str, big: str) -> None:
    """Connections that are cut again and again cost the clients nothing."""
    hub.add_fault(Fault("drop", path="model.gguf", offset=2_000_000, times=1))
    assert _read(filling + big) == BIG


@pytest.mark.parametrize(
    ("name", "error"), [("org/none", ModelNotFound), ("org/tiny@none", RevisionNotFound), ("org/gated", AccessDenied)]
)
def test_the_upstream_refuses(hub: FakeHub, filling: str, pupil: Settings, name: str, error: type[Exception]) -> None:
    """Its answers reach the client as its own, also the official one."""
    hub.add_repo("org/gated", {"config.json": b"{}", "model.safetensors": b"x"}, gated=True)
    with pytest.raises(error):
        fetch_model(parse(name), dataclasses.replace(pupil, endpoint=filling, token="hf_good"))


def test_what_the_hub_hides_is_not_given_from_the_cache(hub: FakeHub, teacher: Settings, pupil: Settings) -> None:
    """The teacher's own access to a gated model is not the class's, while the upstream says who may see what."""
    hub.add_repo("org/gated", {"config.json": b"{}", "model.safetensors": b"x"}, gated=True)
    with_token = dataclasses.replace(teacher, token="hf_good")
    fetch_model(parse("org/gated"), with_token)
    with mirroring(UpstreamStock(Shelf(teacher.hub_cache), with_token)) as address:
        hub.requests.clear()
        with pytest.raises(AccessDenied):
            fetch_model(parse("org/gated"), dataclasses.replace(pupil, endpoint=address))
        assert _read(f"{address}/api/models") == b"[]", "names may be hidden as well"
    assert {request.authorization for request in hub.requests} == {""}


def test_gated_is_gated_for_the_official_client(hub: FakeHub, filling: str, tmp_path: Path) -> None:
    """With the error that tells its user what to do."""
    hub.add_repo("org/gated", {"config.json": b"{}"}, gated=True)
    script = """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import GatedRepoError
    try:
        hf_hub_download("org/gated", "config.json")
        result = "served"
    except GatedRepoError:
        result = "gated"
    """
    assert run_official(script, endpoint=filling, cache=tmp_path / "official") == "gated"


def test_without_the_upstream_the_cache_goes_on(shelf: Shelf, teacher: Settings, pupil: Settings) -> None:
    """The line to the world is down, the class works on; what is not here is a gateway's error."""
    nowhere = dataclasses.replace(teacher, endpoint="http://127.0.0.1:9")
    with mirroring(UpstreamStock(shelf, nowhere)) as address:
        fetched = fetch_model(parse("org/tiny"), dataclasses.replace(pupil, endpoint=address))
        assert (fetched.path / "config.json").exists()
        with pytest.raises(urllib.error.HTTPError) as refused:
            _read(f"{address}/api/models/org/other")
        assert refused.value.code == 504
        refused.value.close()


def test_stopping_in_the_middle_leaves_what_can_be_resumed(
    hub: FakeHub, teacher: Settings, big: str, eventually: Callable[[Callable[[], bool]], None]
) -> None:
    """Ctrl-C on the teacher's machine: no thread stays, and the next mirror goes on."""
    digest = hashlib.sha256(BIG).hexdigest()
    hub.add_fault(Fault("slow", path="model.gguf", delay_s=0.3))
    partials = teacher.hub_cache / "models--org--big" / ".fastslm"
    with ThreadPoolExecutor(1) as pool:
        with mirroring(UpstreamStock(Shelf(teacher.hub_cache), teacher)) as address:
            waiting = pool.submit(_read, address + big)
            eventually(lambda: (partials / f"{digest}.journal").exists())
        with pytest.raises((IncompleteRead, urllib.error.URLError, ConnectionError)):
            waiting.result(30)
    assert not [thread for thread in threading.enumerate() if thread.name == "fastslm-flight"]
    hub.clear()
    with mirroring(UpstreamStock(Shelf(teacher.hub_cache), teacher)) as address:
        assert _read(address + big) == BIG
