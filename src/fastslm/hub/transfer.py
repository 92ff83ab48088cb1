"""Run the download engine on a list of jobs: resolve addresses, watch, publish each file as soon as it is verified.

One failed file does not stop the others; an address that ends is resolved again while the others go on. The only
module of this folder that starts downloads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from fastslm.config import Settings
from fastslm.errors import (
    Cancelled,
    ChecksumMismatch,
    FastSLMError,
    FileMissing,
    IntegrityError,
    NetworkError,
    ServerRefused,
    SizeMismatch,
)
from fastslm.hub.client import user_agent
from fastslm.hub.layout import has_size
from fastslm.hub.parallel import in_background, in_parallel
from fastslm.hub.refs import ModelRef
from fastslm.progress import Progress, ProgressCallback

if TYPE_CHECKING:
    from fastslm import _native

POLL_S = 0.1
RESOLVERS = 8


@dataclass(frozen=True)
class Fetched:
    """A model that is on disk, complete and verified.

    Attributes:
        ref: what was asked for.
        path: what to open: folder of the snapshot, or the file when it is one GGUF.
        commit: commit of a repository, SHA-256 of a single file, empty for a local path.
        files: what was chosen of a repository, relative to its snapshot; names in a local folder; a file's own name.
        resumed_bytes: found on disk from an earlier, interrupted call.
        wire_bytes: body bytes received now, wasted ones included.
        dropped_sources: mirrors that lied, failed or crawled, each with its reason.
        from_cache: nobody was asked, or nobody answered: the newest that was here is what it is.
    """

    ref: ModelRef
    path: Path
    commit: str
    files: tuple[str, ...]
    resumed_bytes: int = 0
    wire_bytes: int = 0
    from_cache: bool = False
    dropped_sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class Link:
    """Where bytes are for the time being, and the headers to send there."""

    url: str
    headers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Unpack:
    """Unpack a file while it arrives. ``publish`` takes the file's digest and the SHA-256 of what came out, by path; it
    puts the folder of ``options`` into its place and then removes the partial file and the journal.
    """

    options: _native.UnpackOptions
    publish: Callable[[str, Mapping[str, str]], None]


@dataclass(frozen=True)
class Arrival:
    """How much of a partial file's beginning is there; ``doubted`` when what was read before may be wrong."""

    ready_bytes: int
    doubted: bool = False


def unwatched(arrival: Arrival) -> None:
    """For a job that nobody reads before it is done."""


class Passing(Protocol):
    """Whoever uses a file while it arrives and does not keep it."""

    @property
    def limit(self) -> int:
        """How far it may be fetched."""

    def used(self, hashed_bytes: int) -> Sequence[tuple[int, int]]:
        """Ranges that are not needed any more and were not told before, of what the hash went over."""


@dataclass(frozen=True)
class Job:
    """One file to move: ``resolve`` gives a fresh address, ``publish`` takes the digest and puts it into place, unless
    it is to be unpacked.

    ``watch`` is told ten times a second how far the file has come. The partial file of one that passes is not whole in
    the end: ``publish`` only hears that its hash was right.
    """

    name: str
    partial: Path
    journal: Path
    size: int
    algorithm: Literal["sha256", "git-sha1", "none"]
    digest: str
    identity: str
    resolve: Callable[[], Link]
    publish: Callable[[str], None]
    mirrors: tuple[Link, ...] = ()
    watch: Callable[[Arrival], None] = unwatched
    unpack: Unpack | None = None
    passing: Passing | None = None


@dataclass(frozen=True)
class Moved:
    """What a transfer cost: body bytes received, bytes found on disk instead, and sources that were given up."""

    wire_bytes: int = 0
    resumed_bytes: int = 0
    dropped_sources: tuple[str, ...] = ()

    def __add__(self, other: Moved) -> Moved:
        """Both, one after the other."""
        dropped = tuple(dict.fromkeys(self.dropped_sources + other.dropped_sources))
        return Moved(self.wire_bytes + other.wire_bytes, self.resumed_bytes + other.resumed_bytes, dropped)


