"""Which way a model's files become a model folder: our own graphs, a ready-made one, or Optimum's exporter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fastslm.export.options import ConvertOptions
from fastslm.progress import ProgressCallback
from fastslm.store.manifest import ModelManifest

Write = Callable[[Path, ProgressCallback], ModelManifest]


@dataclass(frozen=True)
class Work:
    """A conversion that can begin: what its result is filed under, and what writes it into an empty folder."""

    precision: str
    write: Write


def prepare(path: Path, options: ConvertOptions) -> Work:
    """Look at a model's files.

    Raises:
        FileMissing, FormatError, UnsupportedModel: they cannot be read.
        UsageError: the precision is not one for them.
        MissingExtra: Optimum is wanted and not installed.
    """
    from fastslm.formats import has_weights, open_model

    if options.backend == "optimum":
        return _by_optimum(path, options)
    ready_made = None if has_weights(path) else _ready_made(path, options)
    if ready_made is not None:
        return ready_made
    from fastslm.export.convert import convert, resolve_precision

    source = open_model(path)
    return Work(
        resolve_precision(options.precision, source.tensors),
        lambda target, progress: convert(source, target, options, progress),
    )


def _ready_made(path: Path, options: ConvertOptions) -> Work | None:
    from fastslm.export.adopt import PRECISION, adopt
    from fastslm.formats.readymade import find_readymade

    found = find_readymade(path)
    if found is None:
        return None
    return Work(PRECISION, lambda target, progress: adopt(found, target, options, progress))


def _by_optimum(path: Path, options: ConvertOptions) -> Work:
    from fastslm.export.adopt import PRECISION
    from fastslm.export.optimum import export, require

    require()
    return Work(PRECISION, lambda target, progress: export(path, target, options, progress))
