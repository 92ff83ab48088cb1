"""A contestant: ``python -m bench.generate.worker ENGINE`` reads one JSON object per line and answers each with one.

It runs in the environment of its engine, so this file takes nothing but the standard library and numpy. What libraries
print goes to stderr. Requests: ``load``, ``generate``, ``quit``; an answer with ``failed`` says why.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from typing import Any, Protocol, TextIO

import numpy as np
import numpy.typing as npt

MOST_ID = 32000
"""Prompts are random ids below this, which the vocabulary of every shape has."""

Prompts = npt.NDArray[np.int64]
"""Token ids ``[rows, tokens]``."""


@dataclass(frozen=True)
class Load:
    """How a model is to be loaded: ``context`` positions for each of ``rows`` sequences."""

    path: str
    threads: int
    context: int
    rows: int = 1
    spin: bool = False


class Engine(Protocol):
    """A loaded model."""

    PACKAGES: tuple[str, ...]
    """Distributions whose versions are reported."""

    def __init__(self, load: Load) -> None: ...

    def generate(self, prompts: Prompts, tokens: int) -> tuple[float, list[float]]:
        """Begin anew with these prompts and write ``tokens`` greedy tokens behind the first one.

        Returns:
            Seconds from the prompts to the first token of each, and the seconds of each step after it.
        """


def _load(module: Any, request: Mapping[str, Any]) -> tuple[Engine, dict[str, Any]]:
    began = time.perf_counter()
    engine = module.Engine(Load(**request))
    seconds = time.perf_counter() - began
    return engine, {"seconds": seconds, "versions": {name: version(name) for name in module.Engine.PACKAGES}}


def _generate(engine: Engine, prompt: int, tokens: int, rows: int, seed: int, below: int = MOST_ID) -> dict[str, Any]:
    prompts = np.random.default_rng(seed).integers(3, below, (rows, prompt), dtype=np.int64)
    prefill, steps = engine.generate(prompts, tokens)
    return {"prefill_s": prefill, "steps_s": steps}


def serve(name: str, requests: TextIO, answers: TextIO) -> None:
    """Answer until ``quit`` or the end of the input."""
    began, engine = time.perf_counter(), None
    module = import_module(f"bench.generate.engines.{name}")
    print(json.dumps({"ready_s": time.perf_counter() - began}), file=answers, flush=True)
    for line in requests:
        request = json.loads(line)
        what = request.pop("do")
        if what == "quit":
            return
        try:
            if what == "load":
                engine, answer = _load(module, request)
            else:
                assert engine is not None, "nothing is loaded"
                answer = _generate(engine, **request)
        except Exception as error:  # whatever class a library has  # noqa: BLE001
            answer = {"failed": f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    own = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    serve(sys.argv[1], sys.stdin, own)
    own.flush()
    os._exit(0)  # libraries that wait for their threads at exit would keep the next contestant waiting
