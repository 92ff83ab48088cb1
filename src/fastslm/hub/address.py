"""A GGUF file at any https address: asked for with HEAD, fetched by the engine, kept under its name's hash.

The folder ``{downloads}/{sha256(name)[:16]}/`` holds the file and ``source.json`` (name, identity, size, SHA-256).
The identity is the server's ETag, else its date, together with the size; while it stays the file is not fetched again.
Law: the query of an address, which may be a secret, reaches the server and nothing else: no file and no message.
"""

from __future__ import annotations

import hashlib
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from email.message import Message
from http.client import HTTPException
from pathlib import Path
from typing import IO
from urllib.parse import urljoin, urlsplit

from fastslm.config import Settings
from fastslm.errors import (
    ConnectionLost,
    FileMissing,
    NetworkError,
    OfflineMode,
    ServerBusy,
    ServerRefused,
    UsageError,
)
from fastslm.hub import cache
from fastslm.hub.client import user_agent
from fastslm.hub.layout import file_errors, has_size
from fastslm.hub.plan import require_space
from fastslm.hub.refs import LOOPBACK_HOSTS, ModelRef, public_address
from fastslm.hub.transfer import Fetched, Job, Link, Moved, transfer
from fastslm.progress import Progress, ProgressCallback
from fastslm.store import atomic

PROBE_S = 20.0


@dataclass(frozen=True)
class Source:
    """What is known of a file at an address (by the ref's name); ``sha256`` is empty until it was fetched."""

    name: str
    identity: str
    size: int
    sha256: str = ""


def fetch_address(ref: ModelRef, settings: Settings, progress: ProgressCallback) -> Fetched:
    """Have the file of ``ref.url`` on disk, as the server has it now, or as it is here when nobody answers.

    Raises:
        OfflineMode, NetworkError: it is not here and cannot be had.
        FileMissing: the server does not know the address.
        DiskFull, FileSystemError: there is no room, or no right to write.
        UsageError: mirrors were given.
    """
    if settings.mirrors:
        message = f"`{public_address(ref.name)}` has no published hash, without which a mirror cannot be trusted"
        raise UsageError(message, name="mirror", value=settings.mirrors[0])
    folder = settings.downloads_dir / hashlib.sha256(ref.name.encode()).hexdigest()[:16]
    target = folder / ref.file
    known = recorded(folder, target)
    progress(Progress("resolving", 0, 1, "files", ref.file))
    try:
        source, link = probe(ref, settings)
    except NetworkError:
        if known is None:
            raise
        return _fetched(ref, target, known, Moved(), from_cache=True)
    if known is not None and known.identity == source.identity:
        return _fetched(ref, target, known, Moved())
    require_space(folder, max(source.size, 0))
    with cache.locked([folder / ".lock"], lambda: progress(Progress("downloading", 0, source.size, "B", "waiting"))):
        known = recorded(folder, target)
        if known is not None and known.identity == source.identity:
            return _fetched(ref, target, known, Moved())
        moved = transfer([_job(ref, source, link, target, settings)], settings, progress)
    return _fetched(ref, target, read_record(folder), moved)


def missing_bytes_of(ref: ModelRef, settings: Settings) -> int | None:
    """What ``fetch_address`` would download; None when the server does not tell. Raises the same."""
    folder = settings.downloads_dir / hashlib.sha256(ref.name.encode()).hexdigest()[:16]
    known, (source, _) = recorded(folder, folder / ref.file), probe(ref, settings)
    if known is not None and known.identity == source.identity:
        return 0
    return source.size if source.size >= 0 else None


def _fetched(ref: ModelRef, target: Path, source: Source | None, moved: Moved, *, from_cache: bool = False) -> Fetched:
    return Fetched(
        ref=ref,
        path=target,
        commit=source.sha256 if source is not None else "",
        files=(target.name,),
        resumed_bytes=moved.resumed_bytes,
        wire_bytes=moved.wire_bytes,
        from_cache=from_cache,
    )


def _job(ref: ModelRef, source: Source, first: Link, target: Path, settings: Settings) -> Job:
    links = [first]
    record = target.parent / "source.json"

    def resolve() -> Link:
        return links.pop() if links else probe(ref, settings)[1]

    def publish(digest: str) -> None:
        with file_errors("publish", target):
            record.unlink(missing_ok=True)  # while the file changes, no record vouches for it
            partial.replace(target)
            fresh = Source(source.name, source.identity, target.stat().st_size, digest)
            atomic.write_text(record, json.dumps(asdict(fresh), indent=1), private=True)

    partial = target.with_name(f"{target.name}.partial")
    return Job(
        name=target.name,
        partial=partial,
        journal=target.with_name(f"{target.name}.journal"),
        size=source.size,
        algorithm="none",
        digest="",
        identity=source.identity,
        resolve=resolve,
        publish=publish,
    )


