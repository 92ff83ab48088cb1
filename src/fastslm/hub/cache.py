"""Changes to the Hugging Face cache, such that the official client finds what it would have written itself.

Every change is a rename or a link of something complete; nothing is ever written through an existing link.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fastslm.hub.client import RemoteFile, library_generation
from fastslm.hub.layout import TREE_FORMAT, RepoLayout, file_errors, is_commit, known_commit

CACHE_TAG = (
    "Signature: 8a477f597d28d172789f06886806bc55\n"
    "# A cache of model files: backup programs may leave this folder out.\n"
    "# See https://bford.info/cachedir/\n"
)
LOCK_POLL_S = 0.25


def prepare(layout: RepoLayout) -> None:
    """Make the folders that a download needs. Raises FileSystemError naming the one that cannot be made."""
    for folder in (layout.folder / "blobs", layout.folder / "snapshots", layout.partials, layout.locks):
        with file_errors("make the folder", folder):
            folder.mkdir(parents=True, exist_ok=True)
    with file_errors("write", layout.partials):
        _write_tag(layout.root / "CACHEDIR.TAG")
        _umask_mode(layout.partials)  # fails here and now in a cache that may not be written


def _write_tag(path: Path) -> None:
    """For backup programs; the client before its first version takes the file for a damaged repository."""
    if library_generation() >= 1 and not path.exists():
        path.write_text(CACHE_TAG, encoding="ascii")


def symlinks_work(folder: Path) -> bool:
    """Whether a link can be made in a folder (not on every file system, nor for every user of Windows)."""
    with file_errors("write in", folder), tempfile.TemporaryDirectory(dir=folder, prefix=".links-") as probe:
        target, link = Path(probe) / "target", Path(probe) / "link"
        target.touch()
        try:
            link.symlink_to(target.name)
        except OSError:
            return False
        return True


@contextmanager
def locked(files: Sequence[Path], waiting: Callable[[], None]) -> Iterator[None]:
    """Hold lock files, taken in the given order; ``waiting`` is called while another process holds one."""
    with ExitStack() as stack:
        for file in files:
            stack.callback(_acquire(file, waiting))
        yield


def _acquire(file: Path, waiting: Callable[[], None]) -> Callable[[], None]:
    """Take one lock as the official client does (group-writable; a plain lock file where flock is missing)."""
    from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

    with file_errors("lock", file):
        file.parent.mkdir(parents=True, exist_ok=True)
        lock: BaseFileLock = FileLock(file, mode=0o664)
        while True:
            try:
                lock.acquire(timeout=LOCK_POLL_S)
            except Timeout:
                waiting()
            except NotImplementedError:
                lock = SoftFileLock(file)
            else:
                return lock.release


def publish_blob(layout: RepoLayout, etag: str) -> Path:
    """Move a verified partial file to its place among the blobs, with the mode that the umask gives new files."""
    partial, blob = layout.partial(etag), layout.blob(etag)
    with file_errors("publish", blob):
        partial.chmod(_umask_mode(layout.partials))
        partial.replace(blob)
    return blob


def drop_partial(layout: RepoLayout, etag: str) -> None:
    """Forget an unfinished download whose blob somebody else has completed."""
    for leftover in (layout.partial(etag), layout.journal(etag)):
        with file_errors("remove", leftover):
            leftover.unlink(missing_ok=True)


def link(layout: RepoLayout, commit: str, paths: Sequence[str], etag: str, *, symlinks: bool, fresh: bool) -> None:
    """Make a blob visible in a snapshot under each of ``paths``: relative links, or files where links do not work.

    Without links a ``fresh`` blob is moved to its first path; an older one may serve other snapshots and is copied.
    """
    pointers = [layout.pointer(commit, path) for path in paths]
    source = layout.blob(etag)
    with file_errors("link", pointers[0]):
        for pointer in pointers:
            pointer.parent.mkdir(parents=True, exist_ok=True)
            if symlinks:
                _symlink(os.path.relpath(source, pointer.parent), pointer, layout.partials)
            elif fresh and source == layout.blob(etag):
                source = source.replace(pointer)
            else:
                _copy(source, pointer, layout.partials)


def _symlink(target: str, pointer: Path, scratch: Path) -> None:
    if pointer.is_symlink() and os.readlink(pointer) == target:  # noqa: PTH115 - the text, not a Path made of it
        return
    fresh = scratch / f"{uuid.uuid4().hex}.link"
    fresh.symlink_to(target)
    fresh.replace(pointer)


def _copy(blob: Path, pointer: Path, scratch: Path) -> None:
    from fastslm import _native

    fresh = scratch / f"{uuid.uuid4().hex}.copy"
    try:
        _native.copy_file(str(blob), str(fresh))
        shutil.copymode(blob, fresh)
        fresh.replace(pointer)
    finally:
        fresh.unlink(missing_ok=True)


def ref_is(layout: RepoLayout, revision: str, commit: str) -> bool:
    """Whether the cache already remembers that a revision is this commit; a commit needs no memory."""
    return is_commit(revision) or known_commit(layout, revision) == commit


def write_ref(layout: RepoLayout, revision: str, commit: str) -> None:
    """Remember which commit a branch or tag pointed to."""
    ref = layout.ref(revision)
    if not ref_is(layout, revision, commit):
        with file_errors("write", ref):
            ref.parent.mkdir(parents=True, exist_ok=True)
            _replace_text(ref, commit, layout.partials)


def write_tree(layout: RepoLayout, commit: str, files: Sequence[RemoteFile]) -> None:
    """Remember a commit's complete listing, in the official format; one with masked hashes is not kept."""
    target = layout.tree(commit)
    if any(file.masked for file in files) or target.is_file():
        return
    entries = {file.path: _tree_json(file) for file in sorted(files, key=lambda file: file.path)}
    with file_errors("write", target):
        target.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"format_version": TREE_FORMAT, "files": entries}, indent=1)
        _replace_text(target, text, layout.partials, mode=0o600)


