"""Carry out a plan: HEAD each missing file, let the engine move the bytes, commit them to the Hugging Face cache."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from fastslm.config import Settings
from fastslm.errors import ChecksumMismatch, DiskFull, FileSystemError, SizeMismatch
from fastslm.hub import cache
from fastslm.hub.client import HubClient
from fastslm.hub.follow import Follower, Nobody
from fastslm.hub.layout import RepoLayout
from fastslm.hub.plan import DownloadPlan, PlannedFile, check_space, with_presence
from fastslm.hub.transfer import Arrival, Job, Link, Moved, transfer
from fastslm.progress import Progress, ProgressCallback, silent


def carry_out(
    plan: DownloadPlan,
    settings: Settings,
    client: HubClient,
    progress: ProgressCallback,
    follower: Follower | None = None,
) -> Moved:
    """Make every file of the plan present in the cache, verified, under the plan's commit and revision.

    Raises:
        DiskFull: before the first byte, or when the disk fills up meanwhile.
        FileSystemError: the cache cannot be written.
        IntegrityError, NetworkError, FileMissing, AccessDenied: a file could not be had; the others are kept.
    """
    layout = RepoLayout(settings.hub_cache, plan.repo)
    if all(file.linked for file in plan.files):
        with suppress(FileSystemError, DiskFull):  # a cache that is only read may lack our notes
            _remember(plan, layout)
        return Moved()
    follower = follower or Nobody()
    check_space(plan, settings, follower.at_once, follower.held_bytes)
    cache.prepare(layout)
    symlinks = settings.use_symlinks and cache.symlinks_work(layout.partials)
    large = sorted(layout.lock(file.digest) for file in plan.missing if file.algorithm == "sha256")
    with cache.locked([layout.own_lock, *large], _waiting(plan, progress)):
        work = _Work(with_presence(plan, layout), layout, client, symlinks)
        work.link_what_is_here()
        follower.begin(work.plan, client)
        moved = _in_batches(work, follower, settings, progress)
        _remember(plan, layout)
    return moved


def _in_batches(work: _Work, follower: Follower, settings: Settings, progress: ProgressCallback) -> Moved:
    """Move what is missing, a batch of the follower's after another, and tell it of every file."""
    moved, total, done = Moved(), sum(file.size for file in work.plan.missing), 0
    for batch in follower.batches(work.plan.missing):
        jobs = [work.followed(file, follower) for file in batch]
        moved += transfer(jobs, settings, _shifted(progress, done, total))
        done += sum(file.size for file in batch)
    return moved


def _shifted(progress: ProgressCallback, done: int, total: int) -> ProgressCallback:
    """A callback for one batch that tells of all of them."""

    def report(now: Progress) -> None:
        progress(replace(now, done=now.done + done, total=total) if now.unit == "B" else now)

    return report


def carry_out_file(plan: DownloadPlan, settings: Settings, client: HubClient, watch: Callable[[Arrival], None]) -> None:
    """Carry out a plan of one file, beside others of the same repository; ``watch`` is told how far it has come.

    Raises as ``carry_out``, and what ``watch`` raises, which ends the transfer.
    """
    (file,) = plan.files
    layout = RepoLayout(settings.hub_cache, plan.repo)
    check_space(plan, settings)
    cache.prepare(layout)
    symlinks = settings.use_symlinks and cache.symlinks_work(layout.partials)
    lock = layout.lock(file.digest) if file.algorithm == "sha256" else layout.own_lock
    with cache.locked([lock], lambda: watch(Arrival(0))):
        work = _Work(with_presence(plan, layout), layout, client, symlinks)
        work.link_what_is_here()
        jobs = [replace(work.job(missing), watch=watch) for missing in work.plan.missing]
        transfer(jobs, settings, silent)
        _remember(plan, layout)


def _remember(plan: DownloadPlan, layout: RepoLayout) -> None:
    """Note the commit's listing, and that the revision is this commit; only for a complete selection."""
    known = layout.tree(plan.commit).is_file() and cache.ref_is(layout, plan.revision, plan.commit)
    if not known:
        cache.prepare(layout)
        cache.write_tree(layout, plan.commit, plan.listing)
        cache.write_ref(layout, plan.revision, plan.commit)


@dataclass(frozen=True)
class _Work:
    """A plan under lock, and how its files are made, placed and shown."""

    plan: DownloadPlan
    layout: RepoLayout
    client: HubClient
    symlinks: bool

    def link_what_is_here(self) -> None:
        for digest in {file.digest for file in self.plan.files if file.present and not file.linked}:
            self._link(digest, fresh=False)
            cache.drop_partial(self.layout, digest)

    def job(self, file: PlannedFile) -> Job:
        return Job(
            name=file.path,
            partial=self.layout.partial(file.digest),
            journal=self.layout.journal(file.digest),
            size=file.size,
            algorithm=file.algorithm,
            digest=file.digest,
            identity=file.digest,
            resolve=lambda: self._locate(file),
            publish=lambda _: self._publish(file.digest),
            mirrors=tuple(Link(*found) for found in self.client.mirrored(self.plan.repo, self.plan.commit, file.path)),
        )

    def followed(self, file: PlannedFile, follower: Follower) -> Job:
        """The job of a file, of which somebody wants to know."""
        job, passing = self.job(file), follower.passing(file)

        def publish(digest: str) -> None:
            if passing is None:
                job.publish(digest)
            follower.verified(file)

        return replace(job, publish=publish, watch=lambda arrival: follower.arrived(file, arrival), passing=passing)

    def _locate(self, file: PlannedFile) -> Link:
        """Where the file's bytes are now; they must still be the bytes that were planned."""
        found = self.client.locate(self.plan.repo, self.plan.commit, file.path)
        if found.etag != file.digest:
            message = f"the hub announces `{file.path}` with hash `{found.etag}`, expected `{file.digest}`"
            raise ChecksumMismatch(message, subject=file.path, expected=file.digest, found=found.etag)
        if found.size != file.size:
            message = f"the hub announces `{file.path}` with {found.size} bytes, expected {file.size}"
            raise SizeMismatch(message, subject=file.path, expected=file.size, found=found.size)
        return Link(found.url, found.headers)

    def _publish(self, digest: str) -> None:
        cache.publish_blob(self.layout, digest)
        self._link(digest, fresh=True)

    def _link(self, digest: str, *, fresh: bool) -> None:
        paths = [file.path for file in self.plan.files if file.digest == digest and not file.linked]
        cache.link(self.layout, self.plan.commit, paths, digest, symlinks=self.symlinks, fresh=fresh)


def _waiting(plan: DownloadPlan, progress: ProgressCallback) -> Callable[[], None]:
    detail = "waiting for another process that downloads the same model"
    return lambda: progress(Progress("downloading", plan.cached_bytes, plan.total_bytes, "B", detail))
