"""A scripted hub in a thread: two origins (hub and CDN), the hub's protocol, and faults on demand.

    with FakeHub() as hub:
        repo = hub.add_repo("org/tiny", {"config.json": b"{}", "model.safetensors": data})
        hub.add_fault(Fault("flip", path="model.safetensors", origin="cdn"))
        ... hub.endpoint ... hub.requests ...

The official client is satisfied by it (``tests/hub/test_hub_server.py``), so what it answers is what the hub answers.
"""

from __future__ import annotations

import contextlib
import hmac
import socket
import threading
import time
from collections.abc import Mapping
from http.server import ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote

from support.hub_answers import Handler
from support.hub_repos import Fault, HubFile, HubRepo, Request

__all__ = ["FakeHub", "Fault", "HubFile", "HubRepo", "Request"]


class FakeHub:
    """The hub; a context manager.

    Tokens in ``tokens`` may see private and gated repositories; ``answers`` are bodies to give for whole paths.
    """

    def __init__(self, *, page_size: int = 1000, link_seconds: float = 3600.0) -> None:
        self.page_size = page_size
        self.link_seconds = link_seconds
        self.tokens = {"hf_good"}
        self.known_tokens = {"hf_good", "hf_stranger"}
        self.repos: dict[str, HubRepo] = {}
        self.renamed: dict[str, str] = {}
        self.answers: dict[str, bytes] = {}
        self.requests: list[Request] = []
        self._faults: list[Fault] = []
        self._epoch = 0
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._servers = {name: Server(self, name) for name in ("hub", "cdn")}

    def __enter__(self) -> FakeHub:
        for server in self._servers.values():
            server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        for server in self._servers.values():
            server.stop()

    @property
    def endpoint(self) -> str:
        return self._servers["hub"].address

    @property
    def cdn(self) -> str:
        return self._servers["cdn"].address

    def add_repo(self, name: str, files: Mapping[str, bytes], *, private: bool = False, gated: bool = False) -> HubRepo:
        repo = HubRepo(name, private=private, gated=gated)
        repo.commit(files)
        self.repos[name] = repo
        return repo

    def add_fault(self, fault: Fault) -> Fault:
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """Forget the log and the faults."""
        with self._lock:
            self.requests.clear()
            self._faults.clear()

    def expire_links(self) -> None:
        """From now on the CDN refuses every address it has given out so far."""
        with self._lock:
            self._epoch += 1

    def close_for_good(self) -> None:
        """Stop answering: the ports are closed, as when the network is gone."""
        for server in self._servers.values():
            server.stop()

    def log(self, origin: str = "", method: str = "", path: str = "") -> list[Request]:
        """The requests so far, filtered."""
        with self._lock:
            seen = list(self.requests)
        return [
            request
            for request in seen
            if request.origin.startswith(origin) and request.method.startswith(method) and path in request.path
        ]

    def signed(self, file: HubFile, path: str) -> str:
        """A CDN address that ends at a time, and with the epoch."""
        query = f"Expires={int(time.time() + self.link_seconds)}&epoch={self._epoch}&file={quote(path)}"
        return f"{self.cdn}/repos/{file.sha256}?{query}&Signature={self._signature(file.sha256, query)}"

    def link_is_good(self, sha256: str, query: str) -> bool:
        body, _, signature = query.rpartition("&Signature=")
        fields = parse_qs(body)
        fresh = int(fields.get("Expires", ["0"])[0]) > time.time() and fields.get("epoch") == [str(self._epoch)]
        return fresh and hmac.compare_digest(signature, self._signature(sha256, body))

    def find_data(self, sha256: str) -> bytes | None:
        for repo in self.repos.values():
            for files in repo.commits.values():
                for file in files.values():
                    if file.sha256 == sha256:
                        return file.data
        return None

    def note(self, request: Request) -> None:
        with self._lock:
            self.requests.append(request)

    def fault_for(self, origin: str, method: str, path: str) -> Fault | None:
        """The fault that meets this request, counted down."""
        with self._lock:
            for fault in self._faults:
                if fault.origin != origin or not path.endswith(fault.path) or not method.startswith(fault.method):
                    continue
                if fault.skip > 0:
                    fault.skip -= 1
                elif fault.times > 0:
                    fault.times -= 1
                    return fault
        return None

    def wait_closing(self, seconds: float) -> bool:
        return self._closing.wait(seconds)

    @staticmethod
    def _signature(sha256: str, query: str) -> str:
        return hmac.new(b"scripted", f"{sha256}?{query}".encode(), "sha256").hexdigest()[:32]


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, hub: FakeHub, name: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.hub, self.name = hub, name
        self.address = f"http://127.0.0.1:{self.server_address[1]}"
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._running = False
        self._connections: list[socket.socket] = []

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self._connections.append(connection)
        return connection, address

    def start(self) -> None:
        self._running = True
        self._thread.start()

    def stop(self) -> None:
        if self._running:
            self._running = False
            self.shutdown()
            self._thread.join(5)
            self.server_close()
            for connection in self._connections:  # kept alive, they would go on answering
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news."""
