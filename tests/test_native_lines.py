"""What lies between the engine and a server: certificates, proxies, names, addresses of both generations.

A line that cannot work ends in one clear error, soon and without a storm of attempts.
"""

from __future__ import annotations

import hashlib
import random
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme

from fastslm import _native, errors
from support.range_server import Fault, serving

DATA = random.Random(3).randbytes(300_000)
ATTEMPTS = 3
CONNECTIONS = 2


def fetch(url: str, folder: Path, **options: Any) -> _native.FileProgress:
    """Download the one file that all servers here have."""
    file = _native.FileRequest(
        url=url,
        partial_path=str(folder / "file.partial"),
        journal_path=str(folder / "file.journal"),
        size_bytes=len(DATA),
        hash_algorithm="sha256",
        expected_hash=hashlib.sha256(DATA).hexdigest(),
    )
    patience: dict[str, Any] = {"backoff_s": 0.01, "stall_timeout_s": 0.5, "connect_timeout_s": 1.0}
    given = {"max_attempts": ATTEMPTS, "connections": CONNECTIONS, **patience, **options}
    download = _native.Download([file], _native.DownloadOptions(**given))
    assert download.wait(30)
    return download.progress().files[0]


def error_of(url: str, folder: Path, **options: Any) -> errors.FastSLMError:
    """Why the download failed; nothing of it is kept."""
    file = fetch(url, folder, **options)
    assert file.state == "failed"
    assert file.error is not None
    assert list(folder.iterdir()) == []
    return file.error


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 10

    def log_message(self, *_: Any) -> None:
        """The tests look at the file."""

    def do_GET(self) -> None:
        first, last = 0, len(DATA) - 1
        if text := self.headers.get("Range", ""):
            first, last = (int(part) for part in text.removeprefix("bytes=").split("-"))
        self.send_response(206 if text else 200)
        self.send_header("Content-Length", str(last - first + 1))
        if text:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(DATA)}")
        self.end_headers()
        self.wfile.write(DATA[first : last + 1])


@contextmanager
def running(server: ThreadingHTTPServer) -> Iterator[int]:
    """The server in a thread; its port."""
    server.daemon_threads, server.block_on_close = True, False
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that hangs up is part of the tests
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join(5)
        server.server_close()


@contextmanager
def secure(certificate: trustme.LeafCert) -> Iterator[int]:
    """A server that shows this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    with running(server) as port:
        yield port


@dataclass
class Line:
    """A listener that does with each connection what it is told, and counts them."""

    port: int
    accepted: int = 0
    heard: list[bytes] = field(default_factory=list)


@contextmanager
def listening(answer: Callable[[socket.socket, Line], None]) -> Iterator[Line]:
    """Everything below HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)
        line, ending = Line(listener.getsockname()[1]), threading.Event()
        held: list[socket.socket] = []

        def serve() -> None:
            while not ending.is_set():
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    continue
                line.accepted += 1
                held.append(connection)
                connection.settimeout(2)
                answer(connection, line)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield line
        finally:
            ending.set()
            thread.join(5)
            for connection in held:
                connection.close()


def silence(connection: socket.socket, line: Line) -> None:
    """Accept and say nothing."""


def hang_up(connection: socket.socket, line: Line) -> None:
    """Hear the request and close."""
    line.heard.append(connection.recv(4096))
    connection.close()


def test_a_certificate_of_ones_own_authority_is_trusted_when_it_is_given(tmp_path: Path) -> None:
    """As SSL_CERT_FILE does; without it the same server is refused."""
    authority = trustme.CA()
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    folder = tmp_path / "files"
    folder.mkdir()
    with secure(authority.issue_cert("127.0.0.1")) as port:
        error = error_of(f"https://127.0.0.1:{port}/f", folder)
        assert isinstance(error, errors.ServerRefused)
        assert "certificate" in str(error)
        assert fetch(f"https://127.0.0.1:{port}/f", folder, ca_file=str(bundle)).state == "verified"


def test_an_expired_certificate_and_one_for_another_host_are_refused_at_once(tmp_path: Path) -> None:
    """Neither becomes right by trying again."""
    authority = trustme.CA()
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    folder = tmp_path / "files"
    folder.mkdir()
    yesterday = datetime.now(timezone.utc) - timedelta(days=1)
    expired = authority.issue_cert("127.0.0.1", not_before=yesterday - timedelta(days=9), not_after=yesterday)
    for certificate in (expired, authority.issue_cert("another.example")):
        with secure(certificate) as port:
            error = error_of(f"https://127.0.0.1:{port}/f", folder, ca_file=str(bundle))
            assert isinstance(error, errors.ServerRefused)


def test_a_handshake_that_never_ends_is_given_up(tmp_path: Path) -> None:
    """After as many attempts as are allowed on each connection, and no more."""
    with listening(silence) as line:
        error = error_of(f"https://127.0.0.1:{line.port}/f", tmp_path, connect_timeout_s=0.2)
        assert isinstance(error, errors.ConnectionLost)
        assert line.accepted <= ATTEMPTS * CONNECTIONS


@pytest.mark.parametrize("url", ["http://nobody.invalid/f", "http://127.0.0.1:9/f"], ids=["no such name", "refused"])
def test_a_host_that_is_not_there_is_a_lost_connection(tmp_path: Path, url: str) -> None:
    """Told with the address."""
    error = error_of(url, tmp_path)
    assert isinstance(error, errors.ConnectionLost)
    assert url in str(error)


def test_a_proxy_that_wants_a_password_gets_it_from_its_address(tmp_path: Path) -> None:
    """And only the proxy; the password is in no error."""
    with serving({"http://files.invalid/f": DATA}) as proxy:
        address = proxy.url("").replace("http://", "http://user:geheim@")
        assert fetch("http://files.invalid/f", tmp_path, proxy=address).state == "verified"
        assert all(seen.headers["proxy-authorization"].startswith("Basic ") for seen in proxy.seen)
        proxy.always = Fault(status=407)
    (tmp_path / "file.partial").unlink()
    with serving({}, always=Fault(status=407)) as proxy:
        address = proxy.url("").replace("http://", "http://user:geheim@")
        error = error_of("http://files.invalid/f", tmp_path, proxy=address)
        assert isinstance(error, errors.ServerRefused)
        assert error.status == 407
        assert "geheim" not in str(error)
        assert len(proxy.seen) <= CONNECTIONS


def test_a_proxy_that_drops_the_tunnel_is_a_lost_connection(tmp_path: Path) -> None:
    """A few attempts, then the end."""
    with listening(hang_up) as line:
        error = error_of("https://files.invalid/f", tmp_path, proxy=f"http://127.0.0.1:{line.port}")
        assert isinstance(error, errors.ConnectionLost)
        assert line.accepted <= ATTEMPTS * CONNECTIONS
        assert all(heard.startswith(b"CONNECT files.invalid:443 ") for heard in line.heard)


def test_the_newer_addresses_work(tmp_path: Path) -> None:
    """A server on the loopback of IPv6."""

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6

    try:
        server = Server(("::1", 0), _Handler)
    except OSError:
        pytest.skip("this machine has no IPv6")
    with running(server) as port:
        assert fetch(f"http://[::1]:{port}/f", tmp_path).state == "verified"
