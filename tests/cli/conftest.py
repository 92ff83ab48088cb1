"""A tiny Llama model in a GGUF file, a scripted hub that offers it, and a way to run commands in this process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fastslm.cli import main
from support.hub_server import FakeHub
from support.tiny_files import write_llama_gguf


@dataclass(frozen=True)
class Shown:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """Its output as JSON."""
        return json.loads(self.out)


Run = Callable[..., Shown]


@pytest.fixture
def fastslm(capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a command line and give back what a person would see."""

    def run(*words: str) -> Shown:
        capfd.readouterr()
        code = main(words)
        captured = capfd.readouterr()
        return Shown(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a two-layer model with a byte-level tokenizer and a context of 128."""
    path = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    write_llama_gguf(path)
    return path.read_bytes()


@pytest.fixture
def tiny_file(tiny_gguf: bytes, tmp_path: Path) -> str:
    """The same as a file of one's own."""
    path = tmp_path / "tiny.gguf"
    path.write_bytes(tiny_gguf)
    return str(path)


@pytest.fixture
def hub(tiny_gguf: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub that offers the model as ``tiny/llama``; the environment points to it."""
    with FakeHub() as hub:
        hub.add_repo("tiny/llama", {"README.md": b"# tiny\n", "tiny.Q8_0.gguf": tiny_gguf})
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        yield hub
