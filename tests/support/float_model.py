"""A tiny decoder of plain floats as a repository has it, sound or spoiled for 4 bits."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

from support.golden import TOKENIZER
from support.memory_source import TINY_CONFIG, random_tensors
from support.tiny_files import write_safetensors

CONFIG = {**TINY_CONFIG, "vocab_size": 384, "max_position_embeddings": 512}
DEAD = 5
"""Column whose input is always zero in a spoiled model."""


LOUD = slice(7, None, 16)
"""Columns whose input is far larger than the others' in an uneven model."""


def float_model(folder: Path, *, spoiled: bool = False, uneven: bool = False) -> Path:
    """Random weights that change little of the hidden state, so that the result depends on all of them.

    Spoiled: a column in each block of 32 is 60 times larger than the others, but its input is always zero. The floats
    do not notice, and 4 bits have nothing left for the others.

    Uneven: some inputs are far larger than the others, as in every trained model, and their weights as much smaller.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = random_tensors(CONFIG, seed=3)
    if spoiled:
        for name, value in tensors.items():
            if name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight", "gate_proj.weight", "up_proj.weight")):
                value[:, DEAD::32] = np.sign(value[:, DEAD::32]) * 9.0
            elif name.endswith("layernorm.weight"):
                value[DEAD::32] = 0.0
    if uneven:
        for name, value in tensors.items():
            if name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight", "gate_proj.weight", "up_proj.weight")):
                value[:, LOUD] /= 8.0
            elif name.endswith("layernorm.weight"):
                value[LOUD] *= 8.0
    write_safetensors(folder / "model.safetensors", {name: ("F32", value) for name, value in tensors.items()})
    (folder / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    shutil.copy(TOKENIZER, folder / "tokenizer.json")
    return folder
