"""A tiny decoder of plain floats in several files, as a hub offers it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from support.float_model import CONFIG
from support.golden import TOKENIZER
from support.memory_source import random_tensors
from support.tiny_files import write_safetensors

REPO = "tiny/sharded"


def sharded_files(folder: Path, shards: int = 3, changes: dict[str, np.ndarray] | None = None) -> dict[str, bytes]:
    """The files of a repository; one of weights is just ``model.safetensors``. ``changes`` replace tensors."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {**random_tensors(CONFIG, seed=3), **(changes or {})}
    names = sorted(tensors)
    files = {"config.json": json.dumps(CONFIG).encode(), "tokenizer.json": Path(TOKENIZER).read_bytes()}
    weight_map = {}
    for number in range(shards):
        mine = names[number * len(names) // shards : (number + 1) * len(names) // shards]
        name = "model.safetensors" if shards == 1 else f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        write_safetensors(folder / name, {each: ("F32", tensors[each]) for each in mine})
        files[name] = (folder / name).read_bytes()
        weight_map |= dict.fromkeys(mine, name)
    if shards > 1:
        files["model.safetensors.index.json"] = json.dumps({"weight_map": weight_map}).encode()
    return files
