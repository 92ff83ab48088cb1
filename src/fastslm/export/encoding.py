"""How a matrix lies in the weights file: as floats, or as codes with a scale per group of weights along its rows.

Which encoding a matrix gets is decided here and nowhere else:

    precision   layers   values, first and last layer   embedding and head   weights per scale   norms, biases
    fp32        float    float                          float                                    float
    int8        8 bits   8 bits                         8 bits               32                  float
    mixed       4 bits   8 bits                         8 bits               32                  float
    int4        4 bits   4 bits                         8 bits               128, or 32          float
    int4-fast   4 bits   4 bits                         4 bits               256 to 32           float
    exact       Q4_0, Q4_1, Q4Z* (GPTQ, AWQ): 4 bits, Q8_0, MXFP4: 8 bits, with the numbers of the file; every other
                block format, and a matrix of floats in a quantised file, becomes 8 bits (relative error about 0.6 %)

Values are the ``v_proj`` of attention where it is a tensor of its own. Per byte, 8 bits help them most, then the outer
layers. Mean KL divergence of SmolLM2-135M from its floats with calibrated 4 bits: 0.073; with 8 bits for the values
(1.5 MB more) 0.066, the outer layers (3.1 MB) 0.064, the output of attention (4.4 MB) 0.064, queries and keys (5.8 MB)
0.067, down (11.6 MB) 0.055.

4 bits have a zero point for each group of 32 in stock operators. Ours have an offset for it, 5 bits per weight, or a
scale for as many as 256 weights and a whole step and base for every 32, 4.44 bits (128: 4.5, 64: 4.75): products are
summed up as bytes to the end of a group, which makes prompts 1.6 times as fast, but steps are rounded and the inputs of
a group share a scale. int4-fast has the widest steps that a row takes. int4 has those of 128 in matrices with both
sides divided by 128, which are all of most models of 0.5B and more, and offsets elsewhere, as in the demo model: with
steps for down alone its divergence would be 0.5 to 2 % more on three texts, with 64 for the rest as well up to 9 %. 8
bits in groups of 64 would lose 0.67 % of perplexity instead of 0.30 %.

Most matrices of an encoder count as embedding, see ``encoder.linear``. Blocks of a file that have the wanted number of
bits keep their numbers, and their groups, under the other precisions too. A row that its group does not divide gets the
largest that does; a matrix whose rows are not a multiple of 32 stays float.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

import numpy as np
import numpy.typing as npt

from fastslm.errors import ConversionFailed
from fastslm.export.blocks import import_mxfp4, import_q4_0, import_q4_1, import_q4z, import_q8_0
from fastslm.export.quantize import (
    GROUPS,
    STEP_WEIGHTS,
    STEPPED_GROUPS,
    Bytes,
    Floats,
    quantize4,
    quantize4_offsets,
    quantize4_steps,
    quantize8,
)
from fastslm.formats.source import TensorInfo, TensorSource

Planes = tuple[npt.NDArray[np.float32] | npt.NDArray[np.uint8] | npt.NDArray[np.int8], ...]


@dataclass(frozen=True)
class Encoding:
    """One way to store rows: the planes it writes, in order codes, scales, then zeros, offsets, or steps and bases.

    Attributes:
        bits: 32 for plain floats, else bits per code.
        has_zeros: each group has a zero point of its own, packed like the codes.
        has_offsets: each group has a float that is added to all its weights.
        has_steps: each 32 weights have a whole step and base: weight = scale * (step * (code - 8) + base).
        steps: groups in which our operators have steps in the place of zero points, widest first.
        both_sides: such a group has to divide the number of rows too.
        group: neighbouring weights of a row that share a scale.
    """

    bits: int
    has_zeros: bool = False
    has_offsets: bool = False
    has_steps: bool = False
    group: int = 32
    steps: tuple[int, ...] = ()
    both_sides: bool = False

    @property
    def is_quantized(self) -> bool:
        """Whether the planes are codes and scales."""
        return self.bits < 32

    def row_bytes(self, columns: int) -> tuple[int, ...]:
        """Bytes that one row takes in each plane."""
        if not self.is_quantized:
            return (4 * columns,)
        groups = columns // self.group
        sizes: tuple[int, ...] = (columns * self.bits // 8, 4 * groups)
        sizes += ((groups + 1) // 2,) * self.has_zeros + (4 * groups,) * self.has_offsets
        return sizes + (columns // STEP_WEIGHTS,) * 2 * self.has_steps

    def fitted(self, columns: int) -> Encoding:
        """Its like with the largest group, of at most its own, that divides a row; floats where none does."""
        if not self.is_quantized:
            return self
        fitting = (group for group in GROUPS if group <= self.group and columns % group == 0)
        return next((replace(self, group=group) for group in fitting), FLOAT)


FLOAT = Encoding(32)
INT8 = Encoding(8)
INT4 = Encoding(4, has_zeros=True)
INT4_SYMMETRIC = Encoding(4)
INT4_OFFSETS = Encoding(4, has_offsets=True)
INT4_PROMPT = replace(INT4, steps=(128,), both_sides=True)
INT4_FAST = replace(INT4, steps=STEPPED_GROUPS)
INT4_STEPS = Encoding(4, has_steps=True, group=STEPPED_GROUPS[0])

IMPORTED: Mapping[str, tuple[Encoding, Callable[[Bytes], Planes]]] = MappingProxyType(
    {
        "Q8_0": (INT8, import_q8_0),
        "MXFP4": (INT8, import_mxfp4),
        "Q4_0": (INT4_SYMMETRIC, import_q4_0),
        "Q4_1": (INT4_OFFSETS, import_q4_1),
        **{f"Q4Z{group}": (replace(INT4, group=group), import_q4z) for group in GROUPS},
    }
)
"""Block formats whose numbers are kept under ``exact``."""

Role = Literal["layer", "sensitive", "table"]
"""What a matrix is for: a layer; values, or the first or last layer; or the embedding and the output head."""

POLICIES: Mapping[str, Mapping[Role, Encoding]] = MappingProxyType(
    {
        "fp32": {"layer": FLOAT, "sensitive": FLOAT, "table": FLOAT},
        "int8": {"layer": INT8, "sensitive": INT8, "table": INT8},
        "mixed": {"layer": INT4, "sensitive": INT8, "table": INT8},
        "int4": {"layer": INT4_PROMPT, "sensitive": INT4_PROMPT, "table": INT8},
        "int4-fast": {"layer": INT4_FAST, "sensitive": INT4_FAST, "table": INT4_FAST},
    }
)
"""Encodings by precision, see ``for_ours``; ``exact`` has those of the file."""

_LAYER = re.compile(r"\.(\d+)\.")
_VALUES = ".v_proj.weight"


def role_of(name: str, last_layer: int, *, is_table: bool) -> Role:
    """The role of the tensor with this name, in a model whose last layer has this number."""
    if is_table:
        return "table"
    found = _LAYER.search(name)
    is_outer = found is not None and int(found[1]) in (0, last_layer)
    return "sensitive" if is_outer or name.endswith(_VALUES) else "layer"


def last_layer_of(names: Iterable[str]) -> int:
    """Number of the last layer that any of these tensors belongs to."""
    return max((int(found[1]) for found in map(_LAYER.search, names) if found), default=0)


def choose_encoding(precision: str, info: TensorInfo, role: Role) -> Encoding:
    """The encoding of one matrix under a precision of ``POLICIES``, or ``exact``."""
    kept = IMPORTED[info.dtype][0] if info.dtype in IMPORTED else None
    wanted = (kept or INT8) if precision == "exact" else POLICIES[precision][role]
    if kept is not None and kept.bits == wanted.bits:
        wanted = kept
    return wanted.fitted(info.shape[-1])


def for_ours(encoding: Encoding, infos: Sequence[TensorInfo]) -> Encoding:
    """What our operators store where others have zero points: steps in the widest group that fits, else offsets."""
    if not encoding.has_zeros or is_kept(encoding, infos):
        return encoding
    columns, rows = infos[0].shape[-1], sum(info.shape[0] for info in infos)
    sides = (columns, rows) if encoding.both_sides else (columns,)
    fitting = (group for group in encoding.steps if all(side % group == 0 for side in sides))
    stepped = next((replace(INT4_STEPS, group=group) for group in fitting), None)
    return stepped or replace(INT4_OFFSETS, group=encoding.group)


def is_kept(encoding: Encoding, infos: Iterable[TensorInfo]) -> bool:
    """Whether one of these matrices has numbers of this encoding in its file."""
    return any(IMPORTED.get(info.dtype, (None,))[0] == encoding for info in infos)


def encode_rows(
    source: TensorSource, info: TensorInfo, encoding: Encoding, rows: slice, importance: Floats | None = None
) -> Planes:
    """Read some rows of a matrix and encode them.

    Args:
        importance: how much the squared error of each column counts in a search, None for all the same.

    Raises:
        ConversionFailed: a number is infinite or not a number.
    """
    kept, importer = IMPORTED.get(info.dtype, (None, None))
    if importer is not None and kept == encoding:
        planes = importer(source.blocks(info.name, rows.start, rows.stop))
        check_finite(info.name, *planes[1:])
        return planes
    values = source.read(info.name, rows.start, rows.stop)
    if not encoding.is_quantized:
        check_finite(info.name, values)
        return (values,)
    try:
        planes = _quantized(values, encoding, importance)
    except ConversionFailed:
        check_finite(info.name, values)  # which knows the name
        raise
    check_finite(info.name, planes[1])  # a scale may overflow where no weight does
    return planes


def _quantized(values: Floats, encoding: Encoding, importance: Floats | None) -> Planes:
    if encoding.bits == 8:
        return quantize8(values, encoding.group)
    if encoding.has_steps:
        return quantize4_steps(values, importance, encoding.group)
    return (quantize4_offsets if encoding.has_offsets else quantize4)(values, importance, encoding.group)


def check_finite(name: str, *arrays: npt.NDArray[np.generic]) -> None:
    """Raise ConversionFailed when a tensor holds NaN or infinity. The sum tells, unless it overflows."""
    for array in arrays:
        with np.errstate(over="ignore", invalid="ignore"):
            suspicious = not np.isfinite(array.sum())
        if suspicious and not np.isfinite(array).all():
            bad = array[~np.isfinite(array)].flat[0]
            raise ConversionFailed(f"tensor `{name}` holds `{bad}`, expected finite numbers", stage="reading weights")
