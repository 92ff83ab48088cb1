"""Matrices for our own operators: encoded rows laid out in packed units, as ``_native.pack_linear`` does it.

Law: chunks start at multiples of 32 rows, so that each is a run of whole blocks; memory stays bounded as in
``matrices``. The minima of Q4_1 are float16 offsets, weight = scale * code + offset; zero points are offsets that count
in scales, weight = scale * (code + offset). Both keep every number of the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from fastslm import _native, ops
from fastslm.errors import ConversionFailed
from fastslm.export.encoding import Encoding, Planes, encode_rows, for_ours, is_kept
from fastslm.export.matrices import CHUNK_WEIGHTS, Filling, MatrixWriter, StoredMatrix, common_order
from fastslm.export.quantize import Bytes, Floats
from fastslm.export.weights import Region
from fastslm.formats.source import TensorInfo

BLOCK_ROWS = 32
"""Rows of one packed block."""

SCALED = 2
"""Value of the operators' attribute ``offsets`` for those that count in scales."""

LARGEST_SCALE, SMALLEST_SCALE = 65504, 2.0**-24
"""Largest and smallest number above zero of float16, as which scales and offsets are stored."""


class _Plain(NamedTuple):
    """Some rows as ``_native.pack_linear`` takes them, codes one in a byte; what they have not is empty."""

    codes: Bytes
    scales: Floats
    offsets: Floats = np.empty(0, np.float32)
    steps: Bytes = np.empty(0, np.uint8)
    bases: npt.NDArray[np.int8] = np.empty(0, np.int8)


@dataclass(frozen=True)
class PackedMatrix(StoredMatrix):
    """A packed matrix [rows, columns]; its one plane is the units."""

    @property
    def region(self) -> Region:
        """Where the units are."""
        return self.planes[0]

    @property
    def has_offsets(self) -> bool:
        """Whether the units hold offsets."""
        return _has_offsets(self.encoding)

    @property
    def attributes(self) -> dict[str, int]:
        """What an operator that reads it must be told."""
        return {
            "K": self.columns,
            "N": self.rows,
            "bits": self.encoding.bits,
            "group_size": self.encoding.group,
            "offsets": SCALED if self.encoding.has_zeros else int(self.encoding.has_offsets),
            "layout": ops.layout_version(),
        } | ({"steps": 1} if self.encoding.has_steps else {})


