"""The adapter to the official library: its answers as values, its errors as ours, and no call that hangs."""

from __future__ import annotations

import ast
import dataclasses
import subprocess
import sys
import time
from pathlib import Path

import pytest

import fastslm
from fastslm.config import Settings
from fastslm.errors import (
    AccessDenied,
    ConnectionLost,
    FastSLMError,
    FileMissing,
    ModelNotFound,
    OfflineMode,
    RevisionNotFound,
    ServerBusy,
    ServerRefused,
)
from fastslm.hub.client import HubClient, Patience, library_generation, may_send_token
from support.hub_server import FakeHub, Fault

QUICK = Patience(resolve_s=5, listing_s=5, locate_s=5, attempts=2, backoff_s=0.01)
FILES = {"config.json": b"{}", "model.safetensors": bytes(1000), "sub dir/ü.json": b"[]"}


def test_revision_listing_and_location(hub: FakeHub, client: HubClient) -> None:
    """The three questions of a plan, answered with checked values."""
    repo = hub.add_repo("org/tiny", FILES)
    commit = client.resolve_revision("org/tiny")
    assert commit == repo.refs["main"] == client.resolve_revision("org/tiny", "main")
    listed = client.list_files("org/tiny", commit)
    assert {file.path: file.size for file in listed} == {path: len(data) for path, data in FILES.items()}
    kept = repo.commits[commit]
    assert {f.path: f.sha256 or f.blob_id for f in listed} == {path: file.etag for path, file in kept.items()}
    for path, file in kept.items():
        found = client.locate("org/tiny", commit, path)
        assert (found.etag, found.size, found.commit) == (file.etag, len(file.data), commit)
        assert found.url.startswith(hub.cdn if file.lfs else hub.endpoint)


def test_a_long_listing_is_read_to_its_end(hub: FakeHub, client: HubClient) -> None:
    """Pages are followed."""
    hub.page_size = 10
    hub.add_repo("org/many", {f"{n:03}.txt": b"x" for n in range(45)})
    assert len(client.list_files("org/many", client.resolve_revision("org/many"))) == 45
    assert len(hub.log("hub", "GET", "/tree/")) == 5


def test_the_token_goes_to_the_hub_only(hub: FakeHub, with_token: Settings) -> None:
    """A CDN address comes with no header, a hub address with the token."""
    hub.add_repo("org/tiny", FILES, private=True)
    client = HubClient(with_token, QUICK)
    commit = client.resolve_revision("org/tiny")
    assert client.locate("org/tiny", commit, "model.safetensors").headers == ()
    headers = client.locate("org/tiny", commit, "config.json").headers
    assert headers == ("Authorization: Bearer hf_good", "X-Fastslm-Accept: planes-1")
    assert {request.authorization for request in hub.log("hub")} == {"Bearer hf_good"}


def test_only_what_may_be_a_mirror_is_asked_to_pack(hub: FakeHub, hub_settings: Settings) -> None:
    """The public hub gets no header of ours; a mirror does, unless the user wants plain bytes."""
    mirrors = (hub.endpoint, "https://hf.co")
    at_home = dataclasses.replace(hub_settings, endpoint="https://huggingface.co", mirrors=mirrors)
    found = dict(HubClient(at_home, QUICK).mirrored("org/tiny", "a" * 40, "model.safetensors"))
    assert list(found.values()) == [("X-Fastslm-Accept: planes-1",), ()]
    plain = dataclasses.replace(at_home, packed=False)
    assert set(dict(HubClient(plain, QUICK).mirrored("org/tiny", "a" * 40, "x")).values()) == {()}


def test_origins_that_may_see_the_token() -> None:
    """Scheme, host and port must all be the hub's."""
    assert may_send_token("https://huggingface.co/a", "https://mirror.example")
    assert may_send_token("https://mirror.example:443/a", "https://mirror.example")
    for url in ("http://huggingface.co/a", "https://huggingface.co:8443/a", "https://cdn.hf.co/a", "https://[bad/"):
        assert not may_send_token(url, "https://mirror.example")
    assert not may_send_token("https://huggingface.co@evil.example/a", "https://mirror.example")


def test_masked_hashes_are_never_trusted(hub: FakeHub, client: HubClient) -> None:
    """A gated listing hides its hashes behind asterisks."""
    hub.add_repo("org/gated", FILES, gated=True)
    listed = client.list_files("org/gated", client.resolve_revision("org/gated"))
    assert [(file.path, file.sha256) for file in listed if file.masked] == [("model.safetensors", "")]


@pytest.mark.parametrize(
    ("repo", "revision", "path", "error", "words"),
    [
        ("org/none", "", "", ModelNotFound, "or it is private (asked with no token)"),
        ("org/private", "", "", ModelNotFound, "`org/private`"),
        ("org/tiny", "nope", "", RevisionNotFound, "has no revision `nope`"),
        ("org/tiny", "", "absent.json", FileMissing, "has no file `absent.json`"),
        ("org/gated", "", "config.json", AccessDenied, "an anonymous user has not been given access"),
        ("bad name", "", "", ModelNotFound, "`bad name`"),
    ],
)
def test_refusals_become_our_errors(
    hub: FakeHub, client: HubClient, repo: str, revision: str, path: str, error: type[FastSLMError], words: str
) -> None:
    """One clear sentence each, of the class that the exit code comes from."""
    hub.add_repo("org/tiny", FILES)
    hub.add_repo("org/private", FILES, private=True)
    hub.add_repo("org/gated", FILES, gated=True)

    def ask() -> None:
        commit = client.resolve_revision(repo, revision)
        client.locate(repo, commit, path)

    with pytest.raises(error) as caught:
        ask()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not str(caught.value).endswith(".")


