"""Model files in our downloads folder: the demo, files from addresses, imports; each with its name and its hash."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fastslm.config import Settings
from fastslm.hub.address import read_record
from fastslm.hub.catalogue import load_catalogue
from fastslm.hub.disk.imports import imports
from fastslm.hub.packed import UNPACKED


@dataclass(frozen=True)
class Keepsake:
    """A file we keep: the name that means it, and its SHA-256, empty if nobody ever told."""

    name: str
    file: Path
    sha256: str


def keepsakes(settings: Settings) -> Iterator[Keepsake]:
    """Every model file in the downloads folder that a record beside it explains."""
    demo = load_catalogue().demo
    file = settings.downloads_dir / "demo" / demo.file_name
    if file.is_file():
        yield Keepsake("demo", file, demo.sha256)
    for folder in sorted(settings.downloads_dir.glob("*")):
        source = read_record(folder) if folder.is_dir() else None
        if source is not None and source.files:
            files = sorted(source.files.items())
            yield from (Keepsake(source.name, folder / UNPACKED / name, digest) for name, digest in files)
        elif source is not None:
            yield from (Keepsake(source.name, path, source.sha256) for path in sorted(folder.glob("*.gguf")))
    for folder, record in imports(settings):
        yield from (Keepsake(record.name, folder / name, digest) for name, digest in sorted(record.files.items()))
