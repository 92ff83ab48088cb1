"""How the scripted hub answers one request: the hub's protocol, the CDN's, and the faults."""

from __future__ import annotations

import json
import socket
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from support.hub_repos import HubFile, HubRepo, Request

if TYPE_CHECKING:
    from support.hub_server import Server

MASK = "*" * 64


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 20
    disable_nagle_algorithm = True
    server: Server

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
