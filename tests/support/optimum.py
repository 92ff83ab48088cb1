"""Repositories with a ready-made graph: what Optimum made of two tiny models, with a tokenizer beside it."""

from __future__ import annotations

import shutil
from pathlib import Path

from support.golden import ROOT, TOKENIZER
from support.tiny_encoder import word_tokenizer


def optimum_source(folder: Path, name: str) -> Path:
    """``llama`` or ``bert`` as a folder with ``onnx/model.onnx``."""
    shutil.copytree(ROOT / "optimum" / name, folder)
    if name == "bert":
        (folder / "tokenizer.json").write_text(word_tokenizer(), encoding="utf-8")
    else:
        shutil.copy(TOKENIZER, folder)
    return folder


def with_external_data(folder: Path, name: str = "model.onnx_data") -> Path:
    """The same with the weights in a file beside the graph."""
    import onnx

    path = folder / "onnx" / "model.onnx"
    model = onnx.load(path)
    path.unlink()
    onnx.save(model, path, save_as_external_data=True, location=name, size_threshold=0)
    return folder
