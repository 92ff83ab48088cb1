"""Learn from a text which columns of each matrix matter: the mean square of what they are multiplied with.

A squared error of a weight costs as much as the mean square of its input (Frantar et al. 2022; llama.cpp's imatrix).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastslm import runtime
from fastslm.engine.session import open_graph
from fastslm.errors import GenerationFailed, UsageError
from fastslm.export.observed import PREFIX
from fastslm.export.options import Calibration
from fastslm.ops import cache_row_bytes
from fastslm.progress import Progress, ProgressCallback
from fastslm.store.manifest import GRAPH_NAME, TOKENIZER_NAME, ModelManifest
from fastslm.text.tokenizer import Tokenizer

MOST_TOKENS = 8192
"""Tokens of the text that are used; more change little."""

WINDOW = 256
LEAST_TOKENS = 64

FLOOR = 1e-3
"""A column counts at least as this share of the mean of its matrix: a text does not show all that a model meets."""

Floats = npt.NDArray[np.float32]


def read_statistics(folder: Path, text: str, *, threads: int, progress: ProgressCallback) -> Calibration:
    """Run a text through a folder that ``convert_observed`` wrote.

    Raises:
        UsageError: the text is too short.
        GenerationFailed: the graph fails, or gives what is not a number.
    """
    manifest = ModelManifest.read(folder)
    ids = Tokenizer.open(folder / TOKENIZER_NAME).encode_start(text, MOST_TOKENS)
    ids = [id_ for id_ in ids[:MOST_TOKENS] if id_ < manifest.vocab_size]
    if len(ids) < LEAST_TOKENS:
        message = f"the calibration text has {len(ids)} tokens, expected at least {LEAST_TOKENS}"
        raise UsageError(message, name="calibrate", value=len(ids))
    session = open_graph(folder / GRAPH_NAME, threads, with_ours=manifest.target == "native")
    outputs = [each.name for each in session.get_outputs() if each.name.startswith(PREFIX)]
    sums: dict[str, npt.NDArray[np.float64]] = {}
    done = 0
    for window in _windows(ids, min(WINDOW, manifest.context_length)):
        for name, found in zip(outputs, _run(session, manifest, outputs, window), strict=True):
            sums[name] = sums.get(name, 0.0) + found.astype(np.float64)
        done += len(window)
        progress(Progress("converting", done, len(ids), "tokens", "calibration"))
    squares = {name.removeprefix(PREFIX): _importance(name, total / len(ids)) for name, total in sums.items()}
    return Calibration(sha256(text.encode()).hexdigest(), squares)


def _windows(ids: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(ids), size):
        yield ids[start : start + size]


def _empty(cache: Any, manifest: ModelManifest, count: int) -> npt.NDArray[Any]:
    """A cache of as many positions: floats, or with our operators the bytes of floats."""
    sizes = (1, cache.shape[1], count)
    if cache.type == "tensor(uint8)":
        return np.zeros((*sizes, cache_row_bytes("f32", manifest.head_dim)), np.uint8)
    return np.zeros((*sizes, manifest.head_dim), np.float32)


def _run(session: Any, manifest: ModelManifest, outputs: list[str], ids: Sequence[int]) -> list[Floats]:
    count, known, inputs = len(ids), {}, session.get_inputs()
    known["input_ids"] = np.array([ids], np.int64)
    known["attention_mask"] = np.ones((1, count), np.int64)
    known["token_type_ids"] = np.zeros((1, count), np.int64)
    known["logit_rows"] = np.arange(count, dtype=np.int64)
    known["seqlens_k"] = np.array([count - 1], np.int32)
    known["total_sequence_length"] = np.array(count, np.int32)
    feeds = {each.name: known[each.name] if each.name in known else _empty(each, manifest, count) for each in inputs}
    try:
        found: list[Floats] = session.run(outputs, feeds)
    except Exception as error:  # whatever class ONNX Runtime raises
        raise GenerationFailed(f"ONNX Runtime failed on {count} tokens: {runtime.first_line(error)}") from error
    return found


def _importance(name: str, mean_squares: npt.NDArray[np.float64]) -> Floats:
    mean = float(mean_squares.mean())
    if not np.isfinite(mean):
        raise GenerationFailed(f"the inputs of `{name.removeprefix(PREFIX)}` are NaN or infinite")
    if mean == 0.0:
        return np.ones(len(mean_squares), np.float32)
    return (mean_squares / mean + FLOOR).astype(np.float32)
