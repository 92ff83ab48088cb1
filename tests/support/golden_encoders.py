"""The tiny encoders of ``tests/golden/encoders`` as folders that look like a downloaded repository."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from support.golden import ROOT, TOKENIZER

GROUP = ROOT / "encoders"
VARIANTS = sorted(path.stem for path in GROUP.glob("*.npz"))


@dataclass(frozen=True)
class GoldenEncoder:
    """A model folder, a padded batch, and what transformers computes for it."""

    folder: Path
    batch: dict[str, np.ndarray]
    expected: np.ndarray


def described(variant: str) -> dict[str, Any]:
    """``config`` in the hub's wording, ``newer`` as transformers 5 saves it."""
    found: dict[str, Any] = json.loads((GROUP / f"{variant}.json").read_text(encoding="utf-8"))
    return found


def golden_encoder(variant: str, folder: Path, *, wording: str = "config") -> GoldenEncoder:
    """Put one variant together in ``folder``."""
    shutil.copytree(GROUP / variant, folder, dirs_exist_ok=True)
    (folder / "config.json").write_text(json.dumps(described(variant)[wording]), encoding="utf-8")
    shutil.copy(TOKENIZER, folder)
    with np.load(GROUP / f"{variant}.npz") as data:
        arrays = {name: data[name] for name in data.files}
    expected = arrays.pop("expected")
    return GoldenEncoder(folder, arrays, expected)


def run_graph(folder: Path, batch: dict[str, np.ndarray]) -> np.ndarray:
    """The first output of a converted encoder, for the inputs that it takes."""
    import onnxruntime

    from fastslm import ops

    options = onnxruntime.SessionOptions()
    ops.register(options)
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
    wanted = {value.name: batch[value.name] for value in session.get_inputs()}
    return np.asarray(session.run(None, wanted)[0])


def kept(array: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Vectors of tokens that are no padding; scores as they are."""
    return array[mask.astype(bool)] if array.ndim == 3 else array