def store_packed(writer: MatrixWriter, *names: str, is_embedding: bool = False) -> PackedMatrix:
    """Write tensors of the same width and encoding below each other as one packed matrix.

    Raises:
        ConversionFailed: a tensor holds NaN or infinity, or needs a scale beyond float16.
        UnsupportedModel: they want their inputs in different orders.
    """
    infos = [writer.source.info(name) for name in names]
    common_order(infos)
    encoding = for_ours(writer.encoding(names[0], is_embedding=is_embedding), infos)
    rows, columns = sum(info.shape[0] for info in infos), infos[0].shape[1]
    region = writer.weights.reserve(_block_bytes(encoding, columns) * -(-rows // BLOCK_ROWS))
    _write(writer, [infos], encoding, region)
    return PackedMatrix(names[0], encoding, rows, columns, (region,))


def store_interleaved(writer: MatrixWriter, first: str, second: str) -> PackedMatrix:
    """Write two tensors of the same shape and encoding as one matrix whose blocks alternate.

    Raises:
        ConversionFailed: as ``store_packed``.
    """
    infos = [writer.source.info(name) for name in (first, second)]
    encoding, (rows, columns) = for_ours(writer.encoding(first), infos), infos[0].shape
    blocks = 2 * -(-rows // BLOCK_ROWS)
    region = writer.weights.reserve(_block_bytes(encoding, columns) * blocks)
    _write(writer, [[info] for info in infos], encoding, region)
    return PackedMatrix(first, encoding, blocks * BLOCK_ROWS, columns, (region,))


def store_stacked(writer: MatrixWriter, stack: Sequence[Sequence[str]]) -> PackedMatrix:
    """Write matrices of the same shape and encoding one after the other, one at a time.

    Args:
        stack: the tensor of each matrix, or the two whose blocks alternate in it.

    Returns:
        The first matrix, whose region holds all of them.

    Raises:
        ConversionFailed: as ``store_packed``.
    """
    infos = [[writer.source.info(name) for name in names] for names in stack]
    encoding = for_ours(writer.encoding(stack[0][0]), [info for turns in infos for info in turns])
    (rows, columns), together = infos[0][0].shape, len(stack[0])
    blocks = together * -(-rows // BLOCK_ROWS)
    size = _block_bytes(encoding, columns) * blocks
    region = writer.weights.reserve(size * len(stack))
    for index, turns in enumerate(infos):
        _write(writer, [[info] for info in turns], encoding, Region(region.offset + index * size, size))
    return PackedMatrix(stack[0][0], encoding, rows if together == 1 else blocks * BLOCK_ROWS, columns, (region,))


def _has_offsets(encoding: Encoding) -> bool:
    return encoding.has_offsets or encoding.has_zeros


def _block_bytes(encoding: Encoding, columns: int) -> int:
    """Bytes of one block of 32 rows."""
    shape, offsets = (BLOCK_ROWS, columns), _has_offsets(encoding)
    return _native.packed_bytes(
        shape, bits=_bits(encoding), group=encoding.group, has_offsets=offsets, has_steps=encoding.has_steps
    )


def _bits(encoding: Encoding) -> Literal[4, 8]:
    return 8 if encoding.bits == 8 else 4


def _write(writer: MatrixWriter, turns: Sequence[Sequence[TensorInfo]], encoding: Encoding, region: Region) -> None:
    """``turns`` are the matrices whose blocks alternate, each the tensors below each other."""
    rows, columns = sum(info.shape[0] for info in turns[0]), turns[0][0].shape[1]
    size = _block_bytes(encoding, columns)

    def write(chunk: slice) -> None:
        packed = [_pack(writer, infos, encoding, chunk).reshape(-1, size) for infos in turns]
        start = chunk.start // BLOCK_ROWS * len(turns) * size
        writer.weights.write(region, start, np.stack(packed, axis=1))

    names = tuple(info.name for infos in turns for info in infos)
    writer.fill(Filling(names, (region,), lambda: (partial(write, chunk) for chunk in _chunks(rows, columns))))


def _chunks(rows: int, columns: int) -> Iterator[slice]:
    step = max(1, CHUNK_WEIGHTS // columns // BLOCK_ROWS) * BLOCK_ROWS
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def _pack(writer: MatrixWriter, infos: Sequence[TensorInfo], encoding: Encoding, chunk: slice) -> Bytes:
    """Packed blocks of some rows of tensors below each other."""
    parts, first = [], 0
    for info in infos:
        start, stop = max(chunk.start - first, 0), min(chunk.stop - first, info.shape[0])
        if start < stop:
            weight = writer.importance.get(info.name)
            planes = encode_rows(writer.source, info, encoding, slice(start, stop), weight)
            parts.append(_plain(planes, encoding))
            _check_range(info.name, parts[-1].scales, parts[-1].offsets)
            if is_kept(encoding, [info]):
                _check_kept(info.name, parts[-1].scales)
        first += info.shape[0]
    whole = _Plain(*(np.concatenate(planes) for planes in zip(*parts, strict=True)))
    offsets = whole.offsets if _has_offsets(encoding) else None
    steps, bases = (whole.steps, whole.bases) if encoding.has_steps else (None, None)
    return _native.pack_linear(whole.codes, whole.scales, offsets, steps, bases, bits=_bits(encoding))


def _plain(planes: Planes, encoding: Encoding) -> _Plain:
    codes, scales = np.asarray(planes[0], np.uint8), np.asarray(planes[1], np.float32)
    if encoding.bits == 4:
        codes = _unpack4(codes)
    plain = _Plain(codes, scales)
    if encoding.has_steps:
        return plain._replace(steps=np.asarray(planes[2], np.uint8), bases=np.asarray(planes[3], np.int8))
    if encoding.has_offsets:  # offsets of centred codes; those of plain codes are the minima of the file
        return plain._replace(offsets=_half(planes[2] - np.float32(8) * scales))
    if encoding.has_zeros:
        zeros = _unpack4(np.asarray(planes[2], np.uint8))[:, : scales.shape[1]]
        return plain._replace(offsets=-zeros.astype(np.float32))
    return plain


def _check_range(name: str, *arrays: Floats) -> None:
    for array in arrays:
        most = np.abs(array).max(initial=0)
        if most > LARGEST_SCALE:
            message = f"tensor `{name}` needs a scale of `{most:.0f}`, expected at most {LARGEST_SCALE}"
            raise ConversionFailed(message, stage="packing weights")


def _check_kept(name: str, scales: Floats) -> None:
    """A scale that float16 makes zero would lose numbers that are promised to be kept."""
    least = np.abs(scales[scales != 0]).min(initial=SMALLEST_SCALE)
    if least < SMALLEST_SCALE:
        message = f"tensor `{name}` needs a scale of `{least:.3g}`, expected at least {SMALLEST_SCALE:.3g}"
        raise ConversionFailed(message, stage="packing weights")


def _unpack4(packed: Bytes) -> Bytes:
    codes: Bytes = np.stack([packed & np.uint8(15), packed >> np.uint8(4)], axis=-1).reshape(len(packed), -1)
    return codes


def _half(values: npt.NDArray[np.float32]) -> Floats:
    with np.errstate(over="ignore"):  # infinity is refused by name
        return values.astype(np.float16).astype(np.float32)
