"""A cache with a model in it, put there by an ordinary fetch from a scripted hub, and mirrors of it."""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from fastslm.config import Settings
from fastslm.hub import Wishes, fetch_model, parse
from fastslm.mirror.shelf import Shelf
from fastslm.mirror.stock import LocalStock, UpstreamStock
from support.hub_server import FakeHub
from support.mirror_server import mirroring
from support.tiny_files import write_safetensors

EVERYTHING = Wishes(include=("*",))


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A safetensors file of a few frames: bfloat16, an odd number of bytes, float32, float16."""
    rng = np.random.default_rng(3)
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    gauss = rng.standard_normal((1100, 1024), dtype=np.float32) * np.float32(0.02)
    tensors = {
        "a.bf16": ("BF16", (gauss.view(np.uint32) >> 16).astype(np.uint16)),
        "b.mask": ("U8", rng.integers(0, 2, 4095)),
        "c.f32": ("F32", gauss[:200]),
        "d.f16": ("F16", gauss[:300]),
    }
    write_safetensors(path, tensors)
    return path.read_bytes()


@pytest.fixture(scope="session")
def files(weights: bytes) -> dict[str, bytes]:
    return {
        "README.md": b"# tiny\n",
        "config.json": b'{"model_type": "llama"}',
        "empty.txt": b"",
        "model.safetensors": weights,
        "sub folder/\u00e4.json": b"[]",
        "tokenizer.json": random.Random(5).randbytes(70_000),
    }


@pytest.fixture
def hub(files: dict[str, bytes]) -> Iterator[FakeHub]:
    with FakeHub() as hub:
        hub.add_repo("org/tiny", files)
        hub.add_repo("gpt2", {"config.json": b"{}"})
        yield hub


@pytest.fixture
def teacher(hub: FakeHub, tmp_path: Path) -> Settings:
    """Settings of the machine that is to be mirrored; nothing is there yet."""
    return Settings(home=tmp_path / "home", hub_cache=tmp_path / "teacher", endpoint=hub.endpoint, connections=4)


@pytest.fixture
def shelf(teacher: Settings) -> Shelf:
    """The same machine with both models on it."""
    fetch_model(parse("org/tiny"), teacher, EVERYTHING)
    fetch_model(parse("gpt2"), teacher, EVERYTHING)
    return Shelf(teacher.hub_cache)


@pytest.fixture
def mirror(shelf: Shelf) -> Iterator[str]:
    with mirroring(LocalStock(shelf)) as address:
        yield address


@pytest.fixture
def filling(teacher: Settings) -> Iterator[str]:
    """A mirror with an empty cache and the hub as upstream."""
    with mirroring(UpstreamStock(Shelf(teacher.hub_cache), teacher)) as address:
        yield address


@pytest.fixture
def pupil(teacher: Settings, tmp_path: Path) -> Settings:
    """Settings of another machine; the endpoint is for the test to set."""
    return dataclasses.replace(teacher, hub_cache=tmp_path / "pupil", endpoint="http://127.0.0.1:9")


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], None]:
    """Wait for something that another thread does."""

    def wait(condition: Callable[[], bool]) -> None:
        for _ in range(1000):
            if condition():
                return
            time.sleep(0.01)
        raise AssertionError("it did not happen within ten seconds")

    return wait
