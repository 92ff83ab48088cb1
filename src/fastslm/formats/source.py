"""What every model file reader gives: a configuration, named tensors and text files, in Hugging Face's terms.

The converter sees only this. GGUF names, metadata keys and row orders are translated by the GGUF reader, so a
model family is written once. Tensors stay memory-mapped; nothing is read before it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fastslm.encoder_facts import EncoderFacts

FLOAT_TYPES = frozenset({"F32", "F16", "BF16", "F64"})
"""Tensor types that hold plain floats."""

OTHER_PLAIN_TYPES = frozenset({"BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64"})
"""Whole numbers, such as positions that an old model carries along. Every other type is a block format."""


@dataclass(frozen=True)
class TensorInfo:
    """Name, element type and shape (outermost dimension first, as numpy and Hugging Face write it).

    Attributes:
        column_order: the input that each column of a matrix multiplies, where that is not the column's own number.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    column_order: tuple[int, ...] | None = None

    @property
    def is_quantized(self) -> bool:
        """Whether the elements come in quantised blocks."""
        return self.dtype not in FLOAT_TYPES and self.dtype not in OTHER_PLAIN_TYPES


@dataclass(frozen=True)
class Extent:
    """Bytes ``begin`` up to ``end`` of a file."""

    path: Path
    begin: int
    end: int


class TensorSource(Protocol):
    """Random access to the tensors of a model by their Hugging Face names."""

    def __iter__(self) -> Iterator[str]:
        """Names of all tensors."""

    def __contains__(self, name: object) -> bool:
        """Whether there is a tensor of this name."""

    def info(self, name: str) -> TensorInfo:
        """Type and shape. Raises FormatError naming the tensor when it is missing."""

    def read(self, name: str, start: int = 0, stop: int | None = None) -> npt.NDArray[np.float32]:
        """Rows ``start:stop`` of the first dimension as float32 (all rows by default), dequantised if need be."""

    def blocks(self, name: str, start: int = 0, stop: int | None = None) -> npt.NDArray[np.uint8]:
        """Raw quantised blocks of rows ``start:stop``: uint8 of shape [rows, blocks per row, bytes per block].

        Raises FormatError when the tensor is not quantised.
        """

    def extents(self, name: str) -> tuple[Extent, ...]:
        """Where the bytes are that reading a tensor needs. Raises FormatError naming it when it is missing."""


@dataclass(frozen=True)
class ModelSource:
    """One model as its files describe it.

    Attributes:
        config: keys of Hugging Face's ``config.json`` (``model_type``, ``hidden_size``, ``rope_theta``, …).
        tensors: the weights.
        tokenizer_json: content of a ``tokenizer.json`` that the ``tokenizers`` library loads.
        chat_template: Jinja source, or None for a base model.
        special_tokens: role to text, e.g. ``{"bos_token": "<s>", "eos_token": "</s>"}``; seen by chat templates.
        bos_token_id: token that starts a text, or None.
        eos_token_ids: tokens that end a generation.
        add_bos: whether plain prompts begin with the bos token (chat templates write their own).
        generation: sampling defaults of the repository (``temperature``, ``top_p``, ``top_k``, …).
        files: relative path to size in bytes of the files that were read.
        encoder_facts: reads how an encoder of this repository is meant to be used; raises FormatError and
            UnsupportedModel.
    """

    config: Mapping[str, Any]
    tensors: TensorSource
    tokenizer_json: str
    chat_template: str | None
    special_tokens: Mapping[str, str]
    bos_token_id: int | None
    eos_token_ids: tuple[int, ...]
    add_bos: bool
    generation: Mapping[str, float] = field(default_factory=dict)
    files: Mapping[str, int] = field(default_factory=dict)
    encoder_facts: Callable[[], EncoderFacts] = EncoderFacts


@dataclass(frozen=True)
class Outline:
    """The part of a ModelSource that tells how large a model becomes; see there."""

    config: Mapping[str, Any]
    tensors: TensorSource
