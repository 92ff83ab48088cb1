"""Take a model's source files off this machine."""

from __future__ import annotations

import shutil
from pathlib import Path

from fastslm.config import Settings
from fastslm.hub.cache import remove_snapshot
from fastslm.hub.disk.imports import read_import
from fastslm.hub.layout import RepoLayout, file_errors
from fastslm.hub.refs import ModelRef


def is_shared(ref: ModelRef, settings: Settings) -> bool:
    """Whether other tools may use the same files: the hub cache is everybody's, a local path its owner's."""
    return ref.kind == "hub" or (ref.kind == "local" and not _is_import(ref.path, settings))


def forget(ref: ModelRef, source: Path, commit: str, settings: Settings) -> int:
    """Delete the source files of a model and return the bytes freed; a local path is its owner's and is kept.

    Raises:
        FileSystemError: something could not be deleted.
    """
    if ref.kind == "hub":
        return remove_snapshot(RepoLayout(settings.hub_cache, ref.repo), commit)
    folder = _own_folder(source)
    owned = ref.kind != "local" or _is_import(source, settings)
    if not owned or folder.parent != settings.downloads_dir or not folder.is_dir():
        return 0
    with file_errors("remove", folder):
        freed = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        shutil.rmtree(folder)
    return freed


def _own_folder(source: Path) -> Path:
    return source if source.is_dir() else source.parent


def _is_import(source: Path | None, settings: Settings) -> bool:
    folder = _own_folder(source) if source is not None else settings.home
    return folder.parent == settings.downloads_dir and read_import(folder) is not None
