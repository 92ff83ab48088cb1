"""Which way a model's files become a model folder: our own graphs, a ready-made one, or Optimum's exporter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fastslm.export.options import ConvertOptions
from fastslm.formats.source import ModelSource
from fastslm.progress import ProgressCallback
from fastslm.store.manifest import ModelManifest

if TYPE_CHECKING:
    from fastslm.export.filling import Course

Write = Callable[[Path, ConvertOptions, ProgressCallback, "Course | None"], ModelManifest]


@dataclass(frozen=True)
class Work:
    """A conversion that can begin.

    Attributes:
        precision: what its result is filed under.
        options: as asked for.
        writer: writes into an existing, empty folder; weights that we write ourselves may be there in part.
        source: the weights that we write ourselves; None when the graph is somebody else's.
    """

    precision: str
    options: ConvertOptions
    writer: Write
    source: ModelSource | None = None

    def write(self, folder: Path, progress: ProgressCallback, course: Course | None = None) -> ModelManifest:
        """Write the model into an existing folder; raises as ``export.convert.convert``."""
        return self.writer(folder, self.options, progress, course)


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
    return prepared(open_model(path), options)


def prepared(source: ModelSource, options: ConvertOptions) -> Work:
    """The conversion of a model that was opened. Raises UsageError."""
    from fastslm.export.convert import convert, resolve_precision

    return Work(
        resolve_precision(options.precision, source),
        options,
        lambda target, final, progress, course: convert(source, target, final, progress, course),
        source,
    )


def _ready_made(path: Path, options: ConvertOptions) -> Work | None:
    from fastslm.export.adopt import PRECISION, adopt
    from fastslm.formats.readymade import find_readymade

    found = find_readymade(path)
    if found is None:
        return None
    wanted = PRECISION if options.precision == "auto" else f"{PRECISION}-{options.precision}"
    return Work(wanted, options, lambda target, final, progress, _: adopt(found, target, final, progress))


def _by_optimum(path: Path, options: ConvertOptions) -> Work:
    from fastslm.export.adopt import PRECISION
    from fastslm.export.optimum import export, require

    require()
    return Work(PRECISION, options, lambda target, final, progress, _: export(path, target, final, progress))
