"""Models that were brought in from elsewhere on this machine: one folder each in our downloads, with a record.

{downloads}/imported-{hash of the name}/
import.json     name, where it came from, and each file's SHA-256 where it is known
...             the files, by reflink or hard link where the file system allows it
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from fastslm.config import Settings
from fastslm.hub.refs import ModelRef, is_safe_path

RECORD = "import.json"


@dataclass(frozen=True)
class Import:
    """One imported model: the name it runs by, its origin, and file name to SHA-256, empty where nobody told."""

    name: str
    origin: str
    files: Mapping[str, str] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write the record into a folder that is not yet visible. Raises OSError."""
        (folder / RECORD).write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False), encoding="utf-8")


def import_folder(settings: Settings, name: str) -> Path:
    """Where a model of this name belongs."""
    return settings.downloads_dir / f"imported-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def find_import(settings: Settings, name: str) -> ModelRef | None:
    """The imported model of this name; None when there is none."""
    folder = import_folder(settings, name)
    record = read_import(folder)
    return ModelRef("local", name, path=entrance(folder, record)) if record and record.name == name else None


def imports(settings: Settings) -> Iterator[tuple[Path, Import]]:
    """Every imported model with its folder."""
    for folder in sorted(settings.downloads_dir.glob("imported-*")):
        record = read_import(folder)
        if record is not None:
            yield folder, record


def read_import(folder: Path) -> Import | None:
    """The record of a folder; None when there is none that can be understood."""
    try:
        found = Import(**json.loads((folder / RECORD).read_text(encoding="utf-8")))
        sound = all(is_safe_path(file) and isinstance(digest, str) for file, digest in found.files.items())
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return None
    return found if sound and found.files and isinstance(found.name, str) else None


def entrance(folder: Path, record: Import) -> Path:
    """What to open: the only file, or the folder."""
    return folder / next(iter(record.files)) if len(record.files) == 1 else folder
