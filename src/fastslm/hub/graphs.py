"""Which ready-made ONNX graph of a repository to fetch: one of them, with its weights and the text files beside it.

Optimum and the exporters of the hub put a graph for each precision into ``onnx/``; onnxruntime-genai has a folder for
each kind of processor. Graphs in parts (encoder and decoder, with and without past) are not taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from fastslm.errors import UsageError

PREFERENCE = (
    "model_q4",
    "model_int8",
    "model_quantized",
    "model",
    "model_uint8",
    "model_q8",
    "model_q4f16",
    "model_fp16",
)
"""4 bits in blocks first, which run fastest on a CPU; half floats last, which it has to widen."""

PRECISIONS: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("model_q4", "model_q4f16"), "int4"),
        **dict.fromkeys(("model_int8", "model_quantized", "model_uint8", "model_q8"), "int8"),
        **dict.fromkeys(("model", "model_fp16"), "fp32"),
    }
)
"""What a name says of the weights, in our words; half floats are floats to us."""

OTHER_PROCESSORS = ("cuda", "gpu", "directml", "dml", "qnn", "npu", "webgpu", "openvino", "rocm", "tensorrt")
TEXTS = (".json", ".jinja")
DATA = ("_data", ".data")


def one_graph(paths: Sequence[str], precision: str = "auto") -> set[str]:
    """Paths of one graph with what belongs to it; empty when there is none.

    Raises:
        UsageError: there are graphs, but none in this precision.
    """
    graphs = [path for path in paths if _stem(path) in PREFERENCE and path.endswith(".onnx") and not _is_foreign(path)]
    if not graphs:
        return set()
    fitting = [path for path in graphs if precision in ("auto", _precision(path))]
    if not fitting:
        raise _nothing_fits(graphs, precision)
    chosen = min(fitting, key=_rank)
    folder = chosen.rpartition("/")[0]
    beside = {path for path in paths if path.rpartition("/")[0] == folder}
    data = {path for path in beside if any(path.startswith(chosen + ending) for ending in DATA)}
    return {chosen} | data | {path for path in beside if path.endswith(TEXTS)}


def _nothing_fits(graphs: Sequence[str], precision: str) -> UsageError:
    best = {_precision(path): path for path in sorted(graphs, key=_rank, reverse=True)}
    there = " and ".join(f"{kind} (`{path}`)" for kind, path in sorted(best.items()))
    message = f"precision is `{precision}`, but the repository has ready-made graphs in {there} only"
    return UsageError(message, name="precision", value=precision, allowed=tuple(sorted(best)))


def _precision(path: str) -> str:
    """What the file's name says, unless one of its folders is named after it, as those of onnxruntime-genai are."""
    words = path.lower().replace("-", "/").replace("_", "/").split("/")[:-1]
    named = [word for word in words if word in PRECISIONS.values()]
    return named[-1] if named else PRECISIONS[_stem(path)]


def _stem(path: str) -> str:
    return path.rpartition("/")[2].removesuffix(".onnx")


def _is_foreign(path: str) -> bool:
    """Whether a folder of the path names a processor that is not a CPU."""
    words = path.lower().replace("-", "/").replace("_", "/").split("/")[:-1]
    return any(word in OTHER_PROCESSORS for word in words) and "cpu" not in words


def _rank(path: str) -> tuple[int, int, str]:
    return PREFERENCE.index(_stem(path)), path.count("/"), path
