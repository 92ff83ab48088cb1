"""Bodies and headers of the hub's protocol, and the one table from our errors to its refusals. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote, urlencode

from fastslm.errors import (
    AccessDenied,
    DiskFull,
    FastSLMError,
    FileMissing,
    IntegrityError,
    ModelNotFound,
    NetworkError,
    OfflineMode,
    RevisionNotFound,
    ServerBusy,
    ServerRefused,
)
from fastslm.hub.client import RemoteFile
from fastslm.mirror.shelf import etag_of

PAGE = 1000
"""Entries of one page of a listing, as on the hub."""

Json = Mapping[str, object] | Sequence[Mapping[str, object]]


@dataclass(frozen=True)
class Answer:
    """A complete response."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


def as_json(value: Json, headers: Mapping[str, str] | None = None, status: int = 200) -> Answer:
    """An answer with a JSON body."""
    body = json.dumps(value, ensure_ascii=True).encode("ascii")
    return Answer(status, {"content-type": "application/json", **(headers or {})}, body)


REFUSALS: tuple[tuple[type[FastSLMError], int, str], ...] = (
    (RevisionNotFound, 404, "RevisionNotFound"),
    (FileMissing, 404, "EntryNotFound"),
    (ModelNotFound, 404, "RepoNotFound"),
    (AccessDenied, 403, "GatedRepo"),
    (DiskFull, 507, ""),
    (OfflineMode, 504, ""),
    (ServerBusy, 503, ""),
    (ServerRefused, 502, ""),
    (NetworkError, 504, ""),
    (IntegrityError, 502, ""),
)
"""Class, status and ``X-Error-Code``; the first that fits counts. Anything else is 500 and says nothing of itself."""


def refusal(error: FastSLMError) -> Answer:
    """What a client is told of an error."""
    for kind, status, code in REFUSALS:
        if isinstance(error, kind):
            return refused(status, error.message, code, _when_to_return(error))
    return refused(500, "the mirror cannot answer")


def refused(status: int, message: str, code: str = "", more: Mapping[str, str] | None = None) -> Answer:
    """A refusal in the hub's form."""
    shown = "".join(letter if 32 <= ord(letter) < 127 else "?" for letter in message)[:500]
    headers = {"x-error-message": shown, **({"x-error-code": code} if code else {}), **(more or {})}
    return as_json({"error": shown}, headers, status)


def _when_to_return(error: FastSLMError) -> dict[str, str]:
    seconds = int(error.retry_after_s) if isinstance(error, ServerBusy) else 0
    return {"retry-after": str(seconds)} if seconds > 0 else {}


def info(repo: str, commit: str, files: Sequence[RemoteFile], *, blobs: bool = False) -> dict[str, object]:
    """What ``/api/models/{repo}`` says; with sizes and hashes when ``blobs``."""
    siblings = [{"rfilename": file.path, **(_blob(file) if blobs else {})} for file in files]
    plain: dict[str, object] = {"private": False, "gated": False, "disabled": False}
    counts: dict[str, object] = {"tags": [], "downloads": 0, "likes": 0}
    return {"_id": commit[:24], "id": repo, "modelId": repo, "sha": commit, **plain, **counts, "siblings": siblings}


def _blob(file: RemoteFile) -> dict[str, object]:
    lfs = {"sha256": file.sha256, "size": file.size, "pointerSize": _pointer_size(file)}
    return {"size": file.size, "blobId": file.blob_id, **({"lfs": lfs} if file.sha256 else {})}


def _pointer_size(file: RemoteFile) -> int:
    return len(f"version https://git-lfs.github.com/spec/v1\noid sha256:{file.sha256}\nsize {file.size}\n")


def entry(file: RemoteFile) -> dict[str, object]:
    """One file of a listing."""
    lfs = {"oid": file.sha256 or "*" * 64, "size": file.size, "pointerSize": _pointer_size(file)}
    more = {"lfs": lfs} if file.sha256 or file.masked else {}
    return {"type": "file", "oid": file.blob_id, "size": file.size, "path": file.path, **more}


def tree(files: Sequence[RemoteFile], folder: str, *, recursive: bool) -> list[dict[str, object]]:
    """Everything below a folder, or only what is in it; folders first. Empty when there is no such folder."""
    start = f"{folder}/" if folder else ""
    inside = [file for file in files if file.path.startswith(start)]
    folders: dict[str, list[str]] = {}
    for file in inside:
        parts = file.path.removeprefix(start).split("/")[:-1]
        for depth in range(1, len(parts) + 1 if recursive else min(len(parts), 1) + 1):
            folders.setdefault(start + "/".join(parts[:depth]), []).append(etag_of(file))
    shown = [file for file in inside if recursive or "/" not in file.path.removeprefix(start)]
    return [_folder(path, hashes) for path, hashes in sorted(folders.items())] + [entry(file) for file in shown]


def _folder(path: str, hashes: Sequence[str]) -> dict[str, object]:
    oid = hashlib.sha1("\n".join(hashes).encode(), usedforsecurity=False).hexdigest()
    return {"type": "directory", "oid": oid, "size": 0, "path": path}


def page(entries: Sequence[dict[str, object]], url: str, query: Mapping[str, str]) -> Answer:
    """A page of a listing, with the address of the next one; ``url`` is the address of the listing itself."""
    first, limit = _number(query.get("cursor"), 0), max(1, min(_number(query.get("limit"), PAGE), PAGE))
    rest = {**query, "cursor": str(first + limit)}
    link = {"link": f'<{url}?{urlencode(rest)}>; rel="next"'} if first + limit < len(entries) else {}
    return as_json(entries[first : first + limit], link)


def _number(text: str | None, default: int) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 10 else default


def refs(found: Mapping[str, str]) -> dict[str, object]:
    """What ``/api/models/{repo}/refs`` says: all that the cache calls by a name are branches, but for pull requests."""
    requests = {name: commit for name, commit in found.items() if name.startswith("refs/pr/")}
    converts = {name: commit for name, commit in found.items() if name.startswith("refs/convert/")}
    branches = {name: commit for name, commit in found.items() if name not in requests | converts}
    return {
        "branches": [_ref(name, f"refs/heads/{name}", commit) for name, commit in branches.items()],
        "converts": [_ref(name.rpartition("/")[2], name, commit) for name, commit in converts.items()],
        "tags": [],
        "pullRequests": [_ref(name.rpartition("/")[2], name, commit) for name, commit in requests.items()],
    }


def _ref(name: str, ref: str, commit: str) -> dict[str, object]:
    return {"name": name, "ref": ref, "targetCommit": commit}


def file_headers(file: RemoteFile, commit: str) -> dict[str, str]:
    """What every answer about a file says."""
    linked = {"x-linked-etag": f'"{file.sha256}"', "x-linked-size": str(file.size)} if file.sha256 else {}
    name = quote(file.path.rpartition("/")[2], safe="")
    return {
        "etag": f'"{etag_of(file)}"',
        "x-repo-commit": commit,
        "accept-ranges": "bytes",
        "content-type": "application/octet-stream",
        "content-disposition": f"attachment; filename*=UTF-8''{name}",
        "x-content-type-options": "nosniff",
        **linked,
    }
