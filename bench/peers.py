"""Who downloads: each peer is a command that fetches the files of a folder on a server and then ends.

Programs written in Python tell their own seconds, without the interpreter's start and the imports.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from bench.server import COMMIT, PREFIX


@dataclass(frozen=True)
class Order:
    """What is to be fetched: file names with their SHA-256 and size, from a port of this machine, to a folder."""

    port: int
    files: Sequence[tuple[str, str, int]]
    folder: Path
    options: str = ""

    @property
    def endpoint(self) -> str:
        """Address of the server."""
        return f"http://127.0.0.1:{self.port}"

    def url(self, name: str) -> str:
        """Address of one file."""
        return f"{self.endpoint}{PREFIX}{name}"


Command = tuple[list[str], dict[str, str]]


def python(code: str, *arguments: str, **environment: str) -> Command:
    """A program of this Python, with changes to its environment."""
    return [sys.executable, "-c", code, *arguments], environment


OURS = """
import json, sys, time
from fastslm import _native
began = time.monotonic()
order, options = json.loads(sys.argv[1]), json.loads(sys.argv[2])
files = [_native.FileRequest(url=url, partial_path=path, journal_path=path + ".journal", size_bytes=size,
                             hash_algorithm="sha256", expected_hash=digest) for url, path, digest, size in order]
download = _native.Download(files, _native.DownloadOptions(**options))
while not download.wait(0.1):
    pass
seen = download.progress()
errors = [file.error for file in seen.files if file.error]
resumed = sum(file.resumed_bytes for file in seen.files)
print(json.dumps({"seconds": time.monotonic() - began, "wire_bytes": seen.wire_bytes, "resumed": resumed}))
sys.exit(str(errors[0]) if errors else 0)
"""

OFFICIAL = """
import json, sys, time
from concurrent.futures import ThreadPoolExecutor
from huggingface_hub import hf_hub_download
endpoint, commit, folder, *names = sys.argv[1:]
began = time.monotonic()
def fetch(name):
    hf_hub_download("bench/files", name, revision=commit, endpoint=endpoint, cache_dir=folder)
with ThreadPoolExecutor(8) as pool:
    list(pool.map(fetch, names))
print(json.dumps({"seconds": time.monotonic() - began}))
"""

TRANSFER = """
import json, sys, time, hf_transfer
began = time.monotonic()
for pair in sys.argv[1:]:
    url, _, path = pair.partition(" ")
    hf_transfer.download(url, path, 16, 10 << 20, 3, 5)
print(json.dumps({"seconds": time.monotonic() - began}))
"""


def fastslm(order: Order) -> Command:
    """Our engine, hash included."""
    import json

    files = [(order.url(name), str(order.folder / name), digest, size) for name, digest, size in order.files]
    return python(OURS, json.dumps(files), order.options or "{}")


def curl(order: Order) -> Command:
    """One connection for each file, all files at once."""
    pairs = [part for name, _, _ in order.files for part in ("-o", str(order.folder / name), order.url(name))]
    return ["curl", "-sSf", "-Z", *pairs], {}


def aria2(order: Order) -> Command:
    """Sixteen connections for each file."""
    names = order.folder / "list.txt"
    lines = [f"{order.url(name)}\n  out={name}\n" for name, _, _ in order.files]
    names.write_text("".join(lines), encoding="utf-8")
    flags = ["-x16", "-s16", "-k1M", "--file-allocation=none", "-j4", "-q", "--no-conf", "--allow-overwrite=true"]
    return ["aria2c", *flags, "-d", str(order.folder), "-i", str(names)], {}


def official(order: Order) -> Command:
    """huggingface_hub over HTTP, eight files at once."""
    names = [name for name, _, _ in order.files]
    quiet = {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    return python(OFFICIAL, order.endpoint, COMMIT, str(order.folder), *names, **quiet)


def hf_transfer(order: Order) -> Command:
    """Sixteen ranges of 10 MiB at once, file after file."""
    pairs = [f"{order.url(name)} {order.folder / name}" for name, _, _ in order.files]
    return python(TRANSFER, *pairs)


PEERS: dict[str, Callable[[Order], Command]] = {
    "fastslm": fastslm,
    "curl": curl,
    "aria2": aria2,
    "huggingface_hub": official,
    "hf_transfer": hf_transfer,
}


def present() -> list[str]:
    """The peers that this machine has."""
    tools = {"curl": shutil.which("curl"), "aria2": shutil.which("aria2c")}
    return [name for name in PEERS if tools.get(name, name in tools or find_spec(name))]


def environment(changes: dict[str, str]) -> dict[str, str]:
    """The environment of a peer: no proxy, and a home that nobody else uses."""
    kept = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    return kept | changes