@dataclass
class _Run:
    """State of one transfer: what is published, what failed, what it cost."""

    settings: Settings
    report: ProgressCallback
    total: int
    published: int = 0
    shown: int = 0
    wire: int = 0
    resumed: dict[str, int] = field(default_factory=dict)
    failures: list[Exception] = field(default_factory=list)
    dropped: dict[str, None] = field(default_factory=dict)


def transfer(jobs: Sequence[Job], settings: Settings, progress: ProgressCallback) -> Moved:
    """Download every job; returns when all are published.

    Raises:
        FastSLMError: the first failure, after every other file was brought as far as it goes.
        KeyboardInterrupt: after the engine has stopped; journals and partial files stay for the next call.
    """
    run = _Run(settings, progress, sum(max(job.size, 0) for job in jobs))
    pending = [job for job in jobs if not _was_complete(job, run)]
    links = _resolve_all(pending, run)
    _move([job for job in pending if job.name in links], links, run)
    if run.failures:
        raise run.failures[0]
    return Moved(run.wire, sum(run.resumed.values()), tuple(run.dropped))


def _was_complete(job: Job, run: _Run) -> bool:
    """Publish what a process had verified when it was killed: all bytes, and no journal any more."""
    from fastslm._native import hash_file

    if job.unpack or job.algorithm == "none" or job.journal.exists() or not has_size(job.partial, job.size):
        return False
    if hash_file(str(job.partial), job.algorithm) != job.digest:
        return False
    job.publish(job.digest)
    run.published += job.size
    run.resumed[job.name] = job.size
    return True


def _resolve_all(jobs: Sequence[Job], run: _Run) -> dict[str, Link]:
    """Fresh addresses by job name; a job that cannot be resolved becomes a failure."""
    links: dict[str, Link] = {}
    for count, (job, answer) in enumerate(in_parallel(lambda job: job.resolve(), jobs, RESOLVERS)):
        run.report(Progress("resolving", count, len(jobs), "files", job.name))
        try:
            links[job.name] = answer.result()
        except FastSLMError as error:
            run.failures.append(error)
    return links


def _move(jobs: Sequence[Job], links: Mapping[str, Link], run: _Run) -> None:
    """Run the engine over ``jobs``; failures are in ``run``."""
    if not jobs:
        return
    from fastslm import _native

    requests = [_request(job, links[job.name]) for job in jobs]
    download = _native.Download(requests, _options(run.settings, links[jobs[0].name].url))
    waiting, renewals = dict(enumerate(jobs)), _Renewals(download, run)
    try:
        while True:
            finished = download.wait(POLL_S)
            seen = download.progress()
            _tell_watchers(jobs, seen)
            _give_back(download, jobs, seen)
            _publish_verified(waiting, seen, run)
            renewals.look(waiting, seen)
            _report(jobs, seen, run)
            if finished:
                break
    finally:  # also on Ctrl-C: the journals are saved before anything else happens
        _stop(download)
        run.wire += download.progress().wire_bytes
    for job, file in zip(jobs, seen.files, strict=True):
        run.resumed[job.name] = file.resumed_bytes
        run.dropped.update(dict.fromkeys(file.dropped_sources))
    _note_failures({index: job for index, job in waiting.items() if index not in renewals.refused}, seen, run)


class _Renewals:
    """Asks for fresh addresses in the background, one question for a file at a time."""

    def __init__(self, download: _native.Download, run: _Run) -> None:
        self.refused: set[int] = set()
        self._download = download
        self._run = run
        self._asked: dict[int, Future[Link]] = {}

    def look(self, waiting: Mapping[int, Job], seen: _native.Progress) -> None:
        """Ask where an address has ended, hand over what was answered."""
        for index, job in waiting.items():
            if seen.files[index].link_wanted and index not in self._asked:
                self._asked[index] = in_background(job.resolve)
        for index in [index for index, answer in self._asked.items() if answer.done()]:
            self._hand_over(index, self._asked.pop(index))

    def _hand_over(self, index: int, answer: Future[Link]) -> None:
        try:
            link = answer.result()
        except FastSLMError as error:
            self.refused.add(index)
            self._run.failures.append(error)
            self._download.renew(index, "")
        else:
            self._download.renew(index, link.url, list(link.headers))


