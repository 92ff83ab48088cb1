"""What a download will do, as a frozen value: commit, files, sizes, hashes, and what is already here.

A plan costs two small requests, or none when the commit and its listing are known. It refuses file names that would
leave the snapshot's folder, and a disk that has not the room.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from fastslm.config import Settings
from fastslm.errors import DiskFull, ServerRefused
from fastslm.hub.client import HubClient, RemoteFile
from fastslm.hub.layout import RepoLayout, has_size, is_commit, read_tree
from fastslm.hub.parallel import in_parallel
from fastslm.hub.refs import ModelRef, is_safe_path
from fastslm.hub.select import Wishes, select_files

HEAD_THREADS = 8
MARGIN_BYTES = 16 * 1024 * 1024
"""Room left for journals, links and whatever else the machine writes meanwhile."""


@dataclass(frozen=True)
class PlannedFile:
    """One file to have: ``digest`` names its blob, ``present`` says that the right content is on disk."""

    path: str
    size: int
    algorithm: Literal["sha256", "git-sha1"]
    digest: str
    present: bool = False
    linked: bool = False


@dataclass(frozen=True)
class DownloadPlan:
    """Everything that a download of one repository needs to know.

    Attributes:
        repo, revision, commit: what is fetched; ``revision`` is what was asked for, empty for the default branch.
        files: the chosen files, sorted by path.
        listing: every file of the commit, for the cache.
    """

    repo: str
    revision: str
    commit: str
    files: tuple[PlannedFile, ...]
    listing: tuple[RemoteFile, ...]

    @property
    def total_bytes(self) -> int:
        """Size of all chosen files."""
        return sum(file.size for file in self.files)

    @property
    def cached_bytes(self) -> int:
        """Size of the chosen files that are already here."""
        return sum(file.size for file in self.files if file.present)

    @property
    def missing(self) -> tuple[PlannedFile, ...]:
        """What must be downloaded: one file per blob, however many paths share it."""
        blobs: dict[str, PlannedFile] = {}
        for file in self.files:
            if not file.present:
                blobs.setdefault(file.digest, file)
        return tuple(blobs.values())


def make_plan(ref: ModelRef, settings: Settings, wishes: Wishes, client: HubClient) -> DownloadPlan:
    """Find out what ``ref`` is now and which of its files are missing here.

    Raises:
        ModelNotFound, RevisionNotFound, AccessDenied, NetworkError: the hub's answer.
        FileMissing, UnsupportedModel: the repository has not the files that are needed.
    """
    layout = RepoLayout(settings.hub_cache, ref.repo)
    commit = ref.revision if is_commit(ref.revision) else client.resolve_revision(ref.repo, ref.revision)
    listing = read_tree(layout, commit) or client.list_files(ref.repo, commit)
    chosen = select_files([file.path for file in listing], wishes)
    by_path = {file.path: file for file in listing}
    files = [_checked(by_path[path], ref.repo) for path in chosen]
    planned = _unmasked([_planned(file) for file in files], ref.repo, commit, client)
    return with_presence(DownloadPlan(ref.repo, ref.revision, commit, tuple(planned), listing), layout)


def with_presence(plan: DownloadPlan, layout: RepoLayout) -> DownloadPlan:
    """The plan with a fresh look at what is on disk."""
    return replace(plan, files=tuple(_look(file, plan.commit, layout) for file in plan.files))


def check_space(plan: DownloadPlan, settings: Settings, at_once: int = 0, held_bytes: int = 0) -> None:
    """Refuse a download that the disk cannot hold; room that partial files already take is counted as there.

    Args:
        at_once: how many files are on disk at the same time, the largest ones in the worst case; 0 for all.
        held_bytes: how much of one file is on disk at the same time; 0 for all of it.

    Raises:
        DiskFull: with ``needed`` and ``available`` in bytes.
    """
    layout = RepoLayout(settings.hub_cache, plan.repo)
    most = [min(file.size, held_bytes) if held_bytes else file.size for file in plan.missing]
    partials = [_allocated(layout.partial(file.digest)) for file in plan.missing]
    sizes = sorted((size - there for size, there in zip(most, partials, strict=True)), reverse=True)
    require_space(settings.hub_cache, sum(sizes[:at_once] if at_once else sizes))


def require_space(folder: Path, needed: int) -> None:
    """Refuse when the disk of ``folder`` has less than ``needed`` bytes (and a margin). Raises DiskFull."""
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    available = shutil.disk_usage(existing).free
    if needed > 0 and needed + MARGIN_BYTES > available:
        reserve = f"{needed:,} bytes and a reserve of {MARGIN_BYTES:,}"
        message = f"the download needs {reserve}, the disk of `{folder}` has {available:,} free"
        raise DiskFull(message, resource="disk", needed=needed + MARGIN_BYTES, available=available)


def _checked(file: RemoteFile, repo: str) -> RemoteFile:
    if not is_safe_path(file.path):
        raise ServerRefused(f"`{repo}` lists the file name `{file.path}`, which leads out of its folder")
    if file.size < 0 or not (file.masked or file.sha256 or is_commit(file.blob_id)):
        raise ServerRefused(f"`{repo}` lists `{file.path}` without a usable size or hash")
    return file


def _planned(file: RemoteFile) -> PlannedFile:
    if file.masked or file.sha256:
        return PlannedFile(file.path, file.size, "sha256", file.sha256)
    return PlannedFile(file.path, file.size, "git-sha1", file.blob_id)


def _unmasked(files: Sequence[PlannedFile], repo: str, commit: str, client: HubClient) -> list[PlannedFile]:
    """Hashes that the listing hides are asked for file by file; a user without access learns so here."""
    hidden = [file for file in files if not file.digest]
    if not hidden:
        return list(files)
    asked = in_parallel(lambda file: client.locate(repo, commit, file.path), hidden, HEAD_THREADS)
    known = {file.path: answer.result() for file, answer in asked}
    return [replace(f, digest=known[f.path].etag, size=known[f.path].size) if f.path in known else f for f in files]


def _look(file: PlannedFile, commit: str, layout: RepoLayout) -> PlannedFile:
    linked = has_size(layout.pointer(commit, file.path), file.size)
    return replace(file, linked=linked, present=linked or has_size(layout.blob(file.digest), file.size))


def _allocated(path: Path) -> int:
    """Bytes that a partial file really takes; preallocated ones count."""
    try:
        found = os.stat(path)  # noqa: PTH116 - st_blocks is wanted
    except OSError:
        return 0
    return getattr(found, "st_blocks", 0) * 512
