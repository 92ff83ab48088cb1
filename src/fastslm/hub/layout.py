"""The Hugging Face cache as it is on disk: where everything lies, and what is there. Reads only.

    {hub_cache}/models--org--name/
        blobs/{etag}                          content, named by its hash
        snapshots/{commit}/{path}             relative symlink to a blob, or the file itself
        refs/{branch}                         the commit a branch was last seen at
        trees/{commit}.json                   complete listing of a commit
        .fastslm/{etag}.partial  .journal     ours: what is not complete yet
    {hub_cache}/.locks/models--org--name/{etag}.lock

The official client ignores ``.fastslm``; it would append to, or prune, partial files of its own naming in ``blobs``.
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastslm.errors import DiskFull, FastSLMError, FileSystemError
from fastslm.hub.client import RemoteFile
from fastslm.hub.refs import is_safe_path
from fastslm.hub.select import Wishes, select_files

TREE_FORMAT = 1
DEFAULT_BRANCH = "main"


@dataclass(frozen=True)
class RepoLayout:
    """Paths of one repository in the cache at ``root``."""

    root: Path
    repo: str

    @property
    def _name(self) -> str:
        return "--".join(["models", *self.repo.split("/")])

    @property
    def folder(self) -> Path:
        """The repository's own folder."""
        return self.root / self._name

    @property
    def partials(self) -> Path:
        """Where unfinished files and their journals are."""
        return self.folder / ".fastslm"

    @property
    def locks(self) -> Path:
        """Where the lock files of the repository are, ours and the official client's."""
        return self.root / ".locks" / self._name

    @property
    def own_lock(self) -> Path:
        """Held by whoever changes the repository's folder with our code."""
        return self.locks / "fastslm.lock"

    def lock(self, etag: str) -> Path:
        """Held by whoever downloads a blob, ours or the official client."""
        return self.locks / f"{etag}.lock"

    def partial(self, etag: str) -> Path:
        """The bytes of a blob that is not complete yet, at their final offsets."""
        return self.partials / f"{etag}.partial"

    def journal(self, etag: str) -> Path:
        """What is known about the partial file."""
        return self.partials / f"{etag}.journal"

    def blob(self, etag: str) -> Path:
        """The content with this hash."""
        return self.folder / "blobs" / etag

    def snapshot(self, commit: str) -> Path:
        """The folder that looks like the repository at a commit."""
        return self.folder / "snapshots" / commit

    def pointer(self, commit: str, path: str) -> Path:
        """One file of a snapshot. Raises FileSystemError when ``path`` would lead out of it."""
        if not is_safe_path(path):
            raise FileSystemError(f"the file name `{path}` leads out of its folder", path=path, errno=errno.EINVAL)
        return self.snapshot(commit) / path

    def ref(self, revision: str) -> Path:
        """The file that remembers a branch's commit."""
        return self.folder / "refs" / (revision or DEFAULT_BRANCH)

    def tree(self, commit: str) -> Path:
        """The file that remembers a commit's listing."""
        return self.folder / "trees" / f"{commit}.json"


@dataclass(frozen=True)
class Snapshot:
    """A complete selection of a commit's files on disk."""

    commit: str
    folder: Path
    paths: tuple[str, ...]


def is_commit(revision: str) -> bool:
    """Whether a revision is a full commit hash, which can never move."""
    return re.fullmatch(r"[0-9a-f]{40}", revision) is not None


def known_commit(layout: RepoLayout, revision: str) -> str | None:
    """The commit of a revision as the cache last saw it."""
    if is_commit(revision):
        return revision
    try:
        text = layout.ref(revision).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return text if is_commit(text) else None


def read_tree(layout: RepoLayout, commit: str) -> tuple[RemoteFile, ...] | None:
    """The cached listing of a commit; None when there is none that can be understood."""
    try:
        data = json.loads(layout.tree(commit).read_text(encoding="utf-8"))
        if data["format_version"] != TREE_FORMAT:
            return None
        return tuple(_tree_entry(path, entry) for path, entry in sorted(data["files"].items()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _tree_entry(path: str, entry: dict[str, Any]) -> RemoteFile:
    sha256, blob_id, size = entry.get("lfs_sha256") or "", entry["blob_id"], entry["size"]
    if (sha256 and not re.fullmatch(r"[0-9a-f]{64}", sha256)) or not is_commit(blob_id) or not isinstance(size, int):
        raise ValueError(f"damaged entry of `{path}`")
    return RemoteFile(path, size, blob_id, sha256, entry.get("xet_hash") or "")


def find_snapshot(layout: RepoLayout, revision: str, wishes: Wishes) -> Snapshot | None:
    """What ``wishes`` select of a revision, if every file of it is on disk; asks nobody."""
    commit = known_commit(layout, revision)
    if commit is None:
        return None
    tree = read_tree(layout, commit)
    sizes = {file.path: file.size for file in tree} if tree is not None else _walk(layout.snapshot(commit))
    try:
        paths = select_files(tuple(sizes), wishes)
        complete = all(has_size(layout.pointer(commit, path), sizes[path]) for path in paths)
    except FastSLMError:
        return None
    folder = layout.snapshot(commit)
    complete = complete and (tree is not None or _has_all_shards(folder, paths))
    return Snapshot(commit, folder, paths) if complete else None


def has_size(path: Path, size: int) -> bool:
    """Whether there is a regular file (perhaps behind a link) of exactly this size."""
    try:
        return path.is_file() and path.stat().st_size == size
    except OSError:
        return False


def _walk(folder: Path) -> dict[str, int]:
    """Files below a folder and their sizes; dangling links are left out."""
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}


def _has_all_shards(folder: Path, paths: tuple[str, ...]) -> bool:
    """Without a listing, the index tells which shards there must be."""
    for path in paths:
        if path.endswith(".safetensors.index.json"):
            try:
                shards = set(json.loads((folder / path).read_text(encoding="utf-8"))["weight_map"].values())
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                return False
            if not shards <= set(paths):
                return False
    return True


@contextmanager
def file_errors(action: str, path: Path) -> Iterator[None]:
    """Turn the operating system's errors into ours, which name the path."""
    try:
        yield
    except FastSLMError:
        raise
    except OSError as error:
        where, reason = error.filename or path, error.strerror or str(error)
        message = f"cannot {action} `{where}`: {reason}"
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise DiskFull(message, resource="disk") from error
        raise FileSystemError(message, path=os.fspath(where), errno=error.errno or 0) from error
