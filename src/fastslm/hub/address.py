"""A GGUF file at any https address: asked for with HEAD, fetched by the engine, kept under its name's hash.

The folder ``{downloads}/{sha256(name)[:16]}/`` holds the file and ``source.json`` (name, identity, size, SHA-256). Of
an archive it holds what was in it, in ``unpacked/``, and the record has the SHA-256 of every file there.
The identity is the server's ETag, else its date, together with the size; while it stays the file is not fetched again.
Law: the query of an address, which may be a secret, reaches the server and nothing else: no file and no message.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from email.message import Message
from http.client import HTTPException
from pathlib import Path
from typing import IO
from urllib.parse import urljoin, urlsplit

from fastslm.config import Settings
from fastslm.errors import (
    ConnectionLost,
    FastSLMError,
    FileMissing,
    NetworkError,
    OfflineMode,
    ServerBusy,
    ServerRefused,
    UsageError,
)
from fastslm.formats.archive import is_archive, unpack_options
from fastslm.hub import cache
from fastslm.hub.client import user_agent
from fastslm.hub.layout import file_errors, has_size
from fastslm.hub.packed import UNPACKED, room, the_model
from fastslm.hub.plan import require_space
from fastslm.hub.refs import LOOPBACK_HOSTS, ModelRef, is_safe_path, public_address
from fastslm.hub.transfer import Fetched, Job, Link, Moved, Unpack, transfer
from fastslm.progress import Progress, ProgressCallback
from fastslm.store import atomic

PROBE_S = 20.0


@dataclass(frozen=True)
class Source:
    """What is known of a file at an address (by the ref's name); ``sha256`` is empty until it was fetched.

    Of an archive ``files`` has what was in it, by path, with its SHA-256.
    """

    name: str
    identity: str
    size: int
    sha256: str = ""
    files: Mapping[str, str] = field(default_factory=dict)


def fetch_address(ref: ModelRef, settings: Settings, progress: ProgressCallback) -> Fetched:
    """Have the file of ``ref.url`` on disk, as the server has it now, or as it is here when nobody answers.

    Raises:
        OfflineMode, NetworkError: it is not here and cannot be had.
        FileMissing: the server does not know the address.
        DiskFull, FileSystemError: there is no room, or no right to write.
        FormatError: it is an archive that is damaged or hostile, or holds several models.
        UsageError: mirrors were given.
    """
    if settings.mirrors:
        message = f"`{public_address(ref.name)}` has no published hash, without which a mirror cannot be trusted"
        raise UsageError(message, name="mirror", value=settings.mirrors[0])
    folder = address_folder(ref, settings)
    target = folder / ref.file
    known = recorded(folder, target)
    progress(Progress("resolving", 0, 1, "files", ref.file))
    try:
        source, link = probe(ref, settings)
    except NetworkError:
        if known is None:
            raise
        return fetched(ref, target, known, Moved(), from_cache=True)
    if known is not None and known.identity == source.identity:
        return fetched(ref, target, known, Moved())
    require_space(folder, max(source.size, 0))
    with cache.locked([folder / ".lock"], lambda: progress(Progress("downloading", 0, source.size, "B", "waiting"))):
        known = recorded(folder, target)
        if known is not None and known.identity == source.identity:
            return fetched(ref, target, known, Moved())
        job = _job(ref, source, link, target, settings)
        if is_archive(ref.file):
            job = replace(job, unpack=_unpack(job, source, folder, target))
        moved = transfer([job], settings, progress)
    return fetched(ref, target, read_record(folder), moved)


def address_folder(ref: ModelRef, settings: Settings) -> Path:
    """Where the file of an address belongs."""
    return settings.downloads_dir / hashlib.sha256(ref.name.encode()).hexdigest()[:16]


def missing_bytes_of(ref: ModelRef, settings: Settings) -> int | None:
    """What ``fetch_address`` would download; None when the server does not tell. Raises the same."""
    folder = address_folder(ref, settings)
    known, (source, _) = recorded(folder, folder / ref.file), probe(ref, settings)
    if known is not None and known.identity == source.identity:
        return 0
    return source.size if source.size >= 0 else None


def fetched(
    ref: ModelRef, target: Path, source: Source | None, moved: Moved | None = None, *, from_cache: bool = False
) -> Fetched:
    """What is on disk of an address."""
    packed, moved = source is not None and bool(source.files), moved or Moved()
    return Fetched(
        ref=ref,
        path=the_model(target.parent / UNPACKED, target.name) if packed else target,
        commit=source.sha256 if source is not None else "",
        files=tuple(source.files) if source is not None and packed else (target.name,),
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


def _unpack(job: Job, source: Source, folder: Path, target: Path) -> Unpack:
    """Unpack beside the place; what was there before goes only when the new is whole and holds a model."""
    record, fresh, place = folder / "source.json", folder / ".unpacking", folder / UNPACKED
    most = room(folder)
    with file_errors("write in", folder):
        shutil.rmtree(fresh, ignore_errors=True)  # of a killed process; we hold the folder's lock

    def publish(digest: str, files: Mapping[str, str]) -> None:
        with file_errors("publish", place):
            size = job.partial.stat().st_size
            _clear(fresh, lambda: the_model(fresh, target.name), job)
            record.unlink(missing_ok=True)
            shutil.rmtree(place, ignore_errors=True)
            fresh.rename(place)
            packed = Source(source.name, source.identity, size, digest, dict(files))
            atomic.write_text(record, json.dumps(asdict(packed), indent=1), private=True)
            job.partial.unlink(missing_ok=True)
            job.journal.unlink(missing_ok=True)

    return Unpack(unpack_options(target.name, fresh, max_bytes=most), publish)


def _clear(folder: Path, check: Callable[[], object], job: Job) -> None:
    """An archive without a model is not kept: the next call would only find the same."""
    try:
        check()
    except FastSLMError:
        shutil.rmtree(folder, ignore_errors=True)
        job.partial.unlink(missing_ok=True)
        job.journal.unlink(missing_ok=True)
        raise


def recorded(folder: Path, target: Path) -> Source | None:
    """The record of a complete file, or of an archive whose files are there; None when anything is missing."""
    known = read_record(folder)
    if known is not None and known.files:
        return known if all((folder / UNPACKED / name).is_file() for name in known.files) else None
    return known if known is not None and has_size(target, known.size) else None


def read_record(folder: Path) -> Source | None:
    """What is noted of the file in a folder; None when there is no note that can be understood."""
    try:
        source = Source(**json.loads((folder / "source.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    sound = isinstance(source.size, int) and source.sha256 and isinstance(source.files, dict)
    return source if sound and all(is_safe_path(name) for name in source.files) else None


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
