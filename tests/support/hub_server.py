"""A scripted hub in a thread: two origins (hub and CDN), the hub's protocol, and faults on demand.

    with FakeHub() as hub:
        repo = hub.add_repo("org/tiny", {"config.json": b"{}", "model.safetensors": data})
        hub.add_fault(Fault("flip", path="model.safetensors", origin="cdn"))
        ... hub.endpoint ... hub.requests ...

The official client is satisfied by it (``tests/hub/test_hub_server.py``), so what it answers is what the hub answers.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

MASK = "*" * 64
LFS_SUFFIXES = (".safetensors", ".gguf", ".bin", ".onnx")


@dataclass(frozen=True)
class HubFile:
    """One file; ``lfs`` decides whether the CDN serves it."""

    data: bytes
    lfs: bool

    @cached_property
    def blob_id(self) -> str:
        body = f"pointer {self.sha256}".encode() if self.lfs else self.data
        return hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.blob_id


@dataclass
class HubRepo:
    """One repository: commits, and the branches that point to them."""

    name: str
    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, HubFile]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def commit(self, files: Mapping[str, bytes], branch: str = "main") -> str:
        """Make a commit of these files the head of a branch."""
        kept = {path: HubFile(data, path.endswith(LFS_SUFFIXES)) for path, data in files.items()}
        text = json.dumps([self.name, len(self.commits), sorted((p, f.etag) for p, f in kept.items())])
        commit = hashlib.sha1(text.encode()).hexdigest()
        self.commits[commit] = kept
        self.refs[branch] = commit
        return commit


@dataclass(frozen=True)
class Request:
    """One line of the log."""

    origin: str
    method: str
    path: str
    query: str
    range: str
    authorization: str


@dataclass
class Fault:
    """Something that goes wrong with requests to ``origin`` whose address or file ends with ``path``.

    ``kind``: ``status`` (answers ``status``), ``flip`` (byte ``offset`` of the file is wrong), ``drop`` (the connection
    is cut when byte ``offset`` of the file is next), ``shift`` (Content-Range is one off), ``whole`` (200 for a range),
    ``mute`` (accepts and never answers), ``slow`` (``delay_s`` before each 64 KiB).
    The first ``skip`` matching requests are served well, then ``times`` of them go wrong.
    """

    kind: str
    path: str = ""
    origin: str = "cdn"
    method: str = ""
    status: int = 500
    offset: int = 0
    delay_s: float = 0.0
    skip: int = 0
    times: int = 1_000_000
    headers: dict[str, str] = field(default_factory=dict)


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
        self._servers = {name: _Server(self, name) for name in ("hub", "cdn")}

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


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, hub: FakeHub, name: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
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


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 20
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, *_: object) -> None:
        """The log is kept in ``FakeHub.requests``."""

    def do_HEAD(self) -> None:
        self._serve()

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._serve()

    def _serve(self) -> None:
        self.hub, self.url = self.server.hub, urlsplit(self.path)
        headers = self.headers
        self.hub.note(
            Request(
                origin=self.server.name,
                method=self.command,
                path=unquote(self.url.path),
                query=self.url.query,
                range=headers.get("Range", ""),
                authorization=headers.get("Authorization", ""),
            )
        )
        scripted = self.hub.answers.get(unquote(self.url.path)) if self.server.name == "hub" else None
        if scripted is not None:
            self._answer(200, scripted, {"Content-Type": "application/json"})
        elif not self._fail_early():
            (self._cdn if self.server.name == "cdn" else self._hub)()

    def _fail_early(self) -> bool:
        name = parse_qs(self.url.query).get("file", [unquote(self.url.path)])[0]
        self.fault = self.hub.fault_for(self.server.name, self.command, name)
        if self.fault is None or self.fault.kind not in {"status", "mute"}:
            return False
        if self.fault.kind == "mute":
            self.hub.wait_closing(15)
            self.close_connection = True
        else:
            self._answer(self.fault.status, b"scripted fault", self.fault.headers)
        return True

    # the hub

    def _hub(self) -> None:
        parts = [unquote(part) for part in self.url.path.strip("/").split("/")]
        if parts[:2] == ["api", "models"]:
            self._api(parts[2:])
        elif parts[:3] == ["api", "resolve-cache", "models"]:
            self._resolve(parts[3:], cached=True)
        elif "resolve" in parts[1:3]:
            at = parts.index("resolve", 1)
            self._resolve(["/".join(parts[:at]), *parts[at + 1 :]], cached=False)
        else:
            self._refuse(404, "", "not found")

    def _api(self, parts: list[str]) -> None:
        verbs = {"revision", "tree", "paths-info", "refs"}
        at = next((index for index, part in enumerate(parts) if part in verbs and index), len(parts))
        repo = self._repo("/".join(parts[:at]))
        if repo is None:
            return
        verb, rest = (parts[at], parts[at + 1 :]) if at < len(parts) else ("revision", ["main"])
        if verb == "refs":
            branches = [{"name": n, "ref": f"refs/heads/{n}", "targetCommit": c} for n, c in repo.refs.items()]
            self._json({"branches": branches, "tags": [], "converts": []})
            return
        commit = self._commit(repo, rest[0])
        if commit is None:
            return
        if verb == "revision":
            self._json(self._info(repo, commit))
        elif verb == "tree":
            self._tree(repo, commit)
        else:
            wanted = parse_qs(self._body.decode()).get("paths", [])
            self._json([self._entry(repo, path, file) for path, file in repo.commits[commit].items() if path in wanted])

    def _info(self, repo: HubRepo, commit: str) -> dict[str, Any]:
        files = repo.commits[commit]
        return {
            "_id": "0" * 24,
            "id": repo.name,
            "modelId": repo.name,
            "sha": commit,
            "private": repo.private,
            "gated": "manual" if repo.gated else False,
            "disabled": False,
            "tags": [],
            "downloads": 0,
            "likes": 0,
            "siblings": [{"rfilename": path} for path in sorted(files)],
        }

    def _tree(self, repo: HubRepo, commit: str) -> None:
        files = sorted(repo.commits[commit].items())
        folders = sorted({path.rsplit("/", 1)[0] for path, _ in files if "/" in path})
        entries: list[dict[str, Any]] = [{"type": "directory", "path": p, "size": 0, "oid": "0" * 40} for p in folders]
        entries += [self._entry(repo, path, file) for path, file in files]
        start = int(parse_qs(self.url.query).get("cursor", ["0"])[0])
        stop = start + self.hub.page_size
        headers = {}
        if stop < len(entries):
            address = f"{self.hub.endpoint}{self.url.path}?recursive=true&expand=false&cursor={stop}"
            headers["Link"] = f'<{address}>; rel="next"'
        self._json(entries[start:stop], headers)

    def _entry(self, repo: HubRepo, path: str, file: HubFile) -> dict[str, Any]:
        entry: dict[str, Any] = {"type": "file", "path": path, "size": len(file.data), "oid": file.blob_id}
        if file.lfs:
            oid = MASK if repo.gated and not self._has_access() else file.sha256
            entry["lfs"] = {"oid": oid, "size": len(file.data), "pointerSize": 134}
        return entry

    def _resolve(self, parts: list[str], *, cached: bool) -> None:
        if cached and "/".join(parts[:2]) in self.hub.repos:
            parts = ["/".join(parts[:2]), *parts[2:]]
        repo = self._repo(parts[0], f"/resolve/{quote('/'.join(parts[1:]))}")
        commit = self._commit(repo, parts[1]) if repo is not None else None
        if repo is None or commit is None:
            return
        if repo.gated and not self._has_access():
            self._refuse(403 if self._token() else 401, "GatedRepo", f"Access to model {repo.name} is restricted")
            return
        path = "/".join(parts[2:])
        file = repo.commits[commit].get(path)
        if file is None:
            self._refuse(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": commit})
        elif file.lfs:
            self._redirect_to_cdn(file, path, commit)
        elif cached:
            self._file(file.data, {"ETag": f'"{file.etag}"', "X-Repo-Commit": commit})
        else:
            target = f"/api/resolve-cache/models/{repo.name}/{commit}/{quote(path)}?etag=%22{file.etag}%22"
            self._answer(307, b"", {"Location": target, "X-Repo-Commit": commit, "X-Linked-Size": str(len(file.data))})

    def _redirect_to_cdn(self, file: HubFile, path: str, commit: str) -> None:
        headers = {
            "Location": self.hub.signed(file, path),
            "X-Repo-Commit": commit,
            "X-Linked-Etag": f'"{file.sha256}"',
            "X-Linked-Size": str(len(file.data)),
        }
        self._answer(302, b"", headers)

    def _token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def _has_access(self) -> bool:
        return self._token() in self.hub.tokens

    def _repo(self, name: str, rest: str = "") -> HubRepo | None:
        if self._token() and self._token() not in self.hub.known_tokens:
            self._refuse(401, "", "Invalid credentials in Authorization header")
            return None
        if name in self.hub.renamed:
            target = self.path.replace(quote(name), quote(self.hub.renamed[name]), 1)
            self._answer(307, b"", {"Location": target})
            return None
        repo = self.hub.repos.get(name)
        if repo is None or (repo.private and not self._has_access()):
            self._refuse(404 if self._token() else 401, "RepoNotFound", "Repository not found")
            return None
        return repo

    def _commit(self, repo: HubRepo, revision: str) -> str | None:
        commit = repo.refs.get(revision, revision)
        if commit in repo.commits:
            return commit
        self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return None

    # the CDN

    def _cdn(self) -> None:
        sha256 = self.url.path.rsplit("/", 1)[-1]
        data = self.hub.find_data(sha256)
        if data is None:
            self._answer(404, b"no such object")
        elif not self.hub.link_is_good(sha256, self.url.query):
            self._answer(403, b"Request has expired")
        else:
            self._file(data, {"ETag": f'"cdn-{sha256[:8]}"'})

    # bodies

    def _file(self, data: bytes, headers: dict[str, str]) -> None:
        total, fault = len(data), self.fault
        span = self._span(total) if not (fault and fault.kind == "whole") else None
        if span == "bad":
            self._answer(416, b"", {"Content-Range": f"bytes */{total}"})
            return
        first, last = span if isinstance(span, tuple) else (0, total - 1)
        headers = {**headers, "Accept-Ranges": "bytes", "Content-Length": str(last - first + 1)}
        if isinstance(span, tuple):
            shift = 1 if fault and fault.kind == "shift" else 0
            headers["Content-Range"] = f"bytes {first + shift}-{last + shift}/{total}"
        self._start(206 if isinstance(span, tuple) else 200, headers)
        if self.command != "HEAD":
            self._send_body(data, first, last + 1)

    def _send_body(self, data: bytes, start: int, stop: int) -> None:
        fault = self.fault
        if fault and fault.kind == "flip":
            data = data[: fault.offset] + bytes([data[fault.offset] ^ 1]) + data[fault.offset + 1 :]
        cut = fault.offset if fault and fault.kind == "drop" else stop
        for at in range(start, min(stop, cut), 65536):
            if fault and fault.kind == "slow" and self.hub.wait_closing(fault.delay_s):
                break
            self.wfile.write(data[at : min(at + 65536, stop, cut)])
        if cut < stop:
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

    def _span(self, total: int) -> tuple[int, int] | str | None:
        text = self.headers.get("Range", "")
        if not text.startswith("bytes="):
            return None
        first, _, last = text.removeprefix("bytes=").partition("-")
        start, stop = int(first), min(int(last) if last else total - 1, total - 1)
        return (start, stop) if start <= stop else "bad"

    def _json(self, value: object, headers: dict[str, str] | None = None) -> None:
        self._answer(200, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _refuse(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        extra = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {}), **(headers or {})}
        self._answer(status, json.dumps({"error": message}).encode(), extra)

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self._start(status, {"Content-Length": str(len(body)), **(headers or {})})
        if self.command != "HEAD":
            self.wfile.write(body)

    def _start(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
