"""What the cache on this machine can give away: repositories, revisions, complete files. Reads only; asks nobody.

Law: a file is on the shelf when it is in a snapshot, has the announced size, and lies inside the cache once every link
is followed. Partial files are in no snapshot, so they never are.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from fastslm.errors import FastSLMError, FileMissing, ModelNotFound, RevisionNotFound
from fastslm.hub.client import RemoteFile
from fastslm.hub.layout import RepoLayout, file_errors, is_commit, known_commit, read_tree
from fastslm.hub.refs import hub_ref, is_safe_path

KEPT_LISTINGS = 64
_PREFIX = "models--"


@dataclass(frozen=True)
class Stored:
    """A complete file: where its bytes really are."""

    file: RemoteFile
    path: Path

    def open(self) -> int:
        """A descriptor for reading. Raises FileMissing when it is not the file any more that was found."""
        with file_errors("open", self.path):
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0))
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size != self.file.size:
            os.close(descriptor)
            raise FileMissing(f"`{self.file.path}` has changed on the disk", what="file", name=self.file.path)
        return descriptor


class Shelf:
    """The cache at ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._real_root = Path(os.path.realpath(root))

    def repos(self) -> tuple[str, ...]:
        """Names of the repositories with at least one snapshot, sorted."""
        names = ["/".join(folder.name.removeprefix(_PREFIX).split("--")) for folder in self.root.glob(f"{_PREFIX}*")]
        return tuple(sorted(name for name in names if _is_name(name) and self._commits(name)))

    def shared_bytes(self, repo: str) -> int:
        """Size of everything of a repository that can be had here, shared blobs counted once."""
        files = [file for commit in self._commits(repo) for file in self.files(repo, commit)]
        return sum({etag_of(file): file.size for file in files}.values())

    def commit_of(self, repo: str, revision: str) -> str:
        """The commit of a branch, tag or commit hash; empty for the default branch.

        Raises:
            ModelNotFound, RevisionNotFound: it is not here.
        """
        layout = self.layout(repo)
        if not self._commits(repo):
            raise ModelNotFound(f"this mirror has no model `{repo}`", what="model", name=repo)
        commit = known_commit(layout, revision) if _is_name(repo, revision) else None
        if commit is None or not layout.snapshot(commit).is_dir():
            message = f"this mirror has no revision `{revision}` of `{repo}`"
            raise RevisionNotFound(message, what="revision", name=revision)
        return commit

    def refs(self, repo: str) -> dict[str, str]:
        """Branches, tags and pull requests to their commits, as the cache last saw them. Raises ModelNotFound."""
        if not self._commits(repo):
            raise ModelNotFound(f"this mirror has no model `{repo}`", what="model", name=repo)
        folder = self.layout(repo).folder / "refs"
        names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
        commits = {name: known_commit(self.layout(repo), name) for name in sorted(names)}
        return {name: commit for name, commit in commits.items() if commit is not None}

    def files(self, repo: str, commit: str) -> tuple[RemoteFile, ...]:
        """The files of a commit that are here, sorted by path."""
        listed = self._listed(repo, commit)
        return tuple(file for file in listed if self.find(repo, commit, file) is not None)

    def stored(self, repo: str, commit: str, path: str) -> Stored:
        """One file of a commit by its path. Raises FileMissing."""
        for file in self._listed(repo, commit):
            found = self.find(repo, commit, file) if file.path == path else None
            if found is not None:
                return found
        raise FileMissing(f"this mirror has no file `{path}` of `{repo}`", what="file", name=path)

    def layout(self, repo: str) -> RepoLayout:
        """Paths of a repository. Raises ModelNotFound for what cannot be a repository's name."""
        if not _is_name(repo):
            raise ModelNotFound(f"`{repo[:100]}` is not a model's name", what="model", name=repo[:100])
        return RepoLayout(self.root, repo)

    def _commits(self, repo: str) -> list[str]:
        try:
            return [entry.name for entry in os.scandir(self.layout(repo).folder / "snapshots") if is_commit(entry.name)]
        except (OSError, FastSLMError):
            return []

    def _listed(self, repo: str, commit: str) -> tuple[RemoteFile, ...]:
        layout = self.layout(repo)
        tree = _tree(layout, commit, _stamp(layout.tree(commit)))
        return tree if tree is not None else self._walk(layout, commit)

    def _walk(self, layout: RepoLayout, commit: str) -> tuple[RemoteFile, ...]:
        """A snapshot without a listing: the names of the blobs are the hashes."""
        folder = layout.snapshot(commit)
        inside = [path for path in sorted(folder.rglob("*")) if self._inside(path) is not None]
        return tuple(_described(path, path.relative_to(folder).as_posix()) for path in inside)

    def find(self, repo: str, commit: str, file: RemoteFile) -> Stored | None:
        """The bytes of a file of a listing, if they are here."""
        layout = self.layout(repo)
        if not is_safe_path(file.path):
            return None
        pointer = layout.pointer(commit, file.path)
        real = self._inside(pointer)
        if real is None or _stamp(real)[1] != file.size:
            return None
        if pointer.is_symlink() and pointer.readlink().name != etag_of(file):
            return None
        return Stored(file, real)

    def _inside(self, path: Path) -> Path | None:
        """Where a path ends after all links; None outside the cache."""
        real = Path(os.path.realpath(path))
        return real if real.is_relative_to(self._real_root) and real.is_file() else None


def etag_of(file: RemoteFile) -> str:
    """The hash by which the hub and the cache know a file."""
    return file.sha256 or file.blob_id


def _is_name(repo: str, revision: str = "") -> bool:
    try:
        hub_ref(repo, revision)
    except FastSLMError:
        return False
    return True


def _stamp(path: Path) -> tuple[int, int]:
    """Time of change and size; zeros for what is not there."""
    try:
        found = path.stat()
    except OSError:
        return (0, 0)
    return (found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=KEPT_LISTINGS)
def _tree(layout: RepoLayout, commit: str, stamp: tuple[int, int]) -> tuple[RemoteFile, ...] | None:
    """The listing of a commit; ``stamp`` makes a changed file count as a new one."""
    return read_tree(layout, commit)


def _described(path: Path, name: str) -> RemoteFile:
    """What a listing would say of a file."""
    stamp = _stamp(path)
    blob = path.readlink().name if path.is_symlink() else ""
    if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", blob):
        blob = _hashed(path, stamp)
    if len(blob) == 40:
        return RemoteFile(name, stamp[1], blob)
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{blob}\nsize {stamp[1]}\n".encode()
    blob_id = hashlib.sha1(b"blob %d\0" % len(pointer) + pointer, usedforsecurity=False).hexdigest()
    return RemoteFile(name, stamp[1], blob_id, blob)


REGULAR_BYTES = 10 * 1024 * 1024
"""Larger files are kept by git's large file storage, and so known by their SHA-256."""


@lru_cache(maxsize=4096)
def _hashed(path: Path, stamp: tuple[int, int]) -> str:
    """The hash by which a hub would know a file that is not a link (systems without links)."""
    from fastslm._native import hash_file

    return hash_file(str(path), "git-sha1" if stamp[1] <= REGULAR_BYTES else "sha256")
