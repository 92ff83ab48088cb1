"""The weights of one or more GGUF files as a TensorSource, under Hugging Face's names and in its row order.

Decoding of quantised blocks is done by the ``gguf`` package. A row permutation keeps blocks whole, so permuted
tensors still give their blocks unchanged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastslm.errors import FormatError, UnsupportedModel
from fastslm.formats.floats import ITEM_TYPES, row_range, to_float32
from fastslm.formats.gguf.header import GgufHeader, GgufTensor
from fastslm.formats.gguf.rows import RowOrder
from fastslm.formats.mapping import let_go
from fastslm.formats.source import Extent, TensorInfo


@dataclass(frozen=True)
class Placement:
    """Where a tensor comes from: its file and its entry there; and what undoes the converter's changes.

    Attributes:
        order: where its rows lie, None for as they are.
        added: what is added to every number.
    """

    header: GgufHeader
    tensor: GgufTensor
    order: RowOrder | None = None
    added: float = 0.0


class GgufTensors:
    """Random access to placed tensors by name."""

    def __init__(self, placements: Mapping[str, Placement]) -> None:
        self._placements = placements

    def __iter__(self) -> Iterator[str]:
        return iter(self._placements)

    def __contains__(self, name: object) -> bool:
        return name in self._placements

    def info(self, name: str) -> TensorInfo:
        """Type and shape. Raises FormatError when there is no such tensor."""
        tensor = self._placement(name).tensor
        return TensorInfo(name, tensor.type_name, tensor.shape)

    def read(self, name: str, start: int = 0, stop: int | None = None) -> npt.NDArray[np.float32]:
        """Rows ``start:stop`` of the first dimension as float32, dequantised.

        Raises:
            FormatError: there is no such tensor.
            UnsupportedModel: nobody can decode its type.
        """
        place = self._placement(name)
        raw = self._rows(place, start, stop)
        kind = place.tensor.type_name
        plain = kind in ITEM_TYPES
        values = to_float32(raw.view(ITEM_TYPES[kind]), kind) if plain else _dequantize(raw, kind, name)
        values = values.reshape(len(raw), *place.tensor.shape[1:])
        return values + np.float32(place.added) if place.added else values

    def blocks(self, name: str, start: int = 0, stop: int | None = None) -> npt.NDArray[np.uint8]:
        """Raw blocks of rows ``start:stop``: uint8 ``[rows, ..., blocks per row, bytes per block]``.

        Raises:
            FormatError: there is no such tensor, or it is not quantised.
        """
        place = self._placement(name)
        tensor = place.tensor
        if not self.info(name).is_quantized:
            message = f"tensor `{name}` has type `{tensor.type_name}`, expected quantised blocks"
            raise FormatError(message, subject=name, found=tensor.type_name)
        raw = self._rows(place, start, stop)
        size = _block_bytes(tensor.type_name)
        return raw.reshape(*raw.shape[:-1], tensor.row_bytes // size, size)

    def extents(self, name: str) -> tuple[Extent, ...]:
        """See ``TensorSource``."""
        place = self._placement(name)
        offset = place.tensor.offset
        return (Extent(place.header.path, offset, offset + place.tensor.size_bytes),)

    def _placement(self, name: str) -> Placement:
        try:
            return self._placements[name]
        except KeyError:
            raise FormatError(f"tensor `{name}` is missing in the model", subject=name) from None

    def _rows(self, place: Placement, start: int, stop: int | None) -> npt.NDArray[np.uint8]:
        """A copy of the bytes of rows of the first dimension: ``[rows, ..., row bytes]``, or ``[rows, item bytes]``."""
        tensor = place.tensor
        raw = place.header.file.part(tensor.offset, tensor.offset + tensor.size_bytes)
        if len(tensor.shape) > 1:
            raw = raw.reshape(*tensor.shape[:-1], -1)
        elif tensor.size_bytes % tensor.shape[0]:
            message = f"tensor `{tensor.name}` has one dimension of blocks of type `{tensor.type_name}`"
            raise UnsupportedModel(message, feature=tensor.type_name)
        else:
            raw = raw.reshape(tensor.shape[0], -1)
        first, last = row_range(tensor.shape[0], start, stop)
        rows = np.array(raw[place.order.places(np.arange(first, last)) if place.order else slice(first, last)])
        let_go(raw[first:last])
        return rows


def _block_bytes(type_name: str) -> int:
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    return int(GGML_QUANT_SIZES[GGMLQuantizationType[type_name]][1])


def _dequantize(raw: npt.NDArray[np.uint8], type_name: str, name: str) -> npt.NDArray[np.float32]:
    from gguf.constants import GGMLQuantizationType
    from gguf.quants import dequantize

    if raw.size == 0:
        return np.empty(0, dtype=np.float32)
    try:
        with np.errstate(all="ignore"):  # a damaged scale may be infinite or NaN; that is for the caller to judge
            values = dequantize(np.ascontiguousarray(raw), GGMLQuantizationType[type_name])
    except NotImplementedError:
        raise UnsupportedModel(
            f"tensor `{name}` has type `{type_name}`, which cannot be decoded", feature=type_name
        ) from None
    return np.asarray(values, dtype=np.float32)


def total_sizes(headers: Sequence[GgufHeader]) -> dict[str, int]:
    """File name to size in bytes."""
    return {header.path.name: len(header.data) for header in headers}
