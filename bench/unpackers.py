"""Who unpacks: each peer is a command that unpacks one file into a folder and then ends."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

OURS = """
import json, sys, time
from fastslm import _native
archive, folder, durable = sys.argv[1:]
name = archive.rsplit("/", 1)[-1]
form = _native.archive_format(name)
alone = form in ("gzip", "zstd")
began = time.monotonic()
how = _native.UnpackOptions(format=form, folder=folder + "/out", name="out" if alone else "", total_bytes=1 << 40,
                            durable=durable == "durable")
_native.Unpacking(archive, how).files()
print(json.dumps({"seconds": time.monotonic() - began}))
"""

PYTHON = """
import gzip, json, shutil, sys, tarfile, time, zipfile
import zstandard
archive, folder = sys.argv[1:]
began = time.monotonic()
if archive.endswith(".zip"):
    zipfile.ZipFile(archive).extractall(folder)
elif archive.endswith(".tar.gz"):
    tarfile.open(archive).extractall(folder, filter="data")
else:
    if archive.endswith(".zst"):
        source = zstandard.ZstdDecompressor().stream_reader(open(archive, "rb"), read_across_frames=True)
    else:
        source = gzip.open(archive)
    if archive.endswith(".tar.zst"):
        tarfile.open(fileobj=source, mode="r|").extractall(folder, filter="data")
    else:
        with open(folder + "/out", "wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
print(json.dumps({"seconds": time.monotonic() - began}))
"""

Command = Callable[[Path, Path], list[str]]


def _shell(line: str) -> Command:
    """A line for the shell, with `$1` for the archive and `$2` for the folder."""
    return lambda archive, folder: ["sh", "-c", line, "sh", str(archive), str(folder)]


PEERS: dict[str, tuple[str, tuple[str, ...], Command]] = {
    "fastslm": ("", ("gz", "zst", "zip", "tar"), lambda a, f: [sys.executable, "-c", OURS, str(a), str(f), "fast"]),
    "fastslm durable": (
        "",
        ("gz", "zst", "zip", "tar"),
        lambda a, f: [sys.executable, "-c", OURS, str(a), str(f), "durable"],
    ),
    "Python": ("", ("gz", "zst", "zip", "tar"), lambda a, f: [sys.executable, "-c", PYTHON, str(a), str(f)]),
    "igzip": ("igzip", ("gz",), _shell('igzip -dc "$1" > "$2/out"')),
    "libdeflate": ("libdeflate-gunzip", ("gz",), _shell('libdeflate-gunzip -c "$1" > "$2/out"')),
    "gzip": ("gzip", ("gz",), _shell('gzip -dc "$1" > "$2/out"')),
    "zstd -T0": ("zstd", ("zst",), _shell('zstd -q -d -T0 "$1" -o "$2/out"')),
    "unzip": ("unzip", ("zip",), _shell('unzip -q "$1" -d "$2"')),
    "bsdtar": ("bsdtar", ("zip", "tar"), _shell('bsdtar -xf "$1" -C "$2"')),
}
"""Name of the program that must be there, what it unpacks, and how it is called."""


def present(kind: str) -> list[str]:
    """The peers of this machine for a kind of archive."""
    return [name for name, (tool, kinds, _) in PEERS.items() if kind in kinds and (not tool or shutil.which(tool))]
