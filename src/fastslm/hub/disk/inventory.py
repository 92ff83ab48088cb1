"""What the Hugging Face cache holds and what each file must hash to. Reads only; asks nobody.

A blob's name is its hash: 64 hex digits of SHA-256, or 40 of git's SHA-1. A snapshot that has files of its own instead
of links is checked by the commit's listing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fastslm.hub.layout import RepoLayout, read_tree

Algorithm = Literal["sha256", "git-sha1"]


@dataclass(frozen=True)
class CachedFile:
    """One file of the cache.

    Attributes:
        file: what to hash: a blob, or a file of a snapshot that is no link.
        algorithm, expected: what it must give; None and empty when nobody knows.
        repo: ``org/name``.
        commit, path: a place in a snapshot where it is seen, empty for a blob that no snapshot shows.
    """

    file: Path
    algorithm: Algorithm | None
    expected: str
    repo: str
    commit: str = ""
    path: str = ""


def repositories(root: Path) -> tuple[RepoLayout, ...]:
    """Every model repository in a cache, by name."""
    if not root.is_dir():
        return ()
    names = sorted(path.name for path in root.iterdir() if path.name.startswith("models--") and path.is_dir())
    return tuple(RepoLayout(root, "/".join(name.split("--")[1:])) for name in names)


def cached_files(layout: RepoLayout) -> Iterator[CachedFile]:
    """Every complete file of a repository once, however many snapshots show it; dangling links too."""
    shown: set[Path] = set()
    for commit, path, pointer in pointers(layout):
        found = _seen(layout, commit, path, pointer)
        if found.file not in shown:
            shown.add(found.file)
            yield found
    for blob in blobs(layout):
        if blob not in shown:
            yield CachedFile(blob, kind_of(blob.name), blob.name, layout.repo)


def pointers(layout: RepoLayout) -> Iterator[tuple[str, str, Path]]:
    """Commit, path in the repository, and place of every file of every snapshot."""
    for snapshot in sorted((layout.folder / "snapshots").glob("*")):
        for pointer in sorted(snapshot.rglob("*")):
            if pointer.is_symlink() or pointer.is_file():
                yield snapshot.name, pointer.relative_to(snapshot).as_posix(), pointer


def blobs(layout: RepoLayout) -> list[Path]:
    """Complete blobs; the official client's unfinished ones have a suffix."""
    return sorted(path for path in (layout.folder / "blobs").glob("*") if path.is_file() and not path.suffix)


def target(pointer: Path) -> Path:
    """The blob that a link means, whether it is there or not; the file itself when it is no link."""
    if not pointer.is_symlink():
        return pointer
    return Path(os.path.normpath(pointer.parent / os.readlink(pointer)))  # noqa: PTH115 - the text of the link


def kind_of(digest: str) -> Algorithm | None:
    """The hash that a name can be."""
    if re.fullmatch(r"[0-9a-f]{64}", digest):
        return "sha256"
    return "git-sha1" if re.fullmatch(r"[0-9a-f]{40}", digest) else None


def _seen(layout: RepoLayout, commit: str, path: str, pointer: Path) -> CachedFile:
    file = target(pointer)
    if file.parent == layout.folder / "blobs":
        return CachedFile(file, kind_of(file.name), file.name, layout.repo, commit, path)
    listed = {entry.path: entry.sha256 or entry.blob_id for entry in read_tree(layout, commit) or ()}
    digest = listed.get(path, "")
    return CachedFile(file, kind_of(digest), digest, layout.repo, commit, path)
