"""Who takes part, and the environment in which each runs.

``python -m bench generate --install`` makes the environments, ``--python NAME=INTERPRETER`` tells of one that is there.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

ENVIRONMENTS = Path(tempfile.gettempdir()) / "fastslm-bench-environments"

REQUIREMENTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "genai": ("onnxruntime-genai", "onnx", "onnx-ir", "torch", "transformers", "numpy"),
        "llama": ("--no-binary=llama-cpp-python", "llama-cpp-python", "numpy"),
        "openvino": ("openvino-genai", "numpy"),
        "torch": ("torch", "transformers", "numpy"),
    }
)
"""What each environment holds; llama.cpp is compiled for this machine, the builder of genai needs torch."""


@dataclass(frozen=True)
class Peer:
    """One contestant.

    Attributes:
        name: in tables.
        engine: module of ``bench.generate.engines``.
        kind: of the files it runs, see ``bench.generate.models``.
        environment: key of ``REQUIREMENTS``; empty for our own interpreter.
        variables: of its process.
        several: whether it takes several sequences at once.
    """

    name: str
    engine: str
    kind: str
    environment: str = ""
    variables: tuple[tuple[str, str], ...] = ()
    several: bool = True

    @property
    def ours(self) -> bool:
        """Whether it runs our operators."""
        return self.engine == "fastslm" and self.kind != "portable"


STOCK = "stock ONNX Runtime"
PEERS = (
    Peer("fastslm", "fastslm", "int4"),
    Peer("fastslm int4-fast", "fastslm", "int4-fast"),
    Peer(STOCK, "fastslm", "portable"),
    Peer("onnxruntime-genai", "genai", "genai", "genai"),
    Peer("llama.cpp Q4_0", "llama", "q4_0", "llama"),
    Peer("llama.cpp Q4_K_M", "llama", "q4_k_m", "llama"),
    Peer("OpenVINO GenAI", "openvino", "openvino", "openvino", several=False),
    Peer("transformers bf16", "torch", "checkpoint", "torch"),
)


def forced(isa: str) -> Peer:
    """Ours, kept to an instruction set."""
    return Peer(f"fastslm {isa}", "fastslm", "int4", variables=(("FASTSLM_ISA", isa),))


WITHOUT_AMX = Peer(
    "OpenVINO without AMX",
    "openvino",
    "openvino",
    "openvino",
    variables=(("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16"),),
    several=False,
)
"""What it does on processors that have no matrix unit, which most have not; on request only."""


def known() -> dict[str, Peer]:
    """All of them by name, with one for each instruction set of this machine."""
    from fastslm.ops import available_isas

    return {peer.name: peer for peer in (*PEERS, WITHOUT_AMX, *map(forced, available_isas()))}


def interpreters(wishes: Sequence[str]) -> dict[str, str]:
    """Interpreter of each environment that there is; the empty name is ours."""
    found = {"": sys.executable}
    found |= {name: str(_python(name)) for name in REQUIREMENTS if _python(name).exists()}
    for wish in wishes:
        name, _, python = wish.partition("=")
        if name not in REQUIREMENTS or not python:
            raise SystemExit(f"`--python {wish}`: expected NAME=INTERPRETER with a name of {', '.join(REQUIREMENTS)}")
        found[name] = python
    return found


def install() -> None:
    """Make every environment that is missing."""
    for name, requirements in REQUIREMENTS.items():
        if _python(name).exists():
            continue
        print(f"making the environment `{name}` in {ENVIRONMENTS}", file=sys.stderr)
        venv.create(ENVIRONMENTS / name, with_pip=True)
        subprocess.run([_python(name), "-m", "pip", "install", "--quiet", *requirements], check=True)


def _python(name: str) -> Path:
    return ENVIRONMENTS / name / "bin" / "python"
