"""Folders of converted models: ``models/<org>--<name>/<commit12>-<precision>/``.

A folder appears whole or not at all: it is built beside its place under a hidden name that carries the process
number and a random part, synced, and renamed. What a dead process left behind is recognised by that name.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from fastslm.errors import ChecksumMismatch, FastSLMError, FileMissing, FileSystemError, StoreError
from fastslm.store import atomic
from fastslm.store.manifest import MANIFEST_NAME, ModelManifest

_LEFTOVER = re.compile(r"\.(?P<name>.+)\.(?P<pid>\d{1,10})(-[0-9a-f]{8})?\.(?P<kind>tmp|old)")
_MAX_NAME_CHARS = 120
_LOCK_POLL_S = 0.25
_MOST_REPLACEMENTS = 100


def folder_path(models_dir: Path, name: str, commit: str, precision: str) -> Path:
    """Where a converted model belongs. Any text is a safe name: what is not plain is replaced and a hash added."""
    model = "--".join(name.split("/")) if re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name, re.ASCII) else name
    return models_dir / _safe(model) / f"{_safe(commit[:12])}-{_safe(precision)}"


def _safe(text: str) -> str:
    """The text itself when it can be a file name everywhere, else a readable form of it with a hash."""
    if re.fullmatch(r"\w[\w.-]*", text, re.ASCII) and len(text) <= _MAX_NAME_CHARS and not text.endswith("."):
        return text
    readable = re.sub(r"[^\w-]+", "-", text, flags=re.ASCII).strip("-")[-40:]
    return f"{readable or 'model'}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def lock_path(folder: Path) -> Path:
    """What is locked by whoever changes a model folder."""
    return folder.parent.parent / ".locks" / f"{folder.parent.name}--{folder.name}.lock"


@contextlib.contextmanager
def exclusive(folder: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the lock of a model folder's place; ``waiting`` is called while another thread or process holds it.

    Raises:
        StoreError: the lock file cannot be made.
    """
    from filelock import FileLock, Timeout

    file = lock_path(folder)
    lock = FileLock(file, thread_local=False)  # a download's helper may take it for the download
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        while not lock.is_locked:
            try:
                lock.acquire(timeout=_LOCK_POLL_S)
            except Timeout:
                waiting()
    except OSError as error:
        raise StoreError(f"`{file}` cannot be locked: {error.strerror}", path=str(file)) from error
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def building(target: Path) -> Iterator[Path]:
    """A new empty folder that becomes ``target`` when the block ends well, and vanishes when it does not.

    A folder that is already there is replaced, and kept if the replacement fails.

    Raises:
        StoreError: a folder cannot be made or moved.
    """
    temporary = _hidden(target, "tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
    except OSError as error:
        raise StoreError(f"`{temporary}` cannot be made: {error.strerror}", path=str(temporary)) from error
    try:
        yield temporary
        publish(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def publish(temporary: Path, target: Path) -> None:
    """Sync a finished folder and move it to its place. Raises StoreError; then the old folder is still there."""
    old = _hidden(target, "old")
    try:
        atomic.sync_tree(temporary)
        _replace(temporary, target, old)
        atomic.sync_folder(target.parent)
    except OSError as error:
        raise StoreError(f"`{target}` cannot be put in place: {error.strerror}", path=str(target)) from error
    shutil.rmtree(old, ignore_errors=True)


def _replace(temporary: Path, target: Path, old: Path) -> None:
    """Rename into place. A folder cannot be replaced in one step, so another may slip in between the two: again."""
    for _ in range(_MOST_REPLACEMENTS):
        with contextlib.suppress(FileNotFoundError):
            target.rename(old)
        try:
            temporary.rename(target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                if old.exists():
                    old.rename(target)
                raise
            shutil.rmtree(old, ignore_errors=True)
        else:
            return
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))


def remove_leftovers(models_dir: Path) -> tuple[Path, ...]:
    """Delete what dead processes left half done; put back a folder that a crash caught between two renames.

    Returns:
        The hidden paths that are gone now.
    """
    handled = leftovers(models_dir)
    for path in handled:
        place = rescued(path)
        if place is not None:
            with contextlib.suppress(OSError):  # another process was quicker
                path.rename(place)
        else:
            shutil.rmtree(path, ignore_errors=True)
    return handled


def leftovers(models_dir: Path) -> tuple[Path, ...]:
    """Hidden folders of processes that do not run any more."""
    found = []
    for path in sorted(models_dir.glob("*/.*")):
        match = _LEFTOVER.fullmatch(path.name)
        if match and not atomic.process_is_alive(int(match["pid"])):
            found.append(path)
    return tuple(found)


def rescued(leftover: Path) -> Path | None:
    """Where a leftover belongs, if it is a whole model that a crash caught between two renames; else None."""
    match = _LEFTOVER.fullmatch(leftover.name)
    if match is None or match["kind"] != "old":
        return None
    place = leftover.with_name(match["name"])
    return place if not place.exists() and (leftover / MANIFEST_NAME).is_file() else None


def delete(folder: Path, models_dir: Path) -> int:
    """Delete a model folder and return the bytes it took; 0 when it is not there.

    It is renamed first, so that no half-deleted model can be opened.

    Raises:
        StoreError: it does not lie below ``models_dir``, or cannot be removed.
    """
    inside = folder.parent.parent.resolve() == models_dir.resolve() and folder.name not in ("", ".", "..")
    if not inside:
        raise StoreError(f"`{folder}` is not a model folder of `{models_dir}`", path=str(folder))
    if not folder.exists():
        return 0
    freed, hidden = size_bytes(folder), _hidden(folder, "tmp")
    try:
        folder.rename(hidden)
        shutil.rmtree(hidden)
    except OSError as error:
        raise StoreError(f"`{folder}` cannot be removed: {error.strerror}", path=str(folder)) from error
    with contextlib.suppress(OSError):  # other precisions may live beside it
        folder.parent.rmdir()
    return freed


def size_bytes(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


def verify(folder: Path, *, full: bool) -> tuple[FastSLMError, ...]:
    """Compare a model folder with its manifest and return what is wrong; empty when it is sound.

    Args:
        folder: a converted model.
        full: hash every file; otherwise only look whether the files are there and not empty.

    Raises:
        FileMissing, FormatError: the manifest itself is missing or damaged.
    """
    manifest = ModelManifest.read(folder)
    problems = (_problem(folder / name, digest, full=full) for name, digest in sorted(manifest.hashes.items()))
    return tuple(problem for problem in problems if problem is not None)


def _problem(path: Path, expected: str, *, full: bool) -> FastSLMError | None:
    from fastslm._native import hash_file

    try:
        if path.stat().st_size == 0:
            return FileMissing(f"`{path}` is empty", what="file", name=str(path))
        found = hash_file(str(path), "sha256") if full else expected
    except FileNotFoundError:
        return FileMissing(f"`{path}` does not exist", what="file", name=str(path))
    except FileSystemError as error:
        return error
    except OSError as error:
        return StoreError(f"`{path}` cannot be read: {error.strerror}", path=str(path))
    if found == expected:
        return None
    message = f"`{path}` has SHA-256 `{found}`, expected `{expected}`"
    return ChecksumMismatch(message, subject=str(path), expected=expected, found=found)


def _hidden(target: Path, kind: str) -> Path:
    return target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.{kind}")
