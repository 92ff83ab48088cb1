"""Look into model files that are still on the hub: headers are fetched by range, weights are holes.

The result is a folder that a reader of headers takes for the model itself: text files whole, weight files of their full
length (sparse, so that they take no room) of which only the header has content.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from fastslm.config import Settings
from fastslm.errors import FileMissing, FormatError, UnsupportedModel
from fastslm.hub.client import HubClient
from fastslm.hub.layout import RepoLayout, file_errors
from fastslm.hub.look.ranges import read_range
from fastslm.hub.parallel import in_parallel
from fastslm.hub.plan import DownloadPlan, PlannedFile
from fastslm.hub.transfer import Link

FIRST_BYTES = 256 * 1024
"""Enough for the header of a safetensors file of a small model, and for the metadata of many a GGUF."""

MOST_BYTES = 64 * 1024 * 1024
"""A GGUF header holds the whole vocabulary: up to about 15 MB. What is larger is not looked into."""

THREADS = 8

Read = Callable[[int, int], bytes]
"""Bytes from a start to a stop."""


def peek(plan: DownloadPlan, settings: Settings, client: HubClient, folder: Path) -> Path:
    """Fill an empty folder with the outline of a planned download; returns what to open.

    Raises:
        UnsupportedModel, FormatError: a header is too large or is none.
        NetworkError, FileMissing, AccessDenied: a file cannot be read; the folder is for the caller to remove.
    """
    layout = RepoLayout(settings.hub_cache, plan.repo)
    graph = next((file.path for file in plan.files if file.path.endswith(".onnx")), None)
    if graph is not None:
        message = f"`{graph}` is a ready-made graph, expected weights whose shapes can be looked at"
        raise FileMissing(message, what="weights", name=graph)
    wanted = [file for file in plan.files if file.path.endswith((".json", ".safetensors", ".gguf"))]

    def outline(file: PlannedFile) -> Path:
        target = folder / file.path
        with file_errors("write", target):
            target.parent.mkdir(parents=True, exist_ok=True)
            if file.present:
                target.symlink_to(layout.pointer(plan.commit, file.path) if file.linked else layout.blob(file.digest))
            else:
                place = client.locate(plan.repo, plan.commit, file.path)
                link = Link(place.url, place.headers)
                write_outline(lambda start, stop: read_range(link, start, stop, settings), file.size, target)
        return target

    chosen = [file for file in wanted if is_needed(file.path)]
    targets = [answer.result() for _, answer in in_parallel(outline, chosen, THREADS)]
    gguf = [target for target in targets if target.suffix.lower() == ".gguf"]
    return gguf[0] if len(gguf) == 1 else folder


def is_needed(path: str) -> bool:
    """Whether a file tells the shape of a model: configuration, index and weights."""
    name = path.rsplit("/", 1)[-1]
    return name == "config.json" or name.endswith(".index.json") or not name.endswith(".json")


def write_outline(read: Read, size: int, target: Path) -> None:
    """Write one file of full length with its header, or a text file whole.

    Raises:
        UnsupportedModel: the header is larger than ``MOST_BYTES``.
        FormatError: it is a GGUF file without a header.
    """
    if target.suffix == ".safetensors":
        _safetensors(read, size, target)
    elif target.suffix.lower() == ".gguf":
        _gguf(read, size, target)
    else:
        _require_small(size, target)
        target.write_bytes(read(0, size) if size else b"")


def _safetensors(read: Read, size: int, target: Path) -> None:
    data = read(0, min(size, FIRST_BYTES))
    end = 8 + int.from_bytes(data[:8], "little")
    if len(data) < end <= size:  # anything else is for the reader of headers to refuse
        _require_small(end, target)
        data += read(len(data), end)
    target.write_bytes(data[:end])
    os.truncate(target, size)


def _gguf(read: Read, size: int, target: Path) -> None:
    """The length of a GGUF header is known when it was read, so ever larger beginnings are tried."""
    from fastslm.formats.gguf.header import MAGIC, GgufHeader
    from fastslm.formats.gguf.names import ROPE_FACTORS_NAME

    data, step = b"", FIRST_BYTES
    while True:
        data += read(len(data), min(size, step))
        target.write_bytes(data)
        os.truncate(target, size)
        try:
            header = GgufHeader(target)
        except FormatError:  # perhaps only because its end is a hole
            if len(data) == size or not data.startswith(MAGIC):
                raise
        else:
            if header.header_bytes <= len(data):
                break
        step *= 4
        _require_small(min(step, size), target)
    factors = header.tensors.get(ROPE_FACTORS_NAME)
    if factors is not None and factors.size_bytes <= FIRST_BYTES:
        with target.open("r+b") as file:
            file.seek(factors.offset)
            file.write(read(factors.offset, factors.offset + factors.size_bytes))


def _require_small(size: int, target: Path) -> None:
    if size > MOST_BYTES:
        message = f"the header of `{target.name}` takes {size} bytes or more, expected at most {MOST_BYTES}"
        raise UnsupportedModel(message, feature="header size")
