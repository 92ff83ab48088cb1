"""How large a model becomes: its graph is built with weights that are counted instead of read and written.

What ONNX Runtime makes of the weights is read off the finished graph by ``examine``, so that a new family or operator
needs a row in a table here at most.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy.typing as npt

from fastslm import ops
from fastslm.errors import FormatError
from fastslm.export.decoder.feed_forward import EXPERTS_READ
from fastslm.export.families import family_of
from fastslm.export.filling import Recorder
from fastslm.export.graph import Graph
from fastslm.export.hparams import Hparams
from fastslm.export.matrices import check_tensors
from fastslm.export.options import MAX_CONTEXT, ConvertOptions
from fastslm.export.targets import TARGETS, resolve_target
from fastslm.export.weights import Region, WeightsFile
from fastslm.formats.checked_json import quoted
from fastslm.formats.source import Outline
from fastslm.store.manifest import GRAPH_NAME, WEIGHTS_NAME, ModelKind

LOOKED_UP = frozenset(
    {"Gather", "GatherBlockQuantized", "GroupQueryAttention", "RotaryEmbedding", "QEmbedding", "Attention"}
)
"""Operators that read a few rows of a table for each token."""

CACHING = frozenset({"Attention", "ShortConv"})
"""Our operators that keep something of every position."""

QUANTIZED = "MatMulNBits"
CODES, SCALES = 1, 2
"""Inputs of MatMulNBits: ONNX Runtime packs the codes, two floats per block and whatever zero points say into one
buffer on the heap, and gives the mapped codes back; the scales stay mapped beside it."""

_EXPERT = re.compile(r"\.experts\.\d+\.")
"""In the names of weights of which a token reads only the part that the graph's metadata tells."""

COPIED = frozenset({"Gemm", "MatMul"})
"""Operators that keep a rearranged copy of their float matrix on the heap."""


@dataclass(frozen=True)
class Footprint:
    """What a converted model takes. Sizes in bytes.

    Attributes:
        kind, context_length, num_layers: as in the manifest.
        file_bytes: weights and graph on disk.
        streamed_bytes: weights that are read for every token of an answer.
        heap_bytes: copies of weights that ONNX Runtime makes when it loads the model.
        mapped_bytes: weights that are used where the file is mapped.
        passing_bytes: mapped pages that are given back after loading, of the largest matrix.
        kv_bytes: keys and values of one position.
        row_bytes: results of the linear operators of one layer for one token.
    """

    kind: ModelKind
    context_length: int
    num_layers: int
    file_bytes: int
    streamed_bytes: int
    heap_bytes: int
    mapped_bytes: int
    passing_bytes: int
    kv_bytes: int
    row_bytes: int


def measure(outline: Outline, options: ConvertOptions) -> Footprint:
    """What a conversion with these options would give; ``precision`` must not be ``auto``. Only headers are read.

    Raises:
        UnsupportedModel, FormatError: it could not be converted.
    """
    config = Hparams(outline.config)
    family = family_of(config)
    shape = family.read_shape(config, frozenset(outline.tensors))
    shape = replace(shape, context_length=min(shape.context_length, options.context_length or MAX_CONTEXT))
    check_tensors(outline.tensors, family.wanted_tensors(shape), family.ignored(shape))
    target = resolve_target(options.target)
    family.check_target(target)
    weights = _Counter()
    graph = Graph(weights)
    with ThreadPoolExecutor(1) as idle:
        matrices = Recorder(outline.tensors, weights, options.precision, idle, _ignore)
        family.build(shape, graph, matrices, TARGETS[target])
    kind = ModelKind(str(outline.config["model_type"]), options.precision, target)
    return examine(graph.model(), kind, shape.context_length)


def read_footprint(folder: Path, kind: ModelKind, context_length: int) -> Footprint:
    """What a converted model takes, from its graph alone.

    Raises:
        FormatError: the graph cannot be read.
    """
    import onnx

    path = folder / GRAPH_NAME
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # whatever class the library raises
        raise FormatError(f"`{path}` cannot be read: {error}", subject=str(path)) from error
    return examine(model, kind, context_length)


def examine(model: Any, kind: ModelKind, context_length: int) -> Footprint:
    """Add up what a graph's operators do with its external weights."""
    weights, read = _external(model), _experts_read(model)
    caches = [value for value in model.graph.input if value.name.startswith("past_key_values.")]
    ours = [node for node in model.graph.node if node.op_type in CACHING and node.domain == ops.DOMAIN]
    uses = [_Use(node, weights, read) for node in model.graph.node]
    encoding = sum(node.op_type == "MultiHeadAttention" for node in model.graph.node)
    layers = max(1, len({value.name.split(".")[1] for value in caches}), encoding)
    kept = _mapped(uses)
    return Footprint(
        kind=kind,
        context_length=context_length,
        num_layers=layers,
        file_bytes=max((weight.offset + weight.size for weight in weights.values()), default=0) + model.ByteSize(),
        streamed_bytes=_distinct(weight for use in uses for weight in use.streamed()),
        heap_bytes=sum(use.heap_bytes() for use in uses),
        mapped_bytes=sum(kept.values()),
        passing_bytes=max((use.passing_bytes() for use in uses), default=0),
        kv_bytes=sum(_our_position_bytes(node) for node in ours) or sum(_position_bytes(value) for value in caches),
        row_bytes=4 * sum(use.width() for use in uses if "logits" not in use.node.output[0]) // layers,
    )


