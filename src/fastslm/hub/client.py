"""The one adapter to huggingface_hub: revision, listing and file metadata as frozen values, errors as ours.

The only module that imports the library; it works with its generations 0.36 and 2.x, imports it late and switches its
telemetry off first. Every call has a deadline, because the library's own calls to the hub's API have none.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import Any, TypeVar
from urllib.parse import urlsplit

from fastslm.config import DEFAULT_ENDPOINT, Settings
from fastslm.errors import (
    ConnectionLost,
    OfflineMode,
    RetryableNetworkError,
    ServerBusy,
    ServerRefused,
)
from fastslm.hub.parallel import NoAnswer, with_deadline
from fastslm.hub.refusals import Subject, translated

T = TypeVar("T")

QUIET = {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_XET_TELEMETRY_ENABLED": "0", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
HUB_ORIGINS = (DEFAULT_ENDPOINT, "https://hf.co")
"""Origins that may see the token, beside the configured endpoint."""

PACKED_WELCOME = ("X-Fastslm-Accept: planes-1",)
"""Asks a mirror for packed tensors; the engine unpacks what says that it is packed."""


@dataclass(frozen=True)
class Patience:
    """How long the planner waits: seconds for one call with its repetitions, and how often it is tried at most."""

    resolve_s: float = 20.0
    listing_s: float = 90.0
    locate_s: float = 30.0
    attempts: int = 3
    backoff_s: float = 0.25


@dataclass(frozen=True)
class RemoteFile:
    """One file of a listing; ``sha256`` is empty for a regular file, ``masked`` when the hub hides it."""

    path: str
    size: int
    blob_id: str
    sha256: str = ""
    xet_hash: str = ""
    masked: bool = False


@dataclass(frozen=True)
class Location:
    """Where a file's bytes are now: ``etag`` is its hash (SHA-256 or git SHA-1), ``headers`` what to send there."""

    url: str
    etag: str
    size: int
    commit: str
    headers: tuple[str, ...] = ()


