"""A model is converted while it arrives, and what is seen in the end is what an ordinary conversion makes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fastslm import api
from fastslm.api import ahead
from fastslm.config import Settings
from fastslm.errors import ConversionFailed, DiskFull, FastSLMError, FileMissing, FormatError, UsageError
from fastslm.export.weights import WeightsFile
from fastslm.progress import Progress
from fastslm.store.registry import Registry
from support.hub_server import FakeHub, Fault
from support.sharded_model import REPO, sharded_files

WISH = {"precision": "int4", "quality": "never"}
BYTES = ("model.onnx", "model.onnx.data", "tokenizer.json")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub; tiny models are worth the trouble too."""
    monkeypatch.setattr(ahead, "WORTH_BYTES", 0)
    with FakeHub() as hub:
        yield hub


def at(hub: FakeHub, settings: Settings) -> Settings:
    return replace(settings, endpoint=hub.endpoint)


def content(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in BYTES}


def hidden(settings: Settings) -> list[Path]:
    """Everything half done."""
    return [path for path in settings.models_dir.rglob(".*") if path.name != ".locks"]


@pytest.fixture
def ordinary(settings: Settings, tmp_path: Path) -> dict[str, bytes]:
    """What a conversion without any network makes."""
    sharded_files(tmp_path / "plain", 1)
    for name, data in sharded_files(tmp_path / "plain", 1).items():
        (tmp_path / "plain" / name).write_bytes(data)
    apart = replace(settings, home=tmp_path / "apart")
    return content(api.convert(str(tmp_path / "plain"), output=tmp_path / "out", settings=apart, **WISH))  # type: ignore[arg-type]


@pytest.mark.parametrize("shards", [1, 3])
def test_the_result_is_that_of_an_ordinary_conversion(
    hub: FakeHub, settings: Settings, tmp_path: Path, ordinary: dict[str, bytes], shards: int
) -> None:
    """Byte for byte; and most of it was made before the last byte had come."""
    hub.add_repo(REPO, sharded_files(tmp_path / "files", shards))
    stages: list[str] = []
    made: list[str] = []

    def progress(now: Progress) -> None:
        stages.append(now.stage)

    pulled = api.pull(REPO, settings=at(hub, settings), progress=progress, notice=made.append, **WISH)  # type: ignore[arg-type]
    assert content(pulled.path) == ordinary
    assert (pulled.reused_tensors, pulled.entry.state) == (0, "ready")
    assert not made
    assert not [path for path in hidden(settings) if path.suffix == ".staging"]
