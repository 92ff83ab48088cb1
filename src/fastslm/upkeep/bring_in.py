"""Import models from elsewhere on this machine, without a second copy of their bytes where the disk allows it."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fastslm.config import Settings
from fastslm.errors import UsageError
from fastslm.formats import open_outline
from fastslm.hub.disk.foreign import Candidate
from fastslm.hub.disk.imports import Import, entrance, find_import, import_folder
from fastslm.hub.layout import file_errors
from fastslm.hub.refs import is_safe_path
from fastslm.store.entry import Entry
from fastslm.store.placing import Way, place
from fastslm.store.registry import Registry

RESERVED = frozenset({"demo"})
_NAME = re.compile(r"\w[\w.:/@+-]{0,199}", re.ASCII)


@dataclass(frozen=True)
class Imported:
    """A model that was brought in: its line in the registry, and how its files got here."""

    entry: Entry
    ways: tuple[Way, ...]


def check_name(name: str) -> str:
    """A name that a model may run by, as it is.

    Raises:
        UsageError: it would mean something else, or is no name.
    """
    plain = _NAME.fullmatch(name) and is_safe_path(name.replace(":", "-")) and "://" not in name
    if not plain or name in RESERVED or name.lower().endswith((".gguf", ".safetensors")):
        message = f"`{name}` cannot be a model's name, expected letters, digits and `.`, `:`, `/`, `-`, `_`"
        raise UsageError(message, name="name", value=name)
    return name


def bring_in(candidate: Candidate, name: str, settings: Settings) -> Imported:
    """Make a model run by a name.

    Raises:
        UsageError: the name cannot be one, or is taken by another import.
        FileMissing: a file of the model has vanished.
        UnsupportedModel, FormatError: we could not convert it; nothing is kept.
        DiskFull, FileSystemError: there is no room, or no right to read or write.
    """
    target = import_folder(settings, check_name(name))
    if find_import(settings, name) is not None:
        raise UsageError(f"`{name}` is imported already, expected another name", name="name", value=name)
    with file_errors("import into", target):
        settings.downloads_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".part-", dir=settings.downloads_dir) as scratch:
            folder = Path(scratch) / target.name
            folder.mkdir()
            ways = tuple(place(source, folder / file) for file, source in sorted(candidate.files.items()))
            record = Import(name, str(candidate.origin), {f: candidate.hashes.get(f, "") for f in candidate.files})
            record.write(folder)
            open_outline(entrance(folder, record))
            folder.rename(target)
    return Imported(_register(name, entrance(target, record), settings, tuple(candidate.files)), ways)


def _register(name: str, path: Path, settings: Settings, files: Sequence[str]) -> Entry:
    folder = path if path.is_dir() else path.parent
    size = sum((folder / file).stat().st_size for file in files)
    registry = Registry(settings.registry_file)
    return registry.advance(registry.begin(name), "downloaded", snapshot=path, size_bytes=size)
