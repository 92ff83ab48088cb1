"""An ONNX graph that somebody else exported, as it lies in a repository: the file, its external data, its text files.

Optimum puts graphs in ``onnx/`` or in the top folder, onnxruntime-genai in a folder with ``genai_config.json``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from fastslm.errors import FileMissing, FormatError

SUFFIX = ".onnx"
DEEPEST = 4
"""Folders that are looked into below a repository's own."""

MAX_GRAPH_BYTES = 1 << 31
"""The limit of the format (protobuf)."""


@dataclass(frozen=True)
class ReadyMade:
    """One graph and what belongs to it.

    Attributes:
        graph: the file.
        data: files beside it that hold weights.
        texts: the folder of ``config.json`` and ``tokenizer.json``.
    """

    graph: Path
    data: tuple[Path, ...]
    texts: Path


def find_readymade(folder: Path) -> ReadyMade | None:
    """The only graph of a folder, or the one that is named itself; None when there is none.

    Raises:
        FormatError: there are several, or the graph is damaged or places its weights outside of its folder.
        FileMissing: its weights, or the text files, are not there.
    """
    if folder.is_file():
        return _opened(folder, folder.parent) if folder.suffix == SUFFIX else None
    patterns = ["/".join(["*"] * depth + [f"*{SUFFIX}"]) for depth in range(DEEPEST)]
    graphs = [path for pattern in patterns for path in sorted(folder.glob(pattern)) if path.is_file()]
    if not graphs:
        return None
    if len(graphs) > 1:
        names = ", ".join(f"`{path.relative_to(folder).as_posix()}`" for path in graphs[:4])
        message = f"`{folder}` holds {len(graphs)} ONNX graphs ({names}), expected one"
        raise FormatError(message, subject=str(folder), expected=1, found=len(graphs))
    return _opened(graphs[0], folder)


def _opened(graph: Path, folder: Path) -> ReadyMade:
    """A graph with its weights; its texts are in the nearest folder that has them, at most ``DEEPEST`` above it."""
    above = list(graph.parents)[1:DEEPEST]
    places = [place for place in (folder, graph.parent, *above) if (place / "tokenizer.json").is_file()]
    if not places:
        raise FileMissing(f"`{folder}` has no `tokenizer.json`", what="file", name="tokenizer.json")
    return ReadyMade(graph, _data_files(graph), places[0])


def load_graph(path: Path) -> Any:
    """The graph as ONNX's ModelProto, its weights left where they are. Raises FormatError."""
    import onnx

    if path.stat().st_size > MAX_GRAPH_BYTES:
        raise FormatError(f"`{path}` is larger than {MAX_GRAPH_BYTES} bytes", subject=str(path))
    try:
        return onnx.load(path, load_external_data=False)
    except Exception as error:  # whatever class the library raises
        raise FormatError(f"`{path}` is not an ONNX graph: {error}", subject=str(path)) from error


def _data_files(graph: Path) -> tuple[Path, ...]:
    """The files that hold the graph's weights; only plain names beside it are taken."""
    names: dict[str, None] = {}
    for tensor in load_graph(graph).graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                names[entry.value] = None
    for name in names:
        plain = name and name == PurePosixPath(name).name and "\\" not in name and name not in (".", "..")
        if not plain:
            message = f"`{graph}` places weights in `{name[:100]}`, expected a file beside it"
            raise FormatError(message, subject=str(graph), found=name)
        if not (graph.parent / name).is_file():
            raise FileMissing(f"`{graph}` has its weights in `{name}`, which is not there", what="file", name=name)
    return tuple(graph.parent / name for name in names)
