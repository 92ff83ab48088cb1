"""A model is converted while it arrives, and what is seen in the end is what an ordinary conversion makes."""

from __future__ import annotations

import errno
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fastslm import api
from fastslm.api import ahead
from fastslm.config import Settings
from fastslm.errors import (
    ConversionFailed,
    DiskFull,
    FastSLMError,
    FileMissing,
    FormatError,
    OfflineMode,
    UsageError,
)
from fastslm.export.weights import WeightsFile
from fastslm.hub.plan import PlannedFile
from fastslm.progress import Progress
from fastslm.store.registry import Registry
from support.float_model import CONFIG
from support.hub_server import FakeHub, Fault
from support.memory_source import random_tensors
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


def test_it_is_made_ahead(hub: FakeHub, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every tensor of the first files is converted before the last file is verified."""
    hub.add_repo(REPO, sharded_files(tmp_path / "files"))
    seen: list[bool] = []
    real = ahead.Ahead.verified

    def verified(self: ahead.Ahead, file: PlannedFile) -> None:
        if file.path.startswith("model-00003"):
            earlier = [path for path in self._files.paths if path.name != file.path]
            for _ in range(300):
                if all(self._files.is_used_up(path) for path in earlier):
                    break
                time.sleep(0.1)
            seen.extend(self._files.is_used_up(path) for path in earlier)
        real(self, file)

    monkeypatch.setattr(ahead.Ahead, "verified", verified)
    api.pull(REPO, settings=at(hub, settings), **WISH)  # type: ignore[arg-type]
    assert seen == [True, True]


@pytest.mark.parametrize("shards", [1, 3])
def test_bytes_that_fail_their_hash_are_not_in_the_result(
    hub: FakeHub, settings: Settings, tmp_path: Path, ordinary: dict[str, bytes], shards: int
) -> None:
    """A byte is wrong the first time it is sent: it may be read, but what was made of it is made again."""
    files = sharded_files(tmp_path / "files", shards)
    hub.add_repo(REPO, files)
    for name, data in files.items():
        if name.endswith(".safetensors"):
            hub.add_fault(Fault("flip", path=name, offset=len(data) // 2, method="GET", skip=1, times=1))
    pulled = api.pull(REPO, settings=at(hub, settings), **WISH)  # type: ignore[arg-type]
    assert content(pulled.path) == ordinary


def test_an_outline_that_lies_does_no_harm(
    hub: FakeHub, settings: Settings, tmp_path: Path, ordinary: dict[str, bytes]
) -> None:
    """Headers are looked at before their file is verified; when the file has another one, all is made from it."""
    files = sharded_files(tmp_path / "files", 1)
    hub.add_repo(REPO, files)
    name = files["model.safetensors"].index(b"k_proj")  # becomes the name of no tensor
    hub.add_fault(Fault("flip", path="model.safetensors", offset=name, method="GET", times=1))
    pulled = api.pull(REPO, settings=at(hub, settings), **WISH)  # type: ignore[arg-type]
    assert content(pulled.path) == ordinary


def spoiled(tmp_path: Path, name: str, value: np.ndarray) -> dict[str, bytes]:
    return sharded_files(tmp_path / "files", 3, {name: value.astype(np.float32)})


K_PROJ = "model.layers.0.self_attn.k_proj.weight"


def damaged(tmp_path: Path, kind: str) -> dict[str, bytes]:
    """A repository with something wrong in its first file of weights."""
    sound = random_tensors(CONFIG, seed=3)[K_PROJ]
    if kind == "nan":
        sound[3, 3] = np.nan
        return spoiled(tmp_path, K_PROJ, sound)
    if kind == "shape":
        return spoiled(tmp_path, K_PROJ, sound[:-1])
    files = sharded_files(tmp_path / "files")
    if kind == "truncated":
        name = next(name for name in files if name.startswith("model-00001"))
        files[name] = files[name][:-100]
    else:
        index = json.loads(files["model.safetensors.index.json"])
        del index["weight_map"][K_PROJ]
        files["model.safetensors.index.json"] = json.dumps(index).encode()
    return files


@pytest.mark.parametrize(
    ("kind", "error", "text"),
    [
        ("nan", ConversionFailed, f"tensor `{K_PROJ}` holds `nan`"),
        ("shape", FormatError, f"tensor `{K_PROJ}` has shape `\\[31, 64\\]`, expected \\[32, 64\\]"),
        ("missing", FormatError, f"tensor `{K_PROJ}` is missing"),
        ("truncated", FormatError, "bytes of tensor data, expected"),
    ],
)
def test_bad_models_are_refused_in_one_sentence(
    hub: FakeHub, settings: Settings, tmp_path: Path, kind: str, error: type[FastSLMError], text: str
) -> None:
    """With the tensor's name; nothing half done is left, and the list says at which stage it failed."""
    hub.add_repo(REPO, damaged(tmp_path, kind))
    with pytest.raises(error, match=text):
        api.pull(REPO, settings=at(hub, settings), **WISH)  # type: ignore[arg-type]
    (entry,) = Registry(settings.registry_file).list()
    assert (entry.state, entry.stage) == ("failed", "conversion")
    assert not [path for path in settings.models_dir.rglob("*") if path.name.startswith("model.onnx")]


def test_a_full_disk_ends_the_download_too(
    hub: FakeHub, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no use in fetching what cannot be converted; what has come stays for the next pull."""
    hub.add_repo(REPO, sharded_files(tmp_path / "files"))
    hub.add_fault(Fault("slow", path="model-00003-of-00003.safetensors", delay_s=0.2, method="GET", skip=1))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(WeightsFile, "write", full)
    with pytest.raises(DiskFull, match="is full"):
        api.pull(REPO, settings=at(hub, settings), **WISH)  # type: ignore[arg-type]
    monkeypatch.undo()
    (entry,) = Registry(settings.registry_file).list()
    assert entry.stage == "conversion"
    assert not [path for path in settings.models_dir.rglob("*") if path.name.startswith("model.onnx")]


def test_a_source_that_is_not_kept(
    hub: FakeHub, settings: Settings, tmp_path: Path, ordinary: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are never more than two files of weights at once; later commands say what became of the source."""
    hub.add_repo(REPO, sharded_files(tmp_path / "files", 5))
    here, most = at(hub, settings), 0

    def progress(_: Progress) -> None:
        nonlocal most
        blobs = [path.stat().st_size for path in settings.hub_cache.rglob("blobs/*")]
        partials = [path.stat().st_size for path in settings.hub_cache.rglob("*.partial")]
        most = max(most, len([size for size in blobs + partials if size > 40_000]))

    pulled = api.pull(REPO, settings=here, progress=progress, discard_source=True, **WISH)  # type: ignore[arg-type]
    assert content(pulled.path) == ordinary
    assert most <= 2
    assert not [path for path in settings.hub_cache.rglob("*.safetensors") if path.exists()]
    assert pulled.entry.discarded
    before = len(hub.requests)
    again = api.pull(REPO, settings=here, **WISH)  # type: ignore[arg-type]
    assert (again.path, again.wire_bytes, again.entry.state) == (pulled.path, 0, "ready")
    assert not [each for each in hub.requests[before:] if each.origin == "cdn"]
    with pytest.raises(FileMissing, match=f"the source of `{REPO}` was removed after its conversion on"):
        api.convert(REPO, precision="int8", settings=here)
    whole = api.pull(REPO, precision="int8", quality="never", settings=here)
    assert whole.entry.state == "ready"
    assert not whole.entry.discarded


def test_only_what_a_hub_has_is_discarded(settings: Settings, tmp_path: Path) -> None:
    """The user's own files are never removed."""
    with pytest.raises(UsageError, match="the source is to be discarded with"):
        api.pull(str(tmp_path), discard_source=True, settings=settings)


def test_without_a_network_a_model_of_no_source_is_there(hub: FakeHub, settings: Settings, tmp_path: Path) -> None:
    """It was converted, so nothing is incomplete; another conversion of it is."""
    hub.add_repo(REPO, sharded_files(tmp_path / "files"))
    here, told = at(hub, settings), []
    first = api.pull(REPO, settings=here, discard_source=True, **WISH)  # type: ignore[arg-type]
    for lonely in (replace(here, offline=True), replace(here, endpoint="http://127.0.0.1:9")):
        again = api.pull(REPO, settings=lonely, notice=told.append, **WISH)  # type: ignore[arg-type]
        assert (again.path, again.entry.state, again.wire_bytes) == (first.path, "ready", 0)
        assert again.entry.discarded == first.entry.discarded
        assert again.entry.size_bytes == first.entry.size_bytes
        assert f"`{REPO}` is converted, its weights were removed afterwards on {first.entry.discarded[:10]}" in told
    with pytest.raises(OfflineMode, match="is not complete on this machine"):
        api.pull(REPO, precision="int8", settings=replace(here, offline=True))
    with pytest.raises(OfflineMode):
        api.pull(REPO, convert=False, settings=replace(here, offline=True))


def test_weights_that_were_used_up_are_no_download(hub: FakeHub, settings: Settings, tmp_path: Path) -> None:
    """They are counted where they would be fetched: for another precision, or to be kept."""
    files = sharded_files(tmp_path / "files")
    hub.add_repo(REPO, files)
    here = at(hub, settings)
    api.pull(REPO, settings=here, discard_source=True, **WISH)  # type: ignore[arg-type]
    weights = sum(len(data) for name, data in files.items() if name.endswith(".safetensors"))
    assert api.download_size(REPO, precision="int4", settings=here) == 0
    assert api.download_size(REPO, precision="int8", settings=here) == weights
    assert api.download_size(REPO, precision="int4", convert=False, settings=here) == weights
