"""The mirror on the wire: what the standard asks of it, and what strangers try."""

from __future__ import annotations

import contextlib
import json
import socket
import urllib.error
import urllib.request
from email.message import Message
from urllib.parse import urlsplit

import pytest

from fastslm.mirror import answers
from fastslm.mirror.shelf import Shelf

FILE = "/org/tiny/resolve/main/model.safetensors"


def _ask(url: str, method: str = "GET", data: bytes | None = None, **headers: str) -> tuple[int, Message, bytes]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, method=method, headers=named, data=data)
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=20) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def _raw(address: str, request: bytes) -> bytes:
    """What the server says to these bytes, until it closes or has nothing more to say."""
    with socket.create_connection((urlsplit(address).hostname, urlsplit(address).port), timeout=1) as connection:
        said = b""
        with contextlib.suppress(OSError):
            connection.sendall(request)
            while block := connection.recv(65536):
                said += block
    return said


def test_head_says_what_get_would(mirror: str, shelf: Shelf, weights: bytes) -> None:
    """Hash, size and commit, for regular and for large files."""
    commit = shelf.commit_of("org/tiny", "main")
    status, head, body = _ask(mirror + FILE, "HEAD")
    large = shelf.stored("org/tiny", commit, "model.safetensors").file
    assert (status, body) == (200, b"")
    assert head["ETag"] == head["X-Linked-Etag"] == f'"{large.sha256}"'
    assert head["Content-Length"] == head["X-Linked-Size"] == str(len(weights))
    assert head["X-Repo-Commit"] == commit
    status, head, body = _ask(f"{mirror}/org/tiny/resolve/{commit}/config.json")
    small = shelf.stored("org/tiny", commit, "config.json").file
    assert (status, head["ETag"], head["X-Linked-Etag"]) == (200, f'"{small.blob_id}"', None)
    assert len(body) == small.size


def test_ranges(mirror: str, weights: bytes) -> None:
    """206 with the right bytes, 416 with the size, the whole file when If-Range does not fit, 304 for who has it."""
    status, head, body = _ask(mirror + FILE, Range="bytes=1000000-2000000")
    assert (status, body) == (206, weights[1_000_000:2_000_001])
    assert head["Content-Range"] == f"bytes 1000000-2000000/{len(weights)}"
    assert _ask(mirror + FILE, Range="bytes=-7")[2] == weights[-7:]
    status, head, _ = _ask(mirror + FILE, Range="bytes=99999999-")
    assert (status, head["Content-Range"]) == (416, f"bytes */{len(weights)}")
    status, _, body = _ask(mirror + FILE, Range="bytes=5-", If_Range='"other"')
    assert (status, len(body)) == (200, len(weights))
    assert _ask(mirror + FILE, If_None_Match="*")[0] == 304
    assert _ask(f"{mirror}/org/tiny/resolve/main/empty.txt", Range="bytes=0-")[0] == 416
    assert _ask(f"{mirror}/org/tiny/resolve/main/empty.txt")[::2] == (200, b"")


def test_listings_come_in_pages(mirror: str) -> None:
    """The address of the next page is complete, and the pages together are the listing."""
    url: str | None = f"{mirror}/api/models/org/tiny/tree/main?recursive=true&limit=2"
    paths, pages = [], 0
    while url and pages < 20:
        _, head, body = _ask(url)
        paths += [entry["path"] for entry in json.loads(body)]
        url, pages = (head["Link"] or "").partition(">")[0].removeprefix("<") or None, pages + 1
    assert pages == 4
    assert sorted(paths) == sorted(["README.md", "config.json", "empty.txt", "model.safetensors", "sub folder",
                                    "sub folder/\u00e4.json", "tokenizer.json"])  # fmt: skip


def test_a_folder_that_is_not_there(mirror: str) -> None:
    """It is a missing entry, as at the hub."""
    status, head, _ = _ask(f"{mirror}/api/models/org/tiny/tree/main/nowhere")
    assert (status, head["X-Error-Code"]) == (404, "EntryNotFound")


