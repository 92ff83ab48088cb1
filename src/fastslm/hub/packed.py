"""A packed file at an address, or on this machine, becomes a model: which file of what came out is to be opened.

An address' archive is unpacked while it arrives, into ``unpacked/`` beside its record.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from fastslm.config import Settings
from fastslm.errors import FormatError
from fastslm.formats.archive import plain_name, unpack
from fastslm.hub.disk.foreign import Candidate, discover
from fastslm.hub.layout import file_errors
from fastslm.progress import ProgressCallback

UNPACKED = "unpacked"


def room(folder: Path) -> int:
    """The most that an archive may become there: what the disk has left. Raises FileSystemError."""
    with file_errors("write in", folder):
        folder.mkdir(parents=True, exist_ok=True)
        return shutil.disk_usage(folder).free


def the_model(folder: Path, archive: str) -> Path:
    """The only model in an unpacked archive, as a file or folder to open.

    Raises:
        FileMissing, FormatError: there is none, or several.
    """
    found = discover(_home(folder))
    if len(found) > 1:
        names = ", ".join(f"`{each.name}`" for each in found[:3])
        message = f"`{archive}` holds {len(found)} models ({names}), expected one"
        raise FormatError(message, subject=archive, expected=1, found=len(found))
    return found[0].origin


def _home(folder: Path) -> Path:
    """The only folder in an archive that has a model in Hugging Face's layout; else the top."""
    homes = {path.parent for path in folder.rglob("config.json") if any(path.parent.glob("*.safetensors"))}
    return homes.pop() if len(homes) == 1 else folder


@contextmanager
def scratch_folder(settings: Settings) -> Iterator[Path]:
    """A folder on the disk of the downloads, so that nothing is copied; gone afterwards. Raises FileSystemError."""
    with file_errors("write in", settings.downloads_dir):
        settings.downloads_dir.mkdir(parents=True, exist_ok=True)
        scratch = TemporaryDirectory(prefix=".part-", dir=settings.downloads_dir)
    with scratch as path:
        yield Path(path)


def unpacked_candidates(
    archive: Path, scratch: Path, settings: Settings, progress: ProgressCallback
) -> list[Candidate]:
    """Unpack an archive of this machine into an existing scratch folder and find the models in it.

    Raises:
        FileMissing, FormatError, DiskFull, FileSystemError: as ``unpack`` and ``discover``.
    """
    folder = scratch / plain_name(archive.name).removesuffix(".gguf")
    digests = unpack(archive, folder, max_bytes=room(settings.downloads_dir), progress=progress)
    return [_of(archive, folder, digests, found) for found in discover(_home(folder))]


def _of(archive: Path, folder: Path, digests: Mapping[str, str], found: Candidate) -> Candidate:
    known = {name: digests.get(path.relative_to(folder).as_posix(), "") for name, path in found.files.items()}
    return Candidate(found.name, archive, found.files, known)
