"""Who converts: each peer is a list of commands that turn a folder of safetensors into a quantised model.

Peers live in environments of their own: ``--peer NAME=PYTHON`` tells the interpreter. llama.cpp's converter is not part
of its Python package, so ``bench.to_gguf`` writes the GGUF file, which flatters it: no torch is loaded.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType


@dataclass(frozen=True)
class Order:
    """What is to be converted: a folder, to below another folder, by the interpreter of the peer."""

    source: Path
    target: Path
    python: str


Commands = list[list[str]]

QUANTIZE = """
import ctypes, sys
import llama_cpp
source, target, kind = sys.argv[1:]
llama_cpp.llama_backend_init()
params = llama_cpp.llama_model_quantize_default_params()
params.nthread = 2
params.ftype = int(kind)
failed = llama_cpp.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(params))
sys.exit(failed)
"""
FILE_TYPES = {"Q4_0": 2, "Q4_K_M": 15}
"""Numbers of llama.h."""

OPTIMUM = """
import sys
from pathlib import Path
from optimum.exporters.onnx import main_export
source, target = sys.argv[1:]
main_export(source, output=Path(target) / "float", task="text-generation-with-past", device="cpu", do_validation=False,
            local_files_only=True)
import onnx
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
model = onnx.load(Path(target) / "float" / "model.onnx")
quantizer = MatMulNBitsQuantizer(model, block_size=32, is_symmetric=False, accuracy_level=4)
quantizer.process()
(Path(target) / "result").mkdir()
quantizer.model.save_model_to_file(str(Path(target) / "result" / "model.onnx"), True)
"""


def fastslm(order: Order) -> Commands:
    """Ours, as a user calls it."""
    words = ["convert", str(order.source), "--output", str(order.target / "result"), "--precision", "int4", "--quiet"]
    return [[order.python, "-m", "fastslm", *words]]


def genai(order: Order) -> Commands:
    """The builder of onnxruntime-genai."""
    words = ["-i", str(order.source), "-o", str(order.target / "result"), "-c", str(order.target / "cache")]
    return [[order.python, "-m", "onnxruntime_genai.models.builder", *words, "-p", "int4", "-e", "cpu"]]


def optimum(order: Order) -> Commands:
    """Optimum's exporter, and ONNX Runtime's quantiser of MatMul behind it."""
    return [[order.python, "-c", OPTIMUM, str(order.source), str(order.target)]]


def _llama(kind: str) -> Callable[[Order], Commands]:
    def commands(order: Order) -> Commands:
        floats, result = order.target / "floats.gguf", order.target / "result"
        result.mkdir()
        names = [str(floats), str(result / "model.gguf"), str(FILE_TYPES[kind])]
        return [
            [sys.executable, "-m", "bench.to_gguf", str(order.source), str(floats)],
            [order.python, "-c", QUANTIZE, *names],
        ]

    return commands


PEERS: Mapping[str, Callable[[Order], Commands]] = MappingProxyType(
    {
        "fastslm": fastslm,
        "genai": genai,
        "optimum": optimum,
        "llama.cpp Q4_K_M": _llama("Q4_K_M"),
        "llama.cpp Q4_0": _llama("Q4_0"),
    }
)


def interpreters(wishes: Sequence[str]) -> dict[str, str]:
    """Interpreter of each peer that takes part, from ``NAME=PYTHON``; ours always does, ``llama.cpp`` means both."""
    found = {"fastslm": sys.executable}
    for wish in wishes:
        name, _, python = wish.partition("=")
        found |= {peer: python or sys.executable for peer in PEERS if peer.startswith(name)}
    return {peer: found[peer] for peer in PEERS if peer in found}
