"""Take a model's source files off this machine."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from fastslm.config import Settings
from fastslm.hub.cache import drop_file, locked, remove_snapshot
from fastslm.hub.disk.imports import read_import
from fastslm.hub.follow import WEIGHTS
from fastslm.hub.layout import RepoLayout, file_errors, known_commit
from fastslm.hub.refs import ModelRef


def is_shared(ref: ModelRef) -> bool:
    """Whether other tools may use the same files, which go only when the user says so: the hub cache is everybody's."""
    return ref.kind == "hub"


def kept_snapshot(ref: ModelRef, settings: Settings) -> tuple[Path, str] | None:
    """Folder and commit of what the hub cache still has of a model, whoever brought it; or None."""
    layout = RepoLayout(settings.hub_cache, ref.repo)
    commit = known_commit(layout, ref.revision) if ref.kind == "hub" else None
    found = commit is not None and layout.snapshot(commit).is_dir()
    return (layout.snapshot(commit), commit) if commit is not None and found else None


def forget_weights(repo: str, commit: str, files: Sequence[str], settings: Settings) -> int:
    """Delete the weights among these files of a snapshot and return the bytes freed; its texts are kept.

    Raises:
        FileSystemError: something could not be deleted.
    """
    layout = RepoLayout(settings.hub_cache, repo)
    with locked([layout.own_lock], waiting=lambda: None):
        return sum(drop_file(layout, commit, path) for path in files if path.lower().endswith(WEIGHTS))


def forget(ref: ModelRef, source: Path, commit: str, settings: Settings) -> int:
    """Delete the source files of a model and return the bytes freed.

    A local path is its owner's and is kept, unless it is an import.

    Raises:
        FileSystemError: something could not be deleted.
    """
    if ref.kind == "hub":
        return remove_snapshot(RepoLayout(settings.hub_cache, ref.repo), commit)
    folder = next((path for path in (source, *source.parents) if path.parent == settings.downloads_dir), None)
    if folder is None or not folder.is_dir():
        return 0
    if ref.kind == "local" and read_import(folder) is None:
        return 0
    with file_errors("remove", folder):
        freed = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        shutil.rmtree(folder)
    return freed