def _stop(download: _native.Download) -> None:
    """End the engine's threads; does nothing to a download that has finished."""
    download.cancel()
    for _ in range(100):
        if download.wait(POLL_S):
            return


def _tell_watchers(jobs: Sequence[Job], seen: _native.Progress) -> None:
    for job, file in zip(jobs, seen.files, strict=True):
        job.watch(Arrival(file.ready_bytes, file.doubted))


def _give_back(download: _native.Download, jobs: Sequence[Job], seen: _native.Progress) -> None:
    for index, (job, file) in enumerate(zip(jobs, seen.files, strict=True)):
        if job.passing is not None and file.state == "active":
            download.give_back(index, job.passing.used(file.hashed_bytes), job.passing.limit)


def _publish_verified(waiting: dict[int, Job], seen: _native.Progress, run: _Run) -> None:
    for index, job in list(waiting.items()):
        file = seen.files[index]
        if file.state == "verified":
            del waiting[index]
            try:
                _publish(job, file)
            except FastSLMError as error:
                run.failures.append(error)
            run.published += max(job.size, 0)


def _publish(job: Job, file: _native.FileProgress) -> None:
    if job.unpack is None:
        job.publish(file.digest)
    else:
        job.unpack.publish(file.digest, {each.name: each.sha256 for each in file.unpacked})


def _note_failures(waiting: Mapping[int, Job], seen: _native.Progress, run: _Run) -> None:
    for index, job in waiting.items():
        error = seen.files[index].error or Cancelled()
        if isinstance(error, ServerRefused) and error.status == 404:
            missing = FileMissing(f"`{job.name}` has vanished from the server (status 404)", what="file", name=job.name)
            missing.__cause__ = error
            run.failures.append(missing)
        else:
            run.failures.append(_named(error, job))


def _named(error: FastSLMError, job: Job) -> FastSLMError:
    """The same error with the file's name in its message: the address of a CDN tells the user nothing.

    Class and facts stay; the engine's own words are the cause.
    """
    named = copy(error)
    if isinstance(error, ChecksumMismatch):
        named.message = error.message.replace(f"`{error.subject}`", f"`{job.name}`")
    elif isinstance(error, SizeMismatch | NetworkError):
        named.message = f"`{job.name}` cannot be fetched: {error.message}"
    if isinstance(named, IntegrityError):
        named.subject = job.name
    named.args, named.__cause__ = (named.message,), error
    return named


def _report(jobs: Sequence[Job], seen: _native.Progress, run: _Run) -> None:
    pairs = list(zip(jobs, seen.files, strict=True))
    unfinished = sum(file.done_bytes for _, file in pairs if file.state != "verified")
    active = [job.name for job, file in pairs if file.state == "active"]
    run.shown = max(run.shown, run.published + unfinished)  # a repair writes again, a user sees no step back
    run.report(Progress("downloading", run.shown, run.total, "B", active[0] if active else ""))


def _request(job: Job, link: Link) -> _native.FileRequest:
    from fastslm import _native

    return _native.FileRequest(
        url=link.url,
        partial_path=str(job.partial),
        journal_path=str(job.journal),
        size_bytes=job.size,
        hash_algorithm=job.algorithm,
        expected_hash=job.digest,
        identity=job.identity,
        headers=list(link.headers),
        mirrors=[(mirror.url, list(mirror.headers)) for mirror in job.mirrors],
        renewable=True,
        first_limit=job.passing.limit if job.passing else None,
        unpack=job.unpack.options if job.unpack else None,
    )


def _options(settings: Settings, url: str) -> _native.DownloadOptions:
    from fastslm import _native

    scheme = url.partition(":")[0].lower()
    return _native.DownloadOptions(
        connections=settings.connections,
        adaptive=settings.adaptive,
        limit_rate_bytes_s=settings.limit_rate,
        user_agent=user_agent(),
        proxy=settings.proxies.get(scheme) or settings.proxies.get("all") or "",
        no_proxy=settings.proxies.get("no") or "",
        ca_file=str(settings.ca_file) if settings.ca_file else "",
    )