def _tree_json(file: RemoteFile) -> dict[str, object]:
    entry: dict[str, object] = {"size": file.size, "blob_id": file.blob_id}
    if file.sha256:
        entry |= {"lfs_sha256": file.sha256, "lfs_size": file.size}
    if file.xet_hash:
        entry["xet_hash"] = file.xet_hash
    return entry


def _replace_text(target: Path, text: str, scratch: Path, mode: int | None = None) -> None:
    fresh = scratch / f"{uuid.uuid4().hex}.text"
    try:
        fresh.write_text(text, encoding="utf-8")
        if mode is not None:
            fresh.chmod(mode)
        fresh.replace(target)
    finally:
        fresh.unlink(missing_ok=True)


def _umask_mode(folder: Path) -> int:
    """The mode of a new file; asking for the umask itself would change it for other threads."""
    probe = folder / f"{uuid.uuid4().hex}.mode"
    probe.touch()
    try:
        return stat.S_IMODE(probe.stat().st_mode)
    finally:
        probe.unlink(missing_ok=True)


def remove_snapshot(layout: RepoLayout, commit: str) -> int:
    """Delete a snapshot, the refs to it, and the blobs that no other snapshot links to; returns the bytes freed.

    Raises:
        FileSystemError: something could not be deleted.
    """
    snapshot = layout.snapshot(commit)
    with locked([layout.own_lock], waiting=lambda: None), file_errors("remove", snapshot):
        if not snapshot.exists():
            return 0
        orphans = _linked_blobs(snapshot).difference(*map(_linked_blobs, _other_snapshots(snapshot)))
        plain = [path for path in snapshot.rglob("*") if path.is_file() and not path.is_symlink()]
        freed = sum(path.stat().st_size for path in [*plain, *orphans])
        shutil.rmtree(snapshot)
        for blob in orphans:
            blob.unlink()
        layout.tree(commit).unlink(missing_ok=True)
        _remove_refs(layout, commit)
        if not _other_snapshots(snapshot):
            shutil.rmtree(layout.folder)
    return freed


def drop_file(layout: RepoLayout, commit: str, path: str) -> int:
    """Take one file out of a snapshot, for whoever holds the lock of the folder, with its blob unless another path or
    snapshot shows it too; returns the bytes freed.

    Raises:
        FileSystemError: something could not be deleted.
    """
    pointer = layout.pointer(commit, path)
    with file_errors("remove", pointer):
        if not pointer.is_symlink():
            freed = pointer.stat().st_size if pointer.exists() else 0
            pointer.unlink(missing_ok=True)
            return freed
        blob = Path(os.path.normpath(pointer.parent / os.readlink(pointer)))  # noqa: PTH115
        pointer.unlink()
        used = set().union(*map(_linked_blobs, (layout.folder / "snapshots").glob("*")))
        if blob.parent != layout.folder / "blobs" or blob in used or not blob.exists():
            return 0
        freed = blob.stat().st_size
        blob.unlink()
    return freed


def _other_snapshots(snapshot: Path) -> list[Path]:
    return [folder for folder in snapshot.parent.glob("*") if folder != snapshot]


def _linked_blobs(snapshot: Path) -> set[Path]:
    links = [path for path in snapshot.rglob("*") if path.is_symlink()]
    blobs = {Path(os.path.normpath(path.parent / os.readlink(path))) for path in links}  # noqa: PTH115
    folder = snapshot.parent.parent / "blobs"
    return {blob for blob in blobs if blob.parent == folder and blob.exists()}


def _remove_refs(layout: RepoLayout, commit: str) -> None:
    for ref in (layout.folder / "refs").rglob("*"):
        if ref.is_file() and ref.read_text(encoding="utf-8", errors="replace").strip() == commit:
            ref.unlink()
