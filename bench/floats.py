"""The demo model as plain floats that no quantiser's grid favours, for comparisons of quantisers.

Its file holds Q4_1 blocks. Each number is moved at random within the rounding step of its block, which is where it was
before it was rounded, as far as anybody knows; else grids with a free offset would find the blocks again exactly.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench import to_gguf
from fastslm.config import Settings
from fastslm.formats import open_model
from fastslm.formats.source import TensorSource
from fastslm.hub import ModelRef, fetch_model

SEED = 7
BLOCK = 32
Floats = npt.NDArray[np.float32]


def write(folder: Path, settings: Settings, demo: ModelRef) -> Path:
    """The model as the Hub would have it, and as ``model-f32.gguf``, unless the folder has it."""
    if (folder / "model-f32.gguf").exists():
        return folder
    source = open_model(fetch_model(demo, settings).path)
    folder.mkdir(parents=True, exist_ok=True)
    config = {key: value for key, value in source.config.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "tokenizer.json").write_text(source.tokenizer_json, encoding="utf-8")
    _write_tensors(folder / "model.safetensors", source.tensors)
    to_gguf.write(folder, folder / "model-f32.gguf")
    return folder


def _write_tensors(path: Path, tensors: TensorSource) -> None:
    generator, header, start = np.random.default_rng(SEED), {}, 0
    for name in tensors:
        shape = tensors.info(name).shape
        stop = start + 4 * int(np.prod(shape))
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [start, stop]}
        start = stop
    words = json.dumps(header).encode()
    words += b" " * (-len(words) % 8)
    with path.open("wb") as file:
        file.write(len(words).to_bytes(8, "little") + words)
        for name in tensors:
            values, kind = tensors.read(name), tensors.info(name).dtype
            file.write((values if values.ndim == 1 else blurred(values, kind, generator)).tobytes())


def blurred(values: Floats, kind: str, generator: np.random.Generator) -> Floats:
    """Each number within half a step of where its block rounded it to; ``kind`` is Q4_1 or Q8_0."""
    blocks = values.reshape(-1, BLOCK)
    if kind == "Q8_0":
        steps = np.abs(blocks).max(axis=1) / 127
    else:
        gaps = np.diff(np.sort(blocks, axis=1), axis=1)
        least = 0.02 * (blocks.max(axis=1) - blocks.min(axis=1))
        steps = np.where(gaps > least[:, None], gaps, np.inf).min(axis=1)
    steps = np.where(np.isfinite(steps), steps, 0)[:, None]
    moved = blocks + (generator.random(blocks.shape, np.float32) - 0.5) * steps
    result: Floats = moved.astype(np.float32).reshape(values.shape)
    return result
