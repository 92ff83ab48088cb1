"""The tiny models of ``tests/golden`` as folders that look like a downloaded repository."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

ROOT = Path(__file__).parent.parent / "golden"
GROUPS = ("llama", "families")
TOKENIZER = ROOT / "llama" / "tokenizer.json"

WINDOW_IS_WIDER = tuple(int(part) for part in onnxruntime.__version__.split(".")[:2]) < (1, 24)
"""Up to 1.23 a local window lets a token see one position more than its size."""


def described(variant: str) -> dict[str, Any]:
    """What the committed file says of a variant: ``config``, ``weights`` and perhaps ``newer``."""
    found: dict[str, Any] = json.loads((_group(variant) / f"{variant}.json").read_text(encoding="utf-8"))
    return found


def _group(variant: str) -> Path:
    return next(ROOT / group for group in GROUPS if (ROOT / group / f"{variant}.json").is_file())


def has_window(variant: str) -> bool:
    """Whether a layer of it sees a window only."""
    config = described(variant)["config"]
    return config.get("sliding_window") is not None


LLAMA_VARIANTS = sorted(path.stem for path in (ROOT / "llama").glob("*.npz"))
FAMILY_VARIANTS = sorted(path.stem for path in (ROOT / "families").glob("*.npz"))
VARIANTS = LLAMA_VARIANTS + FAMILY_VARIANTS


@dataclass(frozen=True)
class Golden:
    """A model folder, its configuration, and prompts with the logits that transformers computes for them."""

    folder: Path
    config: dict[str, Any]
    prompts: list[np.ndarray]
    logits: list[np.ndarray]


def golden_model(variant: str, folder: Path, *, wording: str = "config") -> Golden:
    """Put one variant together in ``folder``."""
    found, group = described(variant), _group(variant)
    shutil.copytree(group / found["weights"], folder, dirs_exist_ok=True)
    (folder / "config.json").write_text(json.dumps(found[wording]), encoding="utf-8")
    shutil.copy(TOKENIZER, folder)
    with np.load(group / f"{variant}.npz") as data:
        count = len(data.files) // 2
        prompts = [data[f"prompt_{index}"] for index in range(count)]
        logits = [data[f"logits_{index}"] for index in range(count)]
    return Golden(folder, found[wording], prompts, logits)
