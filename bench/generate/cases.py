"""What is measured, as data: the cases of the main run and those on request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

LARGE, SMALL, THIRD, DEMO = "llama-3.2-1b", "qwen2.5-0.5b", "qwen3-1.7b", "demo"
OURS = ("fastslm", "fastslm int4-fast")
ROWS = (*OURS, "onnxruntime-genai", "llama.cpp Q4_0")
GRAPHS = ("fastslm", "stock ONNX Runtime")
LONG = (*OURS, "onnxruntime-genai", "llama.cpp Q4_0", "OpenVINO GenAI")


@dataclass(frozen=True)
class Case:
    """One case.

    Attributes:
        shape: of the model.
        kind: ``speed`` (prompts and answers by turns), ``start`` (loading, each in a fresh process), ``pair`` (memory
            of two processes), ``whole`` (the command line from start to end), ``operators`` (the time of each in
            our graphs: in the prompt without ``tokens``, else in one token behind it).
        prompt: its length in tokens.
        tokens: written behind it.
        repeat: rounds.
        threads: for the computation.
        rows: sequences at once; each number is a contestant of its own.
        peers: by name; empty for all but forced instruction sets.
        more: peers beside them; ``isa`` stands for every instruction set of this machine.
        cold: forget the files' cached pages before each load.
    """

    shape: str
    kind: Literal["speed", "start", "pair", "whole", "operators"] = "speed"
    prompt: int = 512
    tokens: int = 32
    repeat: int = 3
    threads: int = 2
    rows: tuple[int, ...] = (1,)
    peers: tuple[str, ...] = ()
    more: tuple[str, ...] = ()
    cold: bool = False


CASES: Mapping[str, Case] = MappingProxyType(
    {
        "0.5b": Case(SMALL, repeat=5, more=("OpenVINO without AMX", "fastslm avx2")),
        "0.5b rows": Case(SMALL, prompt=32, tokens=16, repeat=5, rows=(1, 2, 4, 8), peers=OURS),
        "1b": Case(LARGE, tokens=24, more=("OpenVINO without AMX",)),
        "0.5b memory": Case(SMALL, "pair", tokens=8),
        "whole": Case(DEMO, "whole", repeat=7, peers=("fastslm",)),
        "0.5b long": Case(SMALL, prompt=8192, tokens=24, repeat=1, peers=LONG),
        "0.5b operators, prompt": Case(SMALL, "operators", tokens=0, peers=GRAPHS),
        "0.5b operators, answer": Case(SMALL, "operators", tokens=1, repeat=9, rows=(1, 4, 8), peers=GRAPHS),
        "0.5b operators, long": Case(SMALL, "operators", prompt=8192, tokens=1, repeat=9, peers=GRAPHS),
        "0.5b 32": Case(SMALL, prompt=32, repeat=5),
        "0.5b 2048": Case(SMALL, prompt=2048, tokens=24),
        "0.5b one thread": Case(SMALL, threads=1),
        "0.5b isa": Case(SMALL, peers=GRAPHS, more=("isa",)),
        "0.5b rows 512": Case(SMALL, tokens=16, rows=(1, 2, 4, 8), peers=ROWS),
        "0.5b start": Case(SMALL, "start"),
        "0.5b cold": Case(SMALL, "start", cold=True),
        "1b 32": Case(LARGE, prompt=32),
        "1b rows": Case(LARGE, prompt=32, tokens=16, rows=(1, 4, 8), peers=OURS),
        "1b cold": Case(LARGE, "start", cold=True),
        "1b long": Case(LARGE, prompt=8192, tokens=16, repeat=1, peers=LONG),
        "1b 2048": Case(LARGE, prompt=2048, tokens=16),
        "1b one thread": Case(LARGE, tokens=16, threads=1),
        "1b start": Case(LARGE, "start"),
        "1b memory": Case(LARGE, "pair", tokens=8),
        "1.7b": Case(THIRD, tokens=16),
        "1.7b 32": Case(THIRD, prompt=32, tokens=16),
        "1.7b 2048": Case(THIRD, prompt=2048, tokens=16, repeat=2),
        "1.7b long": Case(THIRD, prompt=8192, tokens=16, repeat=1, peers=LONG),
        "1.7b cold": Case(THIRD, "start", cold=True),
        "1.7b memory": Case(THIRD, "pair", tokens=8),
        "demo": Case(DEMO, repeat=5),
        "demo start": Case(DEMO, "start"),
    }
)
MAIN = (
    "0.5b",
    "0.5b rows",
    "1b",
    "whole",
    "0.5b operators, prompt",
    "0.5b operators, answer",
    "0.5b operators, long",
    "0.5b memory",
    "0.5b long",
)
"""What the table of ``judge`` and the plots need."""
