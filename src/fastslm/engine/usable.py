"""Whether a conversion that is there already will do: undamaged, for the same target, checked as wished."""

from __future__ import annotations

from pathlib import Path

from fastslm import ops
from fastslm.engine.quality.options import Checks
from fastslm.errors import FastSLMError
from fastslm.export.options import ConvertOptions
from fastslm.store import models
from fastslm.store.manifest import MANIFEST_NAME, ModelManifest


def is_sound(folder: Path, *, commit: str = "") -> bool:
    """Whether an undamaged conversion, of this commit, is there."""
    try:
        manifest = ModelManifest.read(folder)
        return not models.verify(folder, full=False) and commit in ("", manifest.commit)
    except FastSLMError:
        return False


def is_same(folder: Path, options: ConvertOptions, checks: Checks) -> bool:
    """Whether an undamaged conversion with this context length, for this target, checked as wished, is there."""
    from fastslm.export.targets import resolve_target

    if not is_sound(folder):
        return False
    manifest = ModelManifest.read(folder)
    same_target = manifest.target == resolve_target(options.target) and not _why_outdated(manifest)
    return same_target and checks.are_met(manifest) and options.context_length in (None, manifest.context_length)


def _why_outdated(manifest: ModelManifest) -> str:
    """Why packed weights cannot be read by this release; nothing when they can."""
    if manifest.target != "native" or manifest.packed_layout == ops.layout_version():
        return ""
    return f"its weights have layout {manifest.packed_layout}, expected {ops.layout_version()}"


def why_unusable(folder: Path) -> str:
    """Why a conversion must be made again before it can be loaded here; nothing when it can be loaded."""
    if not (folder / MANIFEST_NAME).is_file():
        return f"`{folder}` is gone"
    manifest = ModelManifest.read(folder)
    return _why_outdated(manifest) or (ops.why_unusable() if manifest.target == "native" else "")
