"""Where a conversion is made: a hidden folder beside its place, which outlives the process that made it.

    models/<org>--<name>/.<commit12>-<precision>.<key>.staging/
        ledger      what is made of what, and which tensors are finished (``store.ledger``)
        model/      the folder that is renamed into place when it is complete

The key is a hash of everything that decides the bytes. Law: only a complete folder is ever renamed; what a failure of
the model or of the disk left is removed, what an interruption left is kept for the next run.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastslm.errors import Cancelled, NetworkError, StoreError
from fastslm.store import atomic, models
from fastslm.store.ledger import Ledger
from fastslm.store.manifest import WEIGHTS_NAME

FORMAT = 1
"""Raised when conversions of the same sources get other bytes."""

SUFFIX = ".staging"
LEDGER = "ledger"
MODEL = "model"

_NAME = re.compile(r"\.(?P<target>.+)\.[0-9a-f]{12}\.staging")


@dataclass(frozen=True)
class Staging:
    """A conversion under way."""

    target: Path
    folder: Path
    ledger: Ledger

    @property
    def model(self) -> Path:
        """The folder that is being made."""
        return self.folder / MODEL

    def tidy(self) -> None:
        """Remove what an earlier run left beside the weights. Raises StoreError."""
        with _store_errors(self.folder):
            self.model.mkdir(exist_ok=True)
            for path in self.model.iterdir():
                if path.name == WEIGHTS_NAME and path.is_file():
                    continue
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()

    def sync(self) -> None:
        """Have what is finished, and the note of it, on the disk itself. Raises StoreError."""
        with _store_errors(self.folder):
            with (self.model / WEIGHTS_NAME).open("rb") as weights:
                os.fsync(weights.fileno())
            self.ledger.sync()
            atomic.sync_folder(self.model)
            atomic.sync_folder(self.folder)

    def empty(self) -> None:
        """Forget all that was made. Raises StoreError."""
        with _store_errors(self.folder):
            self.ledger.clear()
            shutil.rmtree(self.model, ignore_errors=True)
            self.model.mkdir(exist_ok=True)

    def publish(self) -> None:
        """Move the complete model to its place. Raises StoreError."""
        models.publish(self.model, self.target)
        shutil.rmtree(self.folder, ignore_errors=True)


def staging_path(target: Path, subject: Mapping[str, Any]) -> Path:
    """Where the conversion that ``subject`` describes is made."""
    text = json.dumps({"format": FORMAT, **subject}, sort_keys=True)
    return target.with_name(f".{target.name}.{hashlib.sha256(text.encode()).hexdigest()[:12]}{SUFFIX}")


@contextlib.contextmanager
def staged(target: Path, subject: Mapping[str, Any]) -> Iterator[Staging]:
    """A folder to make a model in, for whoever holds the lock of the model's place.

    It is kept when the block is interrupted or the network fails, and removed when it ends otherwise.

    Args:
        subject: everything that decides the bytes of the result; values that JSON knows.

    Raises:
        StoreError: the folder cannot be made.
    """
    folder = staging_path(target, subject)
    with _store_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        staging = Staging(target, folder, Ledger(folder / LEDGER, {"format": FORMAT, **subject}))
    try:
        staging.tidy()
        yield staging
    except (Cancelled, NetworkError):
        raise
    except Exception:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)


def stagings(models_dir: Path, target: Path | None = None) -> tuple[Path, ...]:
    """Folders of conversions that did not end, of one place or of all."""
    pattern = "*/.*" if target is None else f"{target.parent.name}/.{target.name}.*"
    found = (path for path in models_dir.glob(pattern + SUFFIX) if path.is_dir())
    return tuple(sorted(path for path in found if _NAME.fullmatch(path.name)))


def subject_of(staging: Path) -> dict[str, Any]:
    """What is being made there; nothing when that cannot be read."""
    try:
        with (staging / LEDGER).open("rb") as file:
            found = json.loads(file.readline())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def drop(models_dir: Path, name: str) -> int:
    """Remove what unfinished conversions of a model left and nobody works on; returns the bytes freed."""
    freed = 0
    for folder in stagings(models_dir):
        if subject_of(folder).get("name") == name:
            with contextlib.suppress(Busy), models.exclusive(place_of(folder), refuse):
                freed += models.size_bytes(folder)
                shutil.rmtree(folder, ignore_errors=True)
    return freed


class Busy(StoreError):
    """Another thread or process is at work on the same model."""


def refuse() -> None:
    """For ``models.exclusive``: whoever cannot have the lock goes without. Raises Busy."""
    raise Busy("another process converts the same model", path="")


def place_of(staging: Path) -> Path:
    """The folder that it would become."""
    match = _NAME.fullmatch(staging.name)
    return staging.with_name(match["target"] if match else staging.name)


@contextlib.contextmanager
def _store_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"`{folder}` cannot be written: {error.strerror}", path=str(folder)) from error
