"""The tiny models of ``tests/golden/llama`` as folders that look like a downloaded repository."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

GOLDEN = Path(__file__).parent.parent / "golden" / "llama"
VARIANTS = sorted(path.stem for path in GOLDEN.glob("*.npz"))

WINDOW_IS_WIDER = tuple(int(part) for part in onnxruntime.__version__.split(".")[:2]) < (1, 24)
"""Up to 1.23 a local window lets a token see one position more than its size."""

COMPUTED = [variant for variant in VARIANTS if not (variant == "mistral_window" and WINDOW_IS_WIDER)]
"""Variants that this ONNX Runtime computes exactly."""


@dataclass(frozen=True)
class Golden:
    """A model folder, its configuration, and prompts with the logits that transformers computes for them."""

    folder: Path
    config: dict[str, object]
    prompts: list[np.ndarray]
    logits: list[np.ndarray]


def golden_model(variant: str, folder: Path) -> Golden:
    """Put one variant together in ``folder``."""
    described = json.loads((GOLDEN / f"{variant}.json").read_text(encoding="utf-8"))
    shutil.copytree(GOLDEN / described["weights"], folder, dirs_exist_ok=True)
    (folder / "config.json").write_text(json.dumps(described["config"]), encoding="utf-8")
    shutil.copy(GOLDEN / "tokenizer.json", folder)
    with np.load(GOLDEN / f"{variant}.npz") as data:
        count = len(data.files) // 2
        prompts = [data[f"prompt_{index}"] for index in range(count)]
        logits = [data[f"logits_{index}"] for index in range(count)]
    return Golden(folder, described["config"], prompts, logits)
