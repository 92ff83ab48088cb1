"""Read model files: safetensors, GGUF, archives. ``open_model`` is the door; readers are imported when needed."""

from __future__ import annotations

from pathlib import Path

from fastslm.errors import FileMissing, FormatError, UnsupportedModel
from fastslm.formats.mapping import ModelFile, Opener
from fastslm.formats.source import ModelSource, Outline

__all__ = ["has_weights", "open_model", "open_outline"]

WEIGHT_PATTERNS = ("*.safetensors", "*.gguf", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""Files of a folder that ``open_model`` takes weights from."""


def open_model(path: Path, opener: Opener | None = None) -> ModelSource:
    """Open a model from a ``.gguf`` file, a folder with one GGUF model, or a Hugging Face folder of safetensors
    or, where it has none, of ``pytorch_model.bin``.

    Nothing but headers and configuration is read. Tensors stay memory-mapped while the result lives. ``opener`` opens
    the files of weights, where they are not simply here.

    Raises:
        FileMissing: the path, or a file that belongs to the model, is not there.
        FormatError: a file is truncated, damaged or hostile, or the folder holds several GGUF models.
        UnsupportedModel: the model is sound but not one that fastslm reads.
    """
    entrance = _entrance(path)
    if entrance.is_dir():
        from fastslm.formats.model_folder import open_folder

        return open_folder(entrance, opener or ModelFile)
    from fastslm.formats.gguf.model import open_gguf

    return open_gguf(entrance, opener or ModelFile)


def open_outline(path: Path) -> Outline:
    """Only what a model's shape says: configuration, names, types and sizes of tensors. Raises as ``open_model``."""
    entrance = _entrance(path)
    if entrance.is_dir():
        from fastslm.formats.model_folder import outline_folder

        return Outline(*outline_folder(entrance))
    from fastslm.formats.gguf.model import outline_gguf

    return Outline(*outline_gguf(entrance))


def has_weights(path: Path) -> bool:
    """Whether there is something that ``open_model`` takes weights from."""
    if path.is_file():
        return path.suffix != ".onnx"
    return any(found for pattern in WEIGHT_PATTERNS for found in path.glob(pattern))


def _entrance(path: Path) -> Path:
    """What to open: a GGUF file, or a folder of safetensors."""
    if path.is_dir():
        return _folder_entrance(path)
    if not path.exists():
        raise FileMissing(f"`{path}` does not exist", what="model", name=str(path))
    if path.suffix.lower() != ".gguf":
        message = f"`{path}` is not a model file that fastslm reads, expected `.gguf` or a folder"
        raise UnsupportedModel(message, feature=path.suffix)
    return path


def _folder_entrance(folder: Path) -> Path:
    if any(folder.glob("*.safetensors")):
        return folder
    from fastslm.formats.gguf.model import split_files

    found = sorted(folder.glob("*.gguf"))
    models = {split_files(path)[0] for path in found}
    if len(models) == 1:
        return models.pop()
    if models:
        names = ", ".join(f"`{path.name}`" for path in sorted(models))
        message = f"`{folder}` holds {len(models)} GGUF models ({names}), expected one"
        raise FormatError(message, subject=str(folder), expected=1, found=len(models))
    if any((folder / name).is_file() for name in ("pytorch_model.bin", "pytorch_model.bin.index.json")):
        return folder
    pickled = next((p.name for pattern in ("*.bin", "*.pt", "*.pth") for p in sorted(folder.glob(pattern))), None)
    if pickled:
        expected = "expected safetensors, GGUF or `pytorch_model.bin`"
        message = f"`{folder}` holds its weights as Python pickles (`{pickled}`), {expected}"
        raise UnsupportedModel(message, feature="pickle")
    raise FileMissing(f"`{folder}` holds no safetensors and no GGUF file", what="file", name="model.safetensors")