def test_packed_frames_only_for_who_asks(mirror: str, weights: bytes) -> None:
    """A curious client gets frames by name and no length; anyone else gets the file; small files are never packed."""
    from fastslm import _native

    status, head, body = _ask(mirror + FILE, X_Fastslm_Accept=_native.PLANES_ENCODING, Range="bytes=1-500000")
    assert (status, head["X-Fastslm-Encoding"]) == (206, _native.PLANES_ENCODING)
    assert head["Content-Range"] == f"bytes 1-500000/{len(weights)}"
    assert head["Content-Length"] is None
    size = 32 + int.from_bytes(body[20:24], "little")
    assert weights[1:].startswith(_native.unpack_frame(body[:size], offset=1))
    assert _ask(mirror + FILE, X_Fastslm_Accept="planes-99")[1]["X-Fastslm-Encoding"] is None
    small = _ask(f"{mirror}/org/tiny/resolve/main/tokenizer.json", X_Fastslm_Accept=_native.PLANES_ENCODING)
    assert (small[1]["X-Fastslm-Encoding"], len(small[2])) == (None, 70_000)


@pytest.mark.parametrize(
    "path",
    [
        "/org/tiny/resolve/main/../../../../etc/passwd",
        "/org/tiny/resolve/main/%2e%2e/%2e%2e/%2e%2e/blobs",
        "/org/tiny/resolve/main/..%2f..%2fblobs",
        "/org/tiny/resolve/..%2f..%2frefs/main",
        "/..%2f..%2fetc/x/resolve/main/passwd",
        "/org/tiny/resolve/main//etc/passwd",
        "/org/tiny/resolve/main/model.safetensors%00",
        "/org/tiny/resolve/main/.fastslm",
        "/org/tiny/blobs/x",
        "/.locks/x/resolve/main/y",
        "/api/models/../../x",
        "/api/models/org%2Ftiny/../x",
    ],
)
def test_nothing_but_published_files_can_be_had(mirror: str, path: str) -> None:
    """However the way out is written."""
    said = _raw(mirror, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    assert said.startswith((b"HTTP/1.1 404", b"HTTP/1.1 400"))


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"",
        b"\0\0\0\0",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /api/models HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
        b"GET /api/models HTTP/1.1\r\nHost: a b\r\nConnection: close\r\n\r\n",
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
        b"POST /api/models/org/tiny/paths-info/main HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n",
        b"POST /api/models/org/tiny/paths-info/main HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"PUT /org/tiny/resolve/main/x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"DELETE /api/models/org/tiny HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    ],
)
def test_hostile_requests_are_refused_and_the_mirror_lives(mirror: str, request_bytes: bytes) -> None:
    """No answer, or one that begins with a four; the next client is served."""
    said = _raw(mirror, request_bytes)
    assert not said or said.startswith((b"HTTP/1.1 4", b"HTTP/1.1 3"))
    assert _ask(f"{mirror}/api/models")[0] == 200


def test_a_form_that_is_too_large_is_cut(mirror: str) -> None:
    """A megabyte of paths is enough for anybody."""
    url = f"{mirror}/api/models/org/tiny/paths-info/main"
    assert json.loads(_ask(url, "POST", b"paths=config.json")[2])[0]["path"] == "config.json"
    status, _, body = _ask(url, "POST", b"paths=config.json&paths=" + b"x" * (2 << 20))
    assert (status, json.loads(body)) == (413, {"error": "the form has more than 1048576 bytes"})


def test_clients_that_leave_and_clients_that_wait(mirror: str, weights: bytes) -> None:
    """Half-read files and silent connections cost the others nothing."""
    host = (urlsplit(mirror).hostname, urlsplit(mirror).port)
    request = f"GET {FILE} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    with contextlib.ExitStack() as idle:
        for number in range(40):
            connection = idle.enter_context(socket.create_connection(host, timeout=5))
            if number % 2:
                connection.sendall(request)
        assert _ask(mirror + FILE)[2] == weights


def test_no_token_is_looked_at_or_repeated(mirror: str) -> None:
    """A client's token is not needed, and comes back in no header and no body."""
    for path in ("/api/models/org/tiny", "/org/no/resolve/main/x", FILE):
        status, head, body = _ask(mirror + path, Authorization="Bearer hf_secret")
        assert status in {200, 404}
        assert "hf_secret" not in str(head)
        assert b"hf_secret" not in body


def test_messages_cannot_break_the_header() -> None:
    """Whatever a name holds, a refusal stays one header line of ASCII."""
    answer = answers.refused(404, "a\r\nb: c\u00e4", "X")
    assert answer.headers["x-error-message"] == "a??b: c?"
