"""A GGUF file, or all files of a split one, as a ModelSource."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastslm.errors import FormatError, UnsupportedModel
from fastslm.formats.checked_json import shorten
from fastslm.formats.gguf.config import build_config, read_architecture
from fastslm.formats.gguf.header import GgufHeader, GgufTensor
from fastslm.formats.gguf.metadata import Metadata
from fastslm.formats.gguf.names import Architecture, hugging_face_name, is_ignored
from fastslm.formats.gguf.rows import InterleavedHeads, RowOrder, SortedHeads
from fastslm.formats.gguf.tensors import GgufTensors, Placement, total_sizes
from fastslm.formats.gguf.tokenizer import build_tokenizer
from fastslm.formats.mapping import ModelFile, Opener
from fastslm.formats.source import ModelSource

SPLIT_NAME = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")
MAX_SPLITS, MAX_EXPERTS, MAX_PLACED = 1000, 1024, 200_000


def open_gguf(path: Path, opener: Opener = ModelFile) -> ModelSource:
    """Open a model from one file, or from any file of a split model.

    Raises:
        FileMissing, FileSystemError: a file is not there or cannot be read.
        FormatError: a file is truncated, damaged or hostile.
        UnsupportedModel: architecture, tokenizer or a feature is not supported.
    """
    headers, config, tensors = _described(path, opener)
    text = build_tokenizer(Metadata(headers[0]), config["vocab_size"])
    return ModelSource(
        config={**config, "bos_token_id": text.bos_token_id, "eos_token_id": list(text.eos_token_ids)},
        tensors=tensors,
        tokenizer_json=text.tokenizer_json,
        chat_template=text.chat_template,
        special_tokens=text.special_tokens,
        bos_token_id=text.bos_token_id,
        eos_token_ids=text.eos_token_ids,
        add_bos=text.add_bos,
        files=total_sizes(headers),
    )


def outline_gguf(path: Path) -> tuple[dict[str, Any], GgufTensors]:
    """Configuration and tensors without the tokenizer, which takes longest. Raises as ``open_gguf``."""
    _, config, tensors = _described(path, ModelFile)
    return config, tensors


def _described(path: Path, opener: Opener) -> tuple[list[GgufHeader], dict[str, Any], GgufTensors]:
    headers = [GgufHeader(part, opener) for part in split_files(path)]
    _check_parts(headers)
    tensors = _all_tensors(headers)
    config = build_config(headers[0], {name: tensor for name, (_, tensor) in tensors.items()})
    placements = _placements(tensors, read_architecture(Metadata(headers[0])), config)
    return headers, config, GgufTensors(placements)


def split_files(path: Path) -> list[Path]:
    """The files of a model, in order: ``name-00001-of-00003.gguf`` and so on, or just the one."""
    match = SPLIT_NAME.fullmatch(path.name)
    if not match:
        return [path]
    stem, total = match[1], int(match[3])
    if not 1 <= int(match[2]) <= total <= MAX_SPLITS:
        message = f"`{path.name}` is not a part of a split model, expected a number from 1 to {total}"
        raise FormatError(message, subject=str(path), found=match[2])
    return [path.with_name(f"{stem}-{number:05d}-of-{total:05d}.gguf") for number in range(1, total + 1)]


def _check_parts(headers: Sequence[GgufHeader]) -> None:
    """A part of a split model under another name would open as a model with most tensors missing."""
    declared, found = headers[0].metadata.get("split.count", 0), len(headers)
    if type(declared) is not int or declared not in (0, found):
        message = f"`{headers[0].path}` announces {shorten(declared)} parts of the model, found {found} by name"
        raise FormatError(message, subject=str(headers[0].path), expected=declared, found=found)


def _all_tensors(headers: Sequence[GgufHeader]) -> dict[str, tuple[GgufHeader, GgufTensor]]:
    found: dict[str, tuple[GgufHeader, GgufTensor]] = {}
    for header in headers:
        for name, tensor in header.tensors.items():
            if name in found:
                raise FormatError(f"tensor `{name}` lies in two files of the model", subject=name)
            found[name] = (header, tensor)
    return found


def _placements(
    tensors: dict[str, tuple[GgufHeader, GgufTensor]], arch: Architecture, config: Mapping[str, Any]
) -> dict[str, Placement]:
    placed: dict[str, Placement] = {}
    for name, (header, tensor) in tensors.items():
        if is_ignored(name):
            continue
        order = _row_order(name, arch, config)
        if order and tensor.shape[0] % order.group_rows:
            message = (
                f"tensor `{name}` has {tensor.shape[0]} rows, expected a multiple of the head size {order.group_rows}"
            )
            raise FormatError(message, subject=name, expected=order.group_rows, found=tensor.shape[0])
        added = -1.0 if arch.shifted_norms and name.endswith("norm.weight") else 0.0
        translated = hugging_face_name(arch, name)
        if "*" in translated:
            placed |= {
                translated.replace("*", str(index)): Placement(header, matrix)
                for index, matrix in enumerate(_matrices(tensor))
            }
        else:
            placed[translated] = Placement(header, _as_matrix(translated, tensor), order, added)
        if len(placed) > MAX_PLACED:
            raise FormatError(f"the model has more than {MAX_PLACED} matrices", subject=name, expected=MAX_PLACED)
    if not placed:
        raise UnsupportedModel("the model has no tensors", feature="tensors")
    return placed


def _matrices(stacked: GgufTensor) -> Iterator[GgufTensor]:
    """The matrices that lie in one tensor, one for each expert, or the biases."""
    is_bias = stacked.name.endswith(".bias")
    if len(stacked.shape) != (2 if is_bias else 3) or not 1 <= stacked.shape[0] <= MAX_EXPERTS:
        expected = f"{'biases' if is_bias else 'matrices'} of 1 to {MAX_EXPERTS} experts"
        message = f"tensor `{stacked.name}` has shape `{list(stacked.shape)}`, expected {expected}"
        raise FormatError(message, subject=stacked.name, found=stacked.shape)
    count, *shape = stacked.shape
    size = stacked.size_bytes // count
    for index in range(count):
        yield replace(stacked, shape=tuple(shape), offset=stacked.offset + index * size, size_bytes=size)


def _as_matrix(name: str, tensor: GgufTensor) -> GgufTensor:
    """A matrix of one row is stored as a vector, the weights of a convolution as a matrix."""
    if name.endswith(".conv.conv.weight") and len(tensor.shape) == 2:
        return replace(tensor, shape=(tensor.shape[0], 1, tensor.shape[1]))
    is_row = name.endswith("shared_expert_gate.weight") and len(tensor.shape) == 1
    return replace(tensor, shape=(1, *tensor.shape)) if is_row else tensor


def _row_order(name: str, arch: Architecture, config: Mapping[str, Any]) -> RowOrder | None:
    """How the rows of a tensor were reordered, None for not at all."""
    if arch.interleaved_rope and re.fullmatch(r"blk\.\d+\.attn_[qk]\.(weight|bias)", name):
        return InterleavedHeads(config["head_dim"])
    if arch.sorted_heads and re.fullmatch(r"blk\.\d+\.attn_qkv\.(weight|bias)", name):
        return SortedHeads(config["num_attention_heads"], config["head_dim"])
    return None
