"""A source that is not kept leaves the disk while it arrives, and what is left of it is never taken for the source."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from fastslm import _native, api
from fastslm.api import ahead, passing
from fastslm.config import Settings
from fastslm.errors import Cancelled, ConversionFailed
from fastslm.progress import Progress
from support.float_model import CONFIG
from support.golden import TOKENIZER
from support.hub_server import FakeHub, Fault
from support.memory_source import random_tensors
from support.tiny_files import TinyLlama, write_llama_gguf, write_safetensors

REPO = "tiny/passing"
RATE = 5_000_000
KILOBYTES = 1000
SIZES = {"hidden_size": 256, "intermediate_size": 1024}
BYTES = ("model.onnx", "model.onnx.data", "tokenizer.json")


@dataclass(frozen=True)
class Model:
    """A repository with one file of weights, and what an ordinary conversion makes of it."""

    files: dict[str, bytes]
    weights: str
    precision: str
    expected: dict[str, bytes]

    @property
    def size(self) -> int:
        return len(self.files[self.weights])


def content(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in BYTES}


def written(folder: Path, kind: str) -> None:
    """About 20 MB of random weights."""
    folder.mkdir()
    if kind == "gguf":
        write_llama_gguf(folder / "model.gguf", TinyLlama(layers=18, hidden=256, intermediate=1024))
        return
    config = {**CONFIG, **SIZES, "num_hidden_layers": 6}
    tensors = random_tensors(config, seed=3)
    write_safetensors(folder / "model.safetensors", {name: ("F32", value) for name, value in tensors.items()})
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "tokenizer.json").write_bytes(Path(TOKENIZER).read_bytes())


def model_of(folder: Path, kind: str) -> Model:
    written(folder / kind, kind)
    files = {path.name: path.read_bytes() for path in (folder / kind).iterdir()}
    weights, precision = ("model.gguf", "exact") if kind == "gguf" else ("model.safetensors", "int4")
    source = folder / kind / weights if kind == "gguf" else folder / kind
    apart = Settings(home=folder / "apart", hub_cache=folder / "apart-hub")
    made = api.convert(source, precision=precision, quality="never", output=folder / f"{kind}-made", settings=apart)  # type: ignore[arg-type]
    return Model(files, weights, precision, content(made))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    folder = tmp_path_factory.mktemp("models")
    return {kind: model_of(folder, kind) for kind in ("safetensors", "gguf")}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> Iterator[FakeHub]:
    """A hub; small models are worth the trouble too."""
    settings.hub_cache.mkdir(parents=True)
    if not _native.can_punch(str(settings.hub_cache)):
        pytest.skip("this file system gives nothing back")
    monkeypatch.setattr(ahead, "WORTH_BYTES", 0)
    monkeypatch.setattr(passing, "WORTH_BYTES", 500 * KILOBYTES)
    monkeypatch.setattr(passing, "WINDOW_BYTES", 4000 * KILOBYTES)
    with FakeHub() as hub:
        yield hub


def slow(hub: FakeHub, settings: Settings) -> Settings:
    return replace(settings, endpoint=hub.endpoint, limit_rate=RATE)


def at(hub: FakeHub, settings: Settings) -> Settings:
    return replace(settings, endpoint=hub.endpoint)


def given(settings: Settings) -> int:
    """Bytes that are gone from an unfinished file."""
    pairs = [(path.with_suffix(".partial"), path) for path in settings.hub_cache.rglob("*.journal")]
    return sum(end - begin for pair in pairs for begin, end in _native.given_back(*map(str, pair)))


def held(settings: Settings) -> int:
    """Bytes that the weights take on the disk."""
    found = [*settings.hub_cache.rglob("*.partial"), *settings.hub_cache.rglob("blobs/*")]
    return sum(path.stat().st_blocks * 512 for path in found if path.exists())


def pull(model: Model, settings: Settings, *, discards: bool = True, progress: object = None) -> api.Pulled:
    told = progress or (lambda now: None)
    wish = {"precision": model.precision, "quality": "never", "discard_source": discards, "progress": told}
    return api.pull(REPO, settings=settings, **wish)  # type: ignore[arg-type]


def watched_pull(model: Model, hub: FakeHub, settings: Settings) -> tuple[api.Pulled, int]:
    """A slow pull, and the most bytes that the weights took on the disk meanwhile."""
    most = 0

    def look(now: Progress) -> None:
        nonlocal most
        most = max(most, held(settings))

    return pull(model, slow(hub, settings), progress=look), most


def interrupted(model: Model, settings: Settings) -> None:
    """A pull that is stopped when some of the source is gone."""

    def stop(now: Progress) -> None:
        if given(settings) > 2000 * KILOBYTES:
            raise KeyboardInterrupt

    with pytest.raises((KeyboardInterrupt, Cancelled)):
        pull(model, settings, progress=stop)
    assert given(settings) > 2000 * KILOBYTES


@pytest.mark.parametrize("kind", ["safetensors", "gguf"])
def test_the_disk_never_holds_much_of_the_source(
    hub: FakeHub, settings: Settings, models: dict[str, Model], kind: str
) -> None:
    """Its bytes go while others come; the result is that of an ordinary conversion, and nothing else is left."""
    model = models[kind]
    hub.add_repo(REPO, model.files)
    pulled, most = watched_pull(model, hub, settings)
    assert content(pulled.path) == model.expected
    assert 0 < most < 0.95 * model.size
    assert held(settings) < 100 * KILOBYTES
    assert pulled.entry.discarded
    assert pulled.wire_bytes < 1.2 * model.size
    assert pulled.reused_tensors == 0


@pytest.mark.parametrize("kind", ["safetensors", "gguf"])
def test_a_gguf_or_safetensors_file_is_converted_while_it_arrives(
    hub: FakeHub, settings: Settings, models: dict[str, Model], kind: str
) -> None:
    """Also when it is kept; then all of it is there in the end."""
    model = models[kind]
    hub.add_repo(REPO, model.files)
    pulled = pull(model, at(hub, settings), discards=False)
    assert content(pulled.path) == model.expected
    (blob,) = (path for path in settings.hub_cache.rglob("blobs/*") if path.stat().st_size == model.size)
    assert blob.read_bytes() == model.files[model.weights]


@pytest.mark.parametrize("kind", ["safetensors", "gguf"])
def test_an_interrupted_pull_goes_on_without_what_is_gone(
    hub: FakeHub, settings: Settings, models: dict[str, Model], kind: str
) -> None:
    """What is gone is not fetched again, and the hash goes on behind it."""
    model = models[kind]
    hub.add_repo(REPO, model.files)
    interrupted(model, slow(hub, settings))
    gone = given(settings)
    pulled = pull(model, at(hub, settings))
    assert content(pulled.path) == model.expected
    assert pulled.wire_bytes <= model.size - gone
    assert pulled.reused_tensors > 0
    assert held(settings) < 100 * KILOBYTES


KILLED = """
import os, signal, sys
from dataclasses import replace
from fastslm import _native, api
from fastslm.api import ahead, passing
from fastslm.config import Settings
ahead.WORTH_BYTES, passing.WORTH_BYTES, passing.WINDOW_BYTES = 0, 500_000, 4_000_000
settings = replace(Settings.from_environment(), endpoint=sys.argv[2], limit_rate=5_000_000)