def test_a_bad_token_is_told_from_a_missing_repository(hub: FakeHub, hub_settings: Settings) -> None:
    """The hub says that the credentials are invalid, and so do we."""
    hub.add_repo("org/tiny", FILES)
    client = HubClient(dataclasses.replace(hub_settings, token="hf_wrong"), QUICK)
    with pytest.raises(AccessDenied, match="does not accept the token"):
        client.resolve_revision("org/tiny")


def test_a_stranger_at_a_gate(hub: FakeHub, hub_settings: Settings) -> None:
    """A token without access gets another sentence than no token."""
    repo = hub.add_repo("org/gated", FILES, gated=True)
    client = HubClient(dataclasses.replace(hub_settings, token="hf_stranger"), QUICK)
    with pytest.raises(AccessDenied, match="the token has not been given access"):
        client.locate("org/gated", repo.refs["main"], "config.json")


def test_a_busy_hub_is_asked_again(hub: FakeHub, client: HubClient) -> None:
    """One 503 is not the end."""
    hub.add_repo("org/tiny", FILES)
    hub.add_fault(Fault("status", origin="hub", path="/revision/main", status=503, times=1))
    assert client.resolve_revision("org/tiny", "main")


@pytest.mark.parametrize(
    ("status", "headers", "error", "retry_after"),
    [
        (429, {"Retry-After": "100"}, ServerBusy, 100.0),
        (429, {"RateLimit": '"api";r=0;t=200'}, ServerBusy, 200.0),
        (500, {}, ServerBusy, 0.0),
        (418, {}, ServerRefused, None),
    ],
)
def test_statuses(
    hub: FakeHub, client: HubClient, status: int, headers: dict[str, str], error: type, retry_after: float | None
) -> None:
    """Rate limits carry the time to wait; it is not waited for when that would pass the deadline."""
    hub.add_fault(Fault("status", origin="hub", status=status, headers=headers))
    started = time.monotonic()
    with pytest.raises(error) as caught:
        client.resolve_revision("org/tiny")
    assert caught.value.status == status
    assert getattr(caught.value, "retry_after_s", None) == retry_after
    assert time.monotonic() - started < 4


def test_a_mute_hub_does_not_hang_the_planner(hub: FakeHub) -> None:
    """The library's calls to the API have no time-out. (In a process of its own, which ends what is left behind.)"""
    hub.add_fault(Fault("mute", origin="hub"))
    script = f"""
import time
from pathlib import Path
from fastslm.config import Settings
from fastslm.errors import ConnectionLost
from fastslm.hub.client import HubClient, Patience
client = HubClient(Settings(Path("home"), Path("cache"), {hub.endpoint!r}), Patience(0.5, 0.5, 0.5))
for call, arguments in (("resolve_revision", 1), ("list_files", 2), ("locate", 3)):
    started = time.monotonic()
    try:
        getattr(client, call)(*("org/tiny", "0" * 40, "config.json")[:arguments])
        raise SystemExit("an answer from a mute hub")
    except ConnectionLost as error:
        assert "within 0.5 s" in str(error), error
    assert time.monotonic() - started < 3
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=30)


def test_nobody_listens(hub_settings: Settings) -> None:
    """A refused connection is a network error, at once."""
    client = HubClient(dataclasses.replace(hub_settings, endpoint="http://127.0.0.1:9"), QUICK)
    with pytest.raises(ConnectionLost, match="cannot talk to"):
        client.resolve_revision("org/tiny")


def test_offline_asks_nobody(hub: FakeHub, hub_settings: Settings) -> None:
    """Not a single request leaves."""
    client = HubClient(dataclasses.replace(hub_settings, offline=True), QUICK)
    with pytest.raises(OfflineMode):
        client.resolve_revision("org/tiny")
    assert hub.log() == []


@pytest.mark.parametrize("body", ["", "[]", "{}", '{"id": "org/tiny", "sha": "../../x"}', "not json"])
def test_nonsense_from_the_hub_is_refused(hub: FakeHub, client: HubClient, body: str) -> None:
    """A proxy's login page or a hostile answer never becomes a commit."""
    hub.answers["/api/models/org/tiny"] = body.encode()
    with pytest.raises(ServerRefused):
        client.resolve_revision("org/tiny")


def test_importing_the_hub_loads_no_library() -> None:
    """The import is late, and telemetry is off before it happens."""
    script = (
        "import sys, fastslm.hub\n"
        "assert 'huggingface_hub' not in sys.modules\n"
        "from fastslm.hub.client import _library\n"
        "assert _library().constants.HF_HUB_DISABLE_TELEMETRY is True\n"
    )
    folder = Path(fastslm.__file__).parent.parent
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60, cwd=folder)


def test_the_generation_is_known_without_an_import() -> None:
    """0 or 2: what the adapter is tested with."""
    import huggingface_hub

    assert library_generation() == int(huggingface_hub.__version__.split(".")[0])


def test_only_the_adapter_imports_the_library() -> None:
    """Two generations of the library are a matter of one file."""
    importers = set()
    for path in Path(fastslm.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.split(".")[0] == "huggingface_hub" for name in names):
                importers.add(path.name)
    assert importers == {"client.py"}
