"""The way for every other architecture: Optimum's exporter, from the extra ``export``, with torch and transformers.

Its graph is then adopted like any that somebody else exported.
"""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from pathlib import Path
from typing import Any

from fastslm.errors import ConversionFailed, FormatError, MissingExtra
from fastslm.export.adopt import adopt
from fastslm.export.options import ConvertOptions
from fastslm.formats import checked_json
from fastslm.formats.readymade import find_readymade
from fastslm.progress import Progress, ProgressCallback
from fastslm.store.manifest import ModelManifest

EXTRA = "export"
MODULES = ("torch", "transformers", "optimum")
TASKS = (
    ("ForSequenceClassification", "text-classification"),
    ("ForCausalLM", "text-generation-with-past"),
    ("LMHeadModel", "text-generation-with-past"),
)


def missing() -> str:
    """The first library that the exporter needs and that is not installed; empty when nothing is missing."""
    absent = [name for name in MODULES if importlib.util.find_spec(name) is None]
    if not absent and importlib.util.find_spec("optimum.exporters") is None:
        absent = ["optimum.exporters"]
    return absent[0] if absent else ""


def require() -> None:
    """Raise MissingExtra when the exporter is not installed."""
    absent = missing()
    if absent:
        message = f"the backend `optimum` needs `{absent}`, which comes with the extra `{EXTRA}`"
        raise MissingExtra(message, extra=EXTRA, feature="optimum")


def export(path: Path, target_dir: Path, options: ConvertOptions, progress: ProgressCallback) -> ModelManifest:
    """Export a folder of safetensors into an existing, empty folder; weights stay floats.

    Raises:
        ConversionFailed: the exporter failed, for whatever reason.
        UnsupportedModel, FormatError: what it made is not a graph that we run.
    """
    require()
    progress(Progress("converting", 0, 1, "files", "optimum"))
    with tempfile.TemporaryDirectory(prefix=".optimum-", dir=target_dir.parent) as scratch:
        _run_exporter(path, Path(scratch), _task(path))
        for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"):
            if (path / name).is_file():  # as the model's author wrote them, not as transformers saves them
                shutil.copy(path / name, Path(scratch) / name)
        found = find_readymade(Path(scratch))
        if found is None:
            raise FormatError("the exporter has written no graph", subject=str(path))
        return adopt(found, target_dir, options, progress)


def _task(path: Path) -> str:
    names = checked_json.read_object(path / "config.json").get("architectures")
    first = str(names[0]) if isinstance(names, list) and names else ""
    return next((task for ending, task in TASKS if first.endswith(ending)), "feature-extraction")


def _run_exporter(path: Path, output: Path, task: str) -> None:
    exporter: Any = importlib.import_module("optimum.exporters.onnx")
    try:
        exporter.main_export(
            str(path), output=output, task=task, device="cpu", local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # whatever class torch, transformers or Optimum raise
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ConversionFailed(f"Optimum cannot export `{path}`: {lines[0][:300]}", stage="optimum") from error