def streamed_bytes(model: Any) -> int:
    """Weights of a graph that are read for every token."""
    weights, read = _external(model), _experts_read(model)
    return _distinct(weight for node in model.graph.node for weight in _Use(node, weights, read).streamed())


def _experts_read(model: Any) -> Fraction:
    """The part of the experts that a token goes to; all of a model without experts. Raises FormatError."""
    text = next((each.value for each in model.metadata_props if each.key == EXPERTS_READ), "1")
    chosen, _, experts = text.partition("/")
    counts = [int(count) for count in (chosen, experts or "1") if re.fullmatch(r"[1-9]\d{0,5}", count)]
    if len(counts) != 2 or counts[0] > counts[1]:
        raise FormatError(f"`{EXPERTS_READ}` is {quoted(text)}, expected a part such as `2/8`", subject=EXPERTS_READ)
    return Fraction(*counts)


def _external(model: Any) -> dict[str, _Weight]:
    return {tensor.name: _Weight.of(tensor) for tensor in model.graph.initializer if tensor.external_data}


def _distinct(weights: Iterable[_Weight]) -> int:
    """Bytes of regions, each counted once however many initializers and operators share it."""
    return sum({weight.offset: weight.size for weight in weights}.values())


@dataclass(frozen=True)
class _Weight:
    """One initializer in the weights file."""

    name: str
    offset: int
    size: int
    rows: int

    @staticmethod
    def of(tensor: Any) -> _Weight:
        place = {entry.key: entry.value for entry in tensor.external_data}
        return _Weight(tensor.name, int(place["offset"]), int(place["length"]), int(tensor.dims[0]))


@dataclass(frozen=True)
class _Use:
    """One operator and the weights it reads, by input; of experts a token reads a part."""

    node: Any
    weights: Mapping[str, _Weight]
    experts_read: Fraction

    def inputs(self) -> dict[int, _Weight]:
        found = {index: self.weights.get(name) for index, name in enumerate(self.node.input)}
        return {index: weight for index, weight in found.items() if weight is not None}

    def streamed(self) -> list[_Weight]:
        return [] if self.node.op_type in LOOKED_UP else [self._read(weight) for weight in self.inputs().values()]

    def _read(self, weight: _Weight) -> _Weight:
        if not _EXPERT.search(weight.name):
            return weight
        return replace(weight, size=int(weight.size * self.experts_read))

    def mapped(self) -> Iterator[_Weight]:
        kind = self.node.op_type
        for index, weight in self.inputs().items():
            if kind not in LOOKED_UP and kind not in COPIED and not (kind == QUANTIZED and index == CODES):
                yield weight

    def heap_bytes(self) -> int:
        inputs = self.inputs()
        if self.node.op_type == QUANTIZED and SCALES in inputs:
            return inputs[CODES].size + 2 * inputs[SCALES].size
        return sum(weight.size for weight in inputs.values()) if self.node.op_type in COPIED else 0

    def passing_bytes(self) -> int:
        inputs = self.inputs()
        return inputs[CODES].size if self.node.op_type == QUANTIZED and CODES in inputs else 0

    def width(self) -> int:
        """Numbers per token that come out, for operators with a matrix."""
        of_experts = any(_EXPERT.search(weight.name) for weight in self.inputs().values())
        return int(self._whole_width() * (self.experts_read if of_experts else 1))

    def _whole_width(self) -> int:
        if self.node.op_type in LOOKED_UP:
            return 0
        if self.node.op_type == "QMoE":
            sizes = {each.name: int(each.i) for each in self.node.attribute if each.type == each.INT}
            return sizes["experts"] * sizes["gate_up_N"] // 2 + sizes["down_N"]
        sizes = {each.name: int(each.i) for each in self.node.attribute if each.name in ("N", "width")}
        if sizes:
            return sizes.get("width", sizes.get("N", 0))
        own = self.node.op_type in COPIED and 1 in self.inputs()
        adds_up = len(self.node.input) == 3 and self.node.input[2] not in self.weights and self.node.input[2] != ""
        return self.inputs()[1].rows if own and not adds_up else 0


class _Counter(WeightsFile):
    """A weights file that exists as a number only."""

    def __init__(self) -> None:
        self.path = Path(WEIGHTS_NAME)
        self.size_bytes = 0

    def write(self, region: Region, start: int, array: npt.NDArray[Any]) -> None:
        """Nothing is kept."""


def _mapped(uses: Sequence[_Use]) -> dict[str, int]:
    """Weights whose pages stay in use: a float table that is looked up in stays although a product copies it."""
    looked_up = {name for use in uses if use.node.op_type in LOOKED_UP for name in use.node.input}
    kept = {weight.name: weight.size for use in uses for weight in use.mapped()}
    copied = (w for use in uses if use.node.op_type in COPIED for w in use.inputs().values())
    return kept | {weight.name: weight.size for weight in copied if weight.name in looked_up}


def _position_bytes(value: Any) -> int:
    """Bytes of one position of a cache ``[batch, heads, capacity, head_dim]`` of floats."""
    sizes = value.type.tensor_type.shape.dim
    return 4 * int(sizes[1].dim_value) * int(sizes[3].dim_value)


def _our_position_bytes(node: Any) -> int:
    """The same for all that our operator keeps, in the usual format."""
    sizes = {each.name: int(each.i) for each in node.attribute if each.type == each.INT}
    rows = 2 * sizes["kv_heads"] if node.op_type == "Attention" else sizes["heads"]
    return rows * ops.cache_row_bytes(ops.DEFAULT_CACHE_FORMAT, sizes["head_dim"])


def _ignore(name: str) -> None:
    pass
