"""Who takes part, and the environment in which each runs.

``python -m bench generate --install all`` makes the environments, in the folder that ``--environments`` names;
``--python NAME=INTERPRETER`` tells of one that is elsewhere.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

ENVIRONMENTS = Path(tempfile.gettempdir()) / "fastslm-bench-environments"

TORCH = "torch==2.13.0"
"""The release that we measured with; it is the largest of the packages."""

REQUIREMENTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "genai": ("onnxruntime-genai", "onnx", "onnx-ir", TORCH, "transformers", "numpy"),
        "llama": ("--no-binary=llama-cpp-python", "llama-cpp-python", "numpy"),
        "openvino": ("openvino-genai", "numpy"),
        "torch": (TORCH, "transformers", "numpy"),
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


def interpreters(folder: Path, wishes: Sequence[str]) -> dict[str, str]:
    """Interpreter of each environment that there is; the empty name is ours."""
    found = {"": sys.executable}
    found |= {name: str(_python(folder, name)) for name in REQUIREMENTS if _python(folder, name).exists()}
    for wish in wishes:
        name, _, python = wish.partition("=")
        if name not in REQUIREMENTS or not python:
            raise SystemExit(f"`--python {wish}`: expected NAME=INTERPRETER with a name of {', '.join(REQUIREMENTS)}")
        found[name] = python
    return found


def install(folder: Path, names: Iterable[str]) -> None:
    """Make these environments, as far as they are not there; one whose packages cannot be had is removed again."""
    for name in names:
        if _python(folder, name).exists():
            continue
        print(f"making the environment `{name}` in {folder}", file=sys.stderr)
        venv.create(folder / name, with_pip=True)
        command: list[str | Path] = [_python(folder, name), "-m", "pip", "install", "--quiet", *REQUIREMENTS[name]]
        if subprocess.run(command, check=False).returncode:
            shutil.rmtree(folder / name)
            raise SystemExit(f"the environment `{name}` cannot be made: pip failed, see above")


def _python(folder: Path, name: str) -> Path:
    return folder / name / "bin" / "python"
