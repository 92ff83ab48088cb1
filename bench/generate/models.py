"""The files of each contestant, made once of the same random weights and kept in the temporary folder.

The demo model is the exception: its source is a Q4_1 file, which llama.cpp and OpenVINO run as it is, and which
onnxruntime-genai gets as our portable conversion.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from bench import shapes
from bench.convert import MODELS
from bench.converters import FILE_TYPES, QUANTIZE
from fastslm.engine.usable import why_unusable

DEMO = "demo"
OURS = ("int4", "int4-fast", "portable")
"""Kinds that are made again when this release cannot load them."""

SHAPES = (*shapes.SHAPES, DEMO)


@dataclass(frozen=True)
class Maker:
    """Makes files with the interpreters of the environments."""

    pythons: Mapping[str, str]

    def files(self, shape: str, kind: str) -> Path | None:
        """The file or folder that a contestant loads; None when this kind does not exist for the shape."""
        if shape == DEMO:
            kind = DEMO_KINDS.get(kind, "")
        if not kind:
            return None
        if kind == "checkpoint":
            return source(shape)
        target = MODELS / f"{shape}-{kind}"
        if target.exists() and kind in OURS and why_unusable(target):
            shutil.rmtree(target)
        if not target.exists():
            print(f"making {target}", file=sys.stderr)
            partial = target.with_name(f"{target.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            KINDS[kind](self, shape, partial)
            partial.rename(target)
        files = sorted(target.glob("*.gguf"))
        return files[0] if files else target

    def _run(self, environment: str, *words: str | Path) -> None:
        if environment not in self.pythons:
            raise SystemExit(f"files of others are made with the environment `{environment}`, which is not there")
        quiet = {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
        command = [self.pythons[environment], *map(str, words)]
        subprocess.run(command, check=True, env=os.environ | quiet, stdout=subprocess.DEVNULL)

    def _fastslm(self, shape: str, target: Path, *options: str) -> None:
        words: list[str | Path] = ["convert", source(shape), "--output", target / "made"]
        words += ["--quality", "never", "--quiet"]
        self._run("", "-m", "fastslm", *words, *options)
        _up(target / "made")

    def int4(self, shape: str, target: Path) -> None:
        """Ours, the default: the embedding and the head at 8 bits."""
        self._fastslm(shape, target, *_precision(shape, "int4"), "--target", "native")

    def int4_fast(self, shape: str, target: Path) -> None:
        """Ours, everything at 4 bits."""
        self._fastslm(shape, target, "--precision", "int4-fast", "--target", "native")

    def portable(self, shape: str, target: Path) -> None:
        """Our graph of stock operators, with the numbers of ``int4``."""
        self._fastslm(shape, target, *_precision(shape, "int4"), "--target", "portable")

    def genai(self, shape: str, target: Path) -> None:
        """The builder of onnxruntime-genai; everything at 4 bits."""
        words: list[str | Path] = ["-i", source(shape), "-o", target / "made", "-c", target / "cache"]
        words += ["-p", "int4", "-e", "cpu"]
        self._run("genai", "-m", "onnxruntime_genai.models.builder", *words)
        _up(target / "made")
        shutil.rmtree(target / "cache", ignore_errors=True)

    def gguf(self, shape: str, target: Path, kind: str) -> None:
        """llama.cpp's own quantiser."""
        floats = target / "floats.gguf.made"
        self._run("", "-m", "bench.to_gguf", source(shape), floats)
        self._run("llama", "-c", QUANTIZE, floats, target / "model.gguf", str(FILE_TYPES[kind]))
        floats.unlink()

    def openvino(self, shape: str, target: Path) -> None:
        """OpenVINO's own format, which its reader makes of the Q4_0 file."""
        gguf = source(shape) if shape == DEMO else self.files(shape, "q4_0")
        self._run("openvino", "-m", "bench.generate.engines.openvino", gguf or "", target)

    def as_it_is(self, shape: str, target: Path) -> None:
        """A link to the source."""
        (target / "model.gguf").symlink_to(source(shape))


Make = Callable[[Maker, str, Path], None]

KINDS: Mapping[str, Make] = MappingProxyType(
    {
        "int4": Maker.int4,
        "int4-fast": Maker.int4_fast,
        "portable": Maker.portable,
        "genai": Maker.genai,
        "q4_0": lambda maker, shape, target: maker.gguf(shape, target, "Q4_0"),
        "q4_k_m": lambda maker, shape, target: maker.gguf(shape, target, "Q4_K_M"),
        "openvino": Maker.openvino,
        "as it is": Maker.as_it_is,
    }
)

DEMO_KINDS = {"int4": "int4", "portable": "portable", "genai": "portable", "q4_0": "as it is", "openvino": "openvino"}


def source(shape: str) -> Path:
    """The checkpoint of a shape, written when it is missing; of the demo the file that a pull brings."""
    if shape != DEMO:
        return shapes.write(shape, MODELS / shape)
    from fastslm import pull

    return pull(DEMO, convert=False).path


def files_of(path: Path) -> list[Path]:
    """The files that a contestant reads, links followed."""
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return [each.resolve() for each in files]


def _precision(shape: str, usual: str) -> tuple[str, str]:
    return ("--precision", "exact" if shape == DEMO else usual)


def _up(folder: Path) -> None:
    """Move what is in a folder beside it."""
    for path in folder.iterdir():
        path.rename(folder.parent / path.name)
    folder.rmdir()