def recorded(folder: Path, target: Path) -> Source | None:
    """The record of a complete file; None when either is missing."""
    known = read_record(folder)
    return known if known is not None and has_size(target, known.size) else None


def read_record(folder: Path) -> Source | None:
    """What is noted of the file in a folder; None when there is no note that can be understood."""
    try:
        source = Source(**json.loads((folder / "source.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return source if isinstance(source.size, int) and source.sha256 else None


def probe(ref: ModelRef, settings: Settings) -> tuple[Source, Link]:
    """Size, identity and final address of a file: HEAD, or one byte where HEAD is not allowed."""
    shown = public_address(ref.name)
    if settings.offline or not ref.url:
        why = "the network is switched off" if settings.offline else "its query is not kept on this machine"
        raise OfflineMode(f"{why}, `{shown}` was not asked", url=shown)
    try:
        final, headers = _ask(ref.url, "HEAD", settings)
    except ServerRefused as error:
        if error.status not in {400, 403, 405, 501}:
            raise
        final, headers = _ask(ref.url, "GET", settings)
    size = _size(headers)
    identity = headers.get("ETag") or headers.get("Last-Modified") or "undated"
    return Source(ref.name, f"{identity} {size}", size), Link(final)


def _size(headers: Mapping[str, str]) -> int:
    total = (headers.get("Content-Range") or "").rpartition("/")[2]
    text = total if headers.get("Content-Range") else headers.get("Content-Length") or ""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else -1


def _ask(url: str, method: str, settings: Settings) -> tuple[str, Mapping[str, str]]:
    headers = {"User-Agent": user_agent(), "Accept-Encoding": "identity"}
    if method == "GET":
        headers["Range"] = "bytes=0-0"
    request = urllib.request.Request(url, method=method, headers=headers)  # noqa: S310 - the parser admits http(s) only
    try:
        with opener(settings, urlsplit(url).netloc).open(request, timeout=PROBE_S) as answer:
            return answer.url, answer.headers
    except urllib.error.HTTPError as error:
        with error:
            raise refusal(url, error.code) from error
    except (OSError, HTTPException, ValueError) as error:
        raise no_answer(url, error) from error


def no_answer(url: str, error: Exception) -> NetworkError:
    """The error for a conversation that broke off; what may be a secret is left out."""
    reason = getattr(error, "reason", error)
    kind = ServerRefused if isinstance(reason, ssl.SSLError) else ConnectionLost
    query = urlsplit(url).query
    text = str(reason).replace(f"?{query}", "") if query else str(reason)
    return kind(f"cannot talk to `{urlsplit(url).netloc}`: {text}", url=public_address(url))


def refusal(url: str, status: int) -> Exception:
    """The error for an answer that is not the file."""
    shown, message = public_address(url), f"`{urlsplit(url).netloc}` answered with status {status}"
    if status in {404, 410}:
        return FileMissing(f"`{shown}` does not exist (status {status})", what="file", name=shown)
    if status in {408, 429} or status >= 500:
        return ServerBusy(message, url=shown, status=status)
    return ServerRefused(message, url=shown, status=status)


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never from https down to http."""

    def http_error_302(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message
    ) -> object:
        """Check the target before the base class follows it."""
        target = urlsplit(urljoin(req.full_url, headers.get("Location", "")))
        stays_here = req.type == "http" and target.hostname in LOOPBACK_HOSTS
        if target.scheme != "https" and not stays_here:
            fp.close()
            source, goal = public_address(req.full_url), public_address(target.geturl())
            raise ServerRefused(f"`{source}` redirects to `{goal}`, expected https", url=source)
        return super().http_error_302(req, fp, code, msg, headers)  # type: ignore[arg-type]

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def opener(settings: Settings, host: str) -> urllib.request.OpenerDirector:
    """Opens addresses of one host as the settings say: proxies and their exceptions, trusted certificates."""
    given = settings.proxies
    proxies = {name: given.get(name) or given.get("all") or "" for name in ("http", "https")}
    if urllib.request.proxy_bypass_environment(host, {"no": given.get("no", "")}):  # type: ignore[attr-defined]
        proxies = {}
    context = ssl.create_default_context(cafile=str(settings.ca_file) if settings.ca_file else None)
    return urllib.request.build_opener(
        urllib.request.ProxyHandler({name: address for name, address in proxies.items() if address}),
        urllib.request.HTTPSHandler(context=context),
        _SafeRedirects(),
    )
