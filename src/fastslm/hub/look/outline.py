"""A folder that stands for a repository while its files arrive: headers of the weights, links to everything else.

It lies beside the conversions of the model as ``.<commit12>.outline`` and outlives the process: of weights that were
converted and dropped, it is all that is left. Nothing in it is verified: whoever reads it compares it with the file.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from fastslm.config import Settings
from fastslm.hub.client import HubClient
from fastslm.hub.follow import is_weights
from fastslm.hub.layout import RepoLayout, file_errors
from fastslm.hub.look.peek import peek
from fastslm.hub.plan import DownloadPlan
from fastslm.store import models

SUFFIX = ".outline"


def outline_path(models_dir: Path, name: str, commit: str) -> Path:
    """Where the outline of a commit is."""
    place = models.folder_path(models_dir, name, commit, "outline")
    return place.with_name(f".{commit[:12]}{SUFFIX}")


def outlined(plan: DownloadPlan, settings: Settings, client: HubClient, folder: Path) -> Path:
    """Have the outline of a planned download; returns what to open.

    Files of weights that are here already are links as well.

    Raises:
        UnsupportedModel, FormatError: a header is too large or is none.
        NetworkError, FileMissing, AccessDenied: a file cannot be read.
        StoreError, FileSystemError: the folder cannot be made.
    """
    missing = {file.path for file in plan.files if is_weights(file) and not file.present}
    if not all((folder / path).is_file() and not (folder / path).is_symlink() for path in missing):
        shutil.rmtree(folder, ignore_errors=True)
        with models.building(folder) as scratch:
            peek(plan, settings, client, scratch)
            _remove_links(scratch)
    layout = RepoLayout(settings.hub_cache, plan.repo)
    with file_errors("link in", folder):
        for file in plan.files:
            place = folder / file.path
            if file.path not in missing:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.unlink(missing_ok=True)
                place.symlink_to(layout.pointer(plan.commit, file.path).absolute())
    gguf = [file.path for file in plan.files if file.path.lower().endswith(".gguf")]
    return folder / gguf[0] if len(gguf) == 1 else folder


def _remove_links(folder: Path) -> None:
    """Links are made afresh each time; a text that was fetched on the way gives way to the verified one."""
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or (path.is_file() and path.suffix == ".json"):
            path.unlink()
