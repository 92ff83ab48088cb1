"""Folders of converted models: ``models/<org>--<name>/<commit12>-<precision>/``.

A folder appears whole or not at all: it is built beside its place under a hidden name that carries the process
number, synced, and renamed. What a dead process left behind is recognised by that name.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from fastslm.errors import ChecksumMismatch, FastSLMError, FileMissing, StoreError
from fastslm.store import atomic
from fastslm.store.manifest import MANIFEST_NAME, ModelManifest

_LEFTOVER = re.compile(r"\.(?P<name>.+)\.(?P<pid>\d{1,10})\.(?P<kind>tmp|old)")
_CHUNK_BYTES = 1 << 20
_MAX_NAME_CHARS = 120


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
        shutil.rmtree(temporary, ignore_errors=True)
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
        shutil.rmtree(old, ignore_errors=True)
        if target.exists():
            target.rename(old)
        try:
            temporary.rename(target)
        except OSError:
            if old.exists():
                old.rename(target)
            raise
        atomic.sync_folder(target.parent)
    except OSError as error:
        raise StoreError(f"`{target}` cannot be put in place: {error.strerror}", path=str(target)) from error
    shutil.rmtree(old, ignore_errors=True)


def remove_leftovers(models_dir: Path) -> tuple[Path, ...]:
    """Delete what dead processes left half done; put back a folder that a crash caught between two renames.

    Returns:
        The hidden paths that are gone now.
    """
    handled = leftovers(models_dir)
    for path in handled:
        place = rescued(path)
        if place is not None:
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
        shutil.rmtree(hidden, ignore_errors=True)
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
    try:
        if not full:
            return None if path.stat().st_size else FileMissing(f"`{path}` is empty", what="file", name=str(path))
        found = _sha256(path)
    except FileNotFoundError:
        return FileMissing(f"`{path}` does not exist", what="file", name=str(path))
    except OSError as error:
        return StoreError(f"`{path}` cannot be read: {error.strerror}", path=str(path))
    if found == expected:
        return None
    message = f"`{path}` has SHA-256 `{found}`, expected `{expected}`"
    return ChecksumMismatch(message, subject=str(path), expected=expected, found=found)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _hidden(target: Path, kind: str) -> Path:
    return target.with_name(f".{target.name}.{os.getpid()}.{kind}")