def look(now):
    for journal in settings.hub_cache.rglob("*.journal"):
        if _native.given_back(str(journal.with_suffix(".partial")), str(journal)):
            os.kill(os.getpid(), signal.SIGKILL)

wish = {"precision": sys.argv[3], "quality": "never", "discard_source": True}
api.pull(sys.argv[1], settings=settings, progress=look, **wish)
"""


@pytest.mark.parametrize("then", ["the same", "kept", "another precision"])
def test_a_killed_pull_leaves_nothing_that_is_mistaken(
    hub: FakeHub, settings: Settings, models: dict[str, Model], then: str
) -> None:
    """Whoever wants more of the source than its tensors that are converted gets it from the hub again."""
    model = models["safetensors"]
    hub.add_repo(REPO, model.files)
    command = [sys.executable, "-c", KILLED, REPO, hub.endpoint, model.precision]
    ended = subprocess.run(command, env=os.environ.copy(), capture_output=True, timeout=120, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    gone = given(settings)
    assert gone > 0
    here = at(hub, settings)
    if then == "another precision":
        pulled = api.pull(REPO, precision="int8", quality="never", discard_source=True, settings=here)
        apart = replace(settings, home=settings.home / "apart", hub_cache=settings.hub_cache / "apart")
        whole = api.pull(REPO, precision="int8", quality="never", settings=at(hub, apart))
        assert content(pulled.path) == content(whole.path)
        return
    pulled = pull(model, here, discards=then == "the same")
    assert content(pulled.path) == model.expected
    if then == "kept":
        (blob,) = (path for path in settings.hub_cache.rglob("blobs/*") if path.stat().st_size == model.size)
        assert blob.name == sha256(blob.read_bytes()).hexdigest()
        assert gone <= pulled.wire_bytes < model.size


def test_a_wrong_byte_among_those_that_are_gone_costs_a_second_download(
    hub: FakeHub, settings: Settings, models: dict[str, Model]
) -> None:
    """It shows in the hash at the end, and then everything is made once more of the right bytes."""
    model = models["safetensors"]
    hub.add_repo(REPO, model.files)
    hub.add_fault(Fault("flip", path=model.weights, offset=20 * KILOBYTES, method="GET"))

    def look(now: Progress) -> None:
        if given(settings):
            hub.clear()

    pulled = pull(model, slow(hub, settings), progress=look)
    assert content(pulled.path) == model.expected
    assert pulled.wire_bytes > 1.5 * model.size
    assert held(settings) < 100 * KILOBYTES


def test_an_outline_that_lies_costs_a_second_download(
    hub: FakeHub, settings: Settings, models: dict[str, Model]
) -> None:
    """The places of the tensors were others: what was given back was not what it seemed."""
    model = models["safetensors"]
    hub.add_repo(REPO, model.files)
    offsets = model.files[model.weights].index(b'"model.embed_tokens.weight"')
    place = model.files[model.weights].index(b"k_proj", offsets)
    hub.add_fault(Fault("flip", path=model.weights, offset=place, method="GET", times=1))
    pulled = pull(model, at(hub, settings))
    assert content(pulled.path) == model.expected


def test_without_holes_the_file_goes_at_the_end(
    hub: FakeHub, settings: Settings, models: dict[str, Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a file system that gives nothing back."""
    monkeypatch.setattr(ahead, "can_pass", lambda folder: False)
    model = models["safetensors"]
    hub.add_repo(REPO, model.files)
    pulled, most = watched_pull(model, hub, settings)
    assert content(pulled.path) == model.expected
    assert most >= model.size
    assert held(settings) < 100 * KILOBYTES


def test_a_tensor_that_is_not_finite_ends_it(hub: FakeHub, settings: Settings, models: dict[str, Model]) -> None:
    """With its name; what is left of the source is fetched again by the next pull, which says the same."""
    model = models["safetensors"]
    data = bytearray(model.files[model.weights])
    data[-4:] = np.array([np.nan], np.float32).tobytes()
    hub.add_repo(REPO, {**model.files, model.weights: bytes(data)})
    for _ in range(2):
        with pytest.raises(ConversionFailed, match="`nan`"):
            pull(model, at(hub, settings))
