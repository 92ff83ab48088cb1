"""Which way a model's files become a model folder: our own graphs, a ready-made one, or Optimum's exporter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fastslm.export.options import ConvertOptions
from fastslm.formats.source import ModelSource
from fastslm.progress import ProgressCallback
from fastslm.store.manifest import ModelManifest

Write = Callable[[Path, ConvertOptions, ProgressCallback], ModelManifest]


@dataclass(frozen=True)
class Work:
    """A conversion that can begin.

    Attributes:
        precision: what its result is filed under.
        options: as asked for.
        writer: writes into an existing, empty folder.
        source: the weights that we write ourselves; None when the graph is somebody else's.
    """

    precision: str
    options: ConvertOptions
    writer: Write
    source: ModelSource | None = None

    def write(self, folder: Path, progress: ProgressCallback) -> ModelManifest:
        """Write the model into an existing, empty folder; raises as ``export.convert.convert``."""
        return self.writer(folder, self.options, progress)


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
        resolve_precision(options.precision, source),
        options,
        lambda target, final, progress: convert(source, target, final, progress),
        source,
    )


def _ready_made(path: Path, options: ConvertOptions) -> Work | None:
    from fastslm.export.adopt import PRECISION, adopt
    from fastslm.formats.readymade import find_readymade

    found = find_readymade(path)
    if found is None:
        return None
    return Work(PRECISION, options, lambda target, final, progress: adopt(found, target, final, progress))


def _by_optimum(path: Path, options: ConvertOptions) -> Work:
    from fastslm.export.adopt import PRECISION
    from fastslm.export.optimum import export, require

    require()
    return Work(PRECISION, options, lambda target, final, progress: export(path, target, final, progress))
