"""Which files of a repository to fetch: a pure function from its listing and the user's wishes to paths.

Without wishes it is what a conversion needs: configuration, tokenizer, chat template, licence, and one copy of the
weights, in this order of preference: ``model.safetensors``; the shards of ``model.safetensors.index.json``; any other
safetensors of the top folder; one GGUF file (``GGUF_PREFERENCE``); ``pytorch_model.bin`` or its shards, which are read
without running what is pickled in them; one ready-made ONNX graph (``hub.graphs``) with its weights. Other pickles
(``.pt``, ``.ckpt``) are never fetched unasked.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from fastslm.errors import FileMissing, UnsupportedModel
from fastslm.hub.graphs import one_graph

TEXT_PATTERNS = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.*",
    "modules.json",
    "sentence_*_config.json",
    "config_sentence_transformers.json",
    "README.md",
    "LICENSE*",
    "LICENCE*",
    "NOTICE*",
    "USE_POLICY*",
)
"""Small files of the top folder that a conversion reads or a user must be shown."""

MODULE_CONFIG = re.compile(r"[0-9]+_[A-Za-z]+/config\.json")
"""What sentence-transformers keeps of the steps behind an encoder."""

GGUF_PREFERENCE = (
    *("Q4_0", "Q4_1", "Q4_K_M", "Q4_K_S", "IQ4_NL", "IQ4_XS", "Q5_K_M", "Q5_K_S", "Q5_0", "Q5_1"),
    *("Q8_0", "Q6_K", "Q3_K_L", "Q3_K_M", "Q3_K_S", "Q2_K", "BF16", "F16", "F32"),
)
"""First the types whose numbers we keep as they are, then near 4 bits, then larger, then smaller, then floats."""

PICKLED = (".bin", ".pt", ".pth", ".ckpt")


@dataclass(frozen=True)
class Wishes:
    """What the user asked for: patterns as in the shell (``*.json``, ``onnx/``), or one ``file``; and the
    ``precision`` of a ready-made graph.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    file: str = ""
    precision: str = "auto"


def select_files(paths: Sequence[str], wishes: Wishes) -> tuple[str, ...]:
    """The paths to fetch, sorted.

    Raises:
        FileMissing: nothing fits; the message names files that are there.
        UnsupportedModel: the only weights are pickled, split over GGUF parts, or an adapter.
        UsageError: the only weights are ready-made graphs in other precisions.
    """
    if wishes.include:
        chosen = {path for path in paths if _matches(path, wishes.include)}
    elif wishes.file:
        chosen = _one_file(paths, wishes.file)
    else:
        chosen = {path for path in paths if _is_text(path)} | _weights(paths, wishes.precision)
    chosen -= {path for path in chosen if _matches(path, wishes.exclude)}
    if not chosen:
        raise _nothing_fits(paths)
    return tuple(sorted(chosen))


def _matches(path: str, patterns: Sequence[str]) -> bool:
    """Shell patterns in which ``*`` crosses folders, and ``folder/`` means all of it, as in the official client."""
    return any(fnmatchcase(path, pattern + "*" if pattern.endswith("/") else pattern) for pattern in patterns)


def _is_text(path: str) -> bool:
    return ("/" not in path and _matches(path, TEXT_PATTERNS)) or bool(MODULE_CONFIG.fullmatch(path))


def _one_file(paths: Sequence[str], file: str) -> set[str]:
    if file not in paths:
        nearest = difflib.get_close_matches(file, paths, n=3)
        raise FileMissing(f"the repository has no file `{file}`", what="file", name=file, nearest=nearest)
    return {file} | {path for path in paths if _is_text(path)}


def _weights(paths: Sequence[str], precision: str) -> set[str]:
    top = {path for path in paths if "/" not in path}
    return _safetensors(top) or _gguf(paths) or _pickled(top) or one_graph(paths, precision) or _no_weights(paths)


def _safetensors(top: set[str]) -> set[str]:
    index = "model.safetensors.index.json"
    shards = {path for path in top if re.fullmatch(r"model-\d+-of-\d+\.safetensors", path)}
    if "model.safetensors" in top:
        return {"model.safetensors"}
    if index in top and shards:
        return {index} | shards
    doubles = ("consolidated", "adapter_model")
    return {path for path in top if path.endswith(".safetensors") and not path.startswith(doubles)}


def _pickled(top: set[str]) -> set[str]:
    index = "pytorch_model.bin.index.json"
    shards = {path for path in top if re.fullmatch(r"pytorch_model-\d+-of-\d+\.bin", path)}
    if "pytorch_model.bin" in top:
        return {"pytorch_model.bin"}
    return {index} | shards if index in top and shards else set()


def _gguf(paths: Sequence[str]) -> set[str]:
    helpers = re.compile(r"mmproj|imatrix", re.IGNORECASE)
    every = [path for path in paths if path.lower().endswith(".gguf") and not helpers.search(path)]
    whole = [path for path in every if not re.search(r"-\d{5}-of-\d{5}\.gguf$", path, re.IGNORECASE)]
    if every and not whole:
        raise UnsupportedModel(f"the GGUF file is split in {len(every)} parts", feature="split GGUF")
    return {min(whole, key=_gguf_rank)} if whole else set()


def _gguf_rank(path: str) -> tuple[int, int, str]:
    name = path.rsplit("/", 1)[-1].upper()
    ranks = (rank for rank, kind in enumerate(GGUF_PREFERENCE) if re.search(rf"(?<![A-Z0-9]){kind}(?![A-Z0-9_])", name))
    return next(ranks, len(GGUF_PREFERENCE)), path.count("/"), path


def _no_weights(paths: Sequence[str]) -> set[str]:
    """Never returns a file: says why there are no weights that we can read."""
    if "adapter_config.json" in paths:
        raise UnsupportedModel("the repository holds an adapter (LoRA), not a whole model", feature="adapter")
    pickled = sorted(path for path in paths if path.lower().endswith(PICKLED) and "training_args" not in path)
    if pickled:
        message = f"the only weights are pickled (`{pickled[0]}`), expected safetensors, GGUF or `pytorch_model.bin`"
        raise UnsupportedModel(message, feature="pickled weights")
    raise _nothing_fits(paths)


def _nothing_fits(paths: Sequence[str]) -> FileMissing:
    shown = ", ".join(f"`{path}`" for path in sorted(paths)[:8]) or "no files"
    more = f" and {len(paths) - 8} more" if len(paths) > 8 else ""
    return FileMissing(f"no file to fetch: the repository has {shown}{more}", what="file", name="weights")