class HubClient:
    """Planner calls to one hub, for one set of settings."""

    def __init__(self, settings: Settings, patience: Patience | None = None) -> None:
        self._settings = settings
        self._patience = patience or Patience()

    def resolve_revision(self, repo: str, revision: str = "") -> str:
        """The commit that a branch, tag or pull request points to now.

        Raises:
            ModelNotFound, RevisionNotFound, AccessDenied, OfflineMode, NetworkError
        """
        subject = Subject(self._settings, repo, revision)
        timeout_s = self._patience.resolve_s

        def ask() -> str:
            info = self._api().repo_info(repo, revision=revision or None, timeout=timeout_s)
            return _checked_commit(info.sha, subject)

        return self._call(ask, subject, timeout_s)

    def list_files(self, repo: str, commit: str) -> tuple[RemoteFile, ...]:
        """All files of a commit, sorted by path. Raises as ``resolve_revision``."""
        subject = Subject(self._settings, repo, commit)

        def ask() -> tuple[RemoteFile, ...]:
            tree = self._api().list_repo_tree(repo, recursive=True, revision=commit)
            return tuple(sorted(_remote_files(tree), key=lambda file: file.path))

        return self._call(ask, subject, self._patience.listing_s)

    def locate(self, repo: str, commit: str, path: str) -> Location:
        """Ask where a file's bytes are (one HEAD request). Raises as ``resolve_revision``, and FileMissing."""
        library = _library()
        url = library.hf_hub_url(repo, path, revision=commit, endpoint=self._settings.endpoint)
        subject = Subject(self._settings, repo, commit, path, url)

        def ask() -> Location:
            token = self._settings.token or False
            found = library.get_hf_file_metadata(
                url=url, token=token, timeout=10.0, endpoint=self._settings.endpoint, **_identity()
            )
            return self._location(found, subject)

        return self._call(ask, subject, self._patience.locate_s)

    def mirrored(self, repo: str, commit: str, path: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Address and headers of a file on every mirror; the token goes to the hub's own origins only."""
        library = _library()
        urls = [library.hf_hub_url(repo, path, revision=commit, endpoint=mirror) for mirror in self._settings.mirrors]
        return tuple((url, self._headers(url)) for url in urls)

    def _headers(self, url: str) -> tuple[str, ...]:
        """What to send to an address of bytes: the token to the hub alone, and to mirrors how they may pack."""
        secret = self._settings.token and may_send_token(url, self._settings.endpoint)
        token = (f"Authorization: Bearer {self._settings.token}",) if secret else ()
        return token + (PACKED_WELCOME if self._may_be_mirror(url) else ())

    def _may_be_mirror(self, url: str) -> bool:
        """Whether a fastslm may answer: not at the public hub, nor where that or another sends us on."""
        chosen = {_origin(address) for address in (self._settings.endpoint, *self._settings.mirrors)}
        return self._settings.packed and _origin(url) in chosen - {_origin(address) for address in HUB_ORIGINS}

    def _location(self, found: Any, subject: Subject) -> Location:
        etag, size, commit = found.etag, found.size, _checked_commit(found.commit_hash, subject)
        if not etag or not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", etag):
            raise ServerRefused(f"the hub gave `{etag}` as hash of `{subject.path}`", url=subject.url)
        if not isinstance(size, int) or size < 0:
            raise ServerRefused(f"the hub gave no size of `{subject.path}`", url=subject.url)
        return Location(found.location, etag, size, commit, self._headers(found.location))

    def _api(self) -> Any:
        return _library().HfApi(endpoint=self._settings.endpoint, token=self._settings.token or False, **_identity())

    def _call(self, ask: Callable[[], T], subject: Subject, timeout_s: float) -> T:
        if self._settings.offline:
            raise OfflineMode(f"the network is switched off, `{subject.endpoint}` was not asked", url=subject.endpoint)
        deadline = time.monotonic() + timeout_s
        for attempt in range(self._patience.attempts):
            try:
                return _once(ask, subject, max(0.1, deadline - time.monotonic()))
            except RetryableNetworkError as error:
                asked_s = error.retry_after_s if isinstance(error, ServerBusy) else 0.0
                wait_s = max(self._patience.backoff_s * 2**attempt, asked_s)
                if attempt + 1 == self._patience.attempts or time.monotonic() + wait_s >= deadline:
                    raise
                time.sleep(wait_s)
        raise AssertionError("at least one attempt is made")


def may_send_token(url: str, endpoint: str) -> bool:
    """Whether an address belongs to the hub itself: same scheme, host and port. A CDN never sees the token."""
    return _origin(url) in {_origin(endpoint), *map(_origin, HUB_ORIGINS)}


def user_agent() -> str:
    """How we name ourselves to servers."""
    name, number = _identity().values()
    return f"{name}/{number}"


def library_generation() -> int:
    """First number of the installed library's version, found without importing it."""
    return int(version("huggingface_hub").partition(".")[0])


def _origin(url: str) -> tuple[str, str, int]:
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    except ValueError:
        return ("", url, 0)
    return parts.scheme.lower(), (parts.hostname or "").lower(), port


def _identity() -> dict[str, str]:
    try:
        number = version("fastslm")
    except PackageNotFoundError:
        number = "0"
    return {"library_name": "fastslm", "library_version": number}


def _library() -> ModuleType:
    """huggingface_hub, silent when we are the only one in this process to use it."""
    first = "huggingface_hub" not in sys.modules
    if first:
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
    import huggingface_hub
    import huggingface_hub.errors
    import huggingface_hub.utils.logging

    if first:
        huggingface_hub.utils.logging.set_verbosity(logging.CRITICAL)
    return huggingface_hub


def _once(ask: Callable[[], T], subject: Subject, timeout_s: float) -> T:
    """One attempt, with the library's errors in our words."""
    library = _library()
    try:
        return with_deadline(ask, timeout_s)
    except NoAnswer:
        message = f"no answer from `{subject.endpoint}` within {timeout_s:.3g} s"
        raise ConnectionLost(message, url=subject.endpoint) from None
    except Exception as error:
        ours = translated(error, subject, library.errors)
        if ours is error:
            raise
        raise ours from error


def _remote_files(tree: Iterable[Any]) -> Iterator[RemoteFile]:
    for entry in tree:
        if not hasattr(entry, "blob_id"):  # a folder
            continue
        sha256 = entry.lfs.sha256 if entry.lfs is not None else ""
        masked = bool(sha256) and not re.fullmatch(r"[0-9a-f]{64}", sha256)
        xet_hash = getattr(entry, "xet_hash", None) or ""
        yield RemoteFile(
            path=str(entry.path),
            size=int(entry.lfs.size if entry.lfs is not None else entry.size),
            blob_id=str(entry.blob_id),
            sha256="" if masked else sha256,
            xet_hash=xet_hash if re.fullmatch(r"[0-9a-f]{64}", xet_hash) else "",
            masked=masked,
        )


def _checked_commit(commit: object, subject: Subject) -> str:
    if not isinstance(commit, str) or not re.fullmatch(r"[0-9a-f]{40}", commit):
        raise ServerRefused(f"the hub gave `{commit}` as commit of `{subject.repo}`", url=subject.endpoint)
    return commit
