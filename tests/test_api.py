"""What a pipeline sees of ``pull``, ``convert`` and ``load`` when a wish cannot be met, or comes twice at once."""

from __future__ import annotations

import dataclasses
import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from fastslm import _native, api, ops
from fastslm.config import Settings
from fastslm.errors import Cancelled, ModelNotFound, UnsupportedModel, UsageError
from fastslm.progress import Progress
from fastslm.store.manifest import ModelManifest
from fastslm.store.registry import Registry
from support.file_server import FileServer
from support.hub_server import FakeHub
from support.tiny_files import write_llama_gguf


@pytest.fixture
def tiny_file(tmp_path: Path) -> str:
    """A two-layer model with a context of 128."""
    path = tmp_path / "tiny.gguf"
    write_llama_gguf(path)
    return str(path)


def test_threads_that_convert_the_same_model_both_get_it(
    settings: Settings, tiny_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The work is done once; the second waits and finds it."""
    from fastslm.export import convert as exporter

    real, made, at_once = exporter.convert, [], threading.Barrier(2, timeout=10)

    def counted(*args: object) -> object:
        made.append(1)
        return real(*args)  # type: ignore[arg-type]

    def work(_: int) -> Path:
        at_once.wait()
        return api.convert(tiny_file, precision="int8", settings=settings)

    monkeypatch.setattr(exporter, "convert", counted)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(work, range(2))
    assert (first, len(made)) == (second, 1)
    assert [entry.state for entry in Registry(settings.registry_file).list()] == ["ready"]


def test_the_cache_is_kept_as_asked(settings: Settings, tiny_file: str) -> None:
    """int16 is the default; it gives the perplexity of float32 to 0.1 %, as float16 does, int8 to 2 %."""
    text = "The keeper wrote one line a day: wind, sea, ships, lamp. " * 4
    found = {}
    for format_ in (None, *ops.CACHE_FORMATS):
        with api.load(tiny_file, precision="fp32", kv_cache=format_, settings=settings) as model:
            found[format_] = model.perplexity(text, 100).perplexity
            assert model.kv_cache == (format_ or "int16")
    assert found[None] == found["int16"] == pytest.approx(found["f32"], rel=1e-3)
    assert found["f32"] == pytest.approx(found["f16"], rel=1e-3)
    assert found["f32"] != found["int8"] == pytest.approx(found["f32"], rel=0.02)


def test_the_query_of_an_address_is_kept_nowhere(settings: Settings, tiny_file: str) -> None:
    """Signed addresses are passwords: neither a file, nor its name, nor a message repeats one."""
    told: list[str] = []
    with FileServer(Path(tiny_file).read_bytes()) as server:
        address = f"{server.url}?sig=SECRETQ"
        pulled = api.pull(address, settings=settings, progress=lambda p: told.append(str(p)), notice=told.append)
    everything = list(settings.home.rglob("*"))
    assert "SECRETQ" not in f"{pulled} {told} {everything}"
    assert not [path for path in everything if path.is_file() and b"SECRETQ" in path.read_bytes()]
    assert stat.S_IMODE(settings.registry_file.stat().st_mode) == 0o600
    assert api.pull(pulled.entry.name, settings=settings).path == pulled.path


@pytest.mark.parametrize("wish", [{"precision": "q4"}, {"context_length": 0}, {"context_length": "many"}])
@pytest.mark.parametrize("work", [api.pull, api.convert, api.load])
def test_a_wish_that_cannot_be_meant_is_refused_first(settings: Settings, work: Any, wish: dict[str, Any]) -> None:
    """Nothing is fetched for it and the list of models has no line of it."""
    with pytest.raises(UsageError, match=str(*wish.values())) as caught:
        work("demo", settings=settings, **wish)
    assert {caught.value.name: caught.value.value} == wish
    assert not settings.home.exists()


@pytest.mark.parametrize("name", [None, 7, b"demo", "x" * 5000, "a\0b", ["demo"]])
@pytest.mark.parametrize("work", [api.pull, api.convert, api.load])
def test_what_is_no_name_is_a_usage_error(settings: Settings, work: Any, name: Any) -> None:
    """Whatever a program passes on by mistake."""
    with pytest.raises(UsageError) as caught:
        work(name, settings=settings)
    assert (caught.value.name, caught.value.value) == ("model", name)


def test_threads_and_patterns_are_checked(settings: Settings) -> None:
    """The message has the value found."""
    for threads in ("x", -1, 1.5):
        with pytest.raises(UsageError, match=f"threads is `{threads}`, expected"):
            api.load("demo", threads=threads, settings=settings)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="include is `7`, expected"):
        api.pull("demo", include=7, settings=settings)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="exclude is"):
        api.pull("demo", exclude=[1], settings=settings)  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("given", "polite", "taken"), [(0, False, 4), (0, True, 3), (2, True, 2), (3, False, 3), (1, True, 1)]
)
def test_a_polite_model_leaves_a_core_free_unless_told_how_many_to_take(
    given: int, polite: bool, taken: int, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the process goes behind others, before the model's threads begin."""
    done: list[object] = []
    monkeypatch.setattr("fastslm.store.threads.usual_threads", lambda file: 4)
    monkeypatch.setattr("fastslm.machine.be_polite", lambda: done.append("behind"))
    monkeypatch.setattr("fastslm.engine.model.Model.open", lambda folder, **how: done.append(how["threads"]))
    (tmp_path / "fastslm.json").write_text("{}")
    api.load(tmp_path, threads=given, polite=polite, settings=settings)
    assert done == (["behind", taken] if polite else [taken])


def test_one_pattern_may_be_given_as_text(settings: Settings) -> None:
    """It is not taken for a list of letters."""
    with FakeHub() as hub:
        hub.add_repo("tiny/llama", {"config.json": b"{}", "a.txt": b"a", "b.txt": b"b"})
        at_hub = dataclasses.replace(settings, endpoint=hub.endpoint)
        pulled = api.pull("tiny/llama", include="*.txt", exclude="b*", convert=False, settings=at_hub)
    assert [path.name for path in pulled.path.iterdir()] == ["a.txt"]


def test_a_path_is_never_a_repository(settings: Settings, tiny_file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even when its text looks like the name of one."""
    monkeypatch.chdir(Path(tiny_file).parent)
    assert api.pull(Path("tiny.gguf"), convert=False, settings=settings).path == Path(tiny_file)
    with pytest.raises(ModelNotFound, match="no file or folder"):
        api.pull(Path("org/name"), settings=settings)


def test_a_ready_model_stays_ready_when_only_its_download_is_asked_for(settings: Settings, tiny_file: str) -> None:
    """Unless the files have changed since the conversion."""
    ready = api.pull(tiny_file, settings=settings).entry
    again = api.pull(tiny_file, convert=False, settings=settings)
    assert (again.entry.state, again.entry.size_bytes) == ("ready", ready.size_bytes)
    os.utime(tiny_file, (1, 1))
    assert api.pull(tiny_file, convert=False, settings=settings).entry.state == "downloaded"


def test_a_context_above_the_models_own_is_refused_and_the_model_kept(settings: Settings, tiny_file: str) -> None:
    """What is ready stays so, with the context it has."""
    ready = api.pull(tiny_file, settings=settings)
    with pytest.raises(UsageError, match="`100000000`, expected at most `128`"):
        api.pull(tiny_file, context_length=100_000_000, settings=settings)
    assert api.find_entry(tiny_file, "auto", settings) is not None
    assert (ready.path / "fastslm.json").exists()


@pytest.mark.parametrize("stop", [KeyboardInterrupt, Cancelled])
def test_what_the_user_stopped_is_recorded_as_cancelled(
    settings: Settings, tiny_file: str, stop: type[BaseException]
) -> None:
    """It is no failure of the model; the next pull goes on."""

    def interrupt(progress: Progress) -> None:
        if progress.stage == "converting":
            raise stop

    with pytest.raises(stop):
        api.pull(tiny_file, settings=settings, progress=interrupt)
    [entry] = Registry(settings.registry_file).list()
    assert (entry.state, entry.stage, entry.cause, entry.cancelled) == ("failed", "conversion", "cancelled", True)
    assert api.pull(tiny_file, settings=settings).entry.state == "ready"


def test_models_are_made_for_our_operators_unless_others_are_asked_for(settings: Settings, tiny_file: str) -> None:
    """A conversion for the other target replaces the first; asking for neither keeps what runs."""
    folder = api.convert(tiny_file, settings=settings)
    assert ModelManifest.read(folder).target == "native"
    assert api.convert(tiny_file, target="portable", settings=settings) == folder
    assert ModelManifest.read(folder).target == "portable"
    with api.load(tiny_file, settings=settings) as model:
        assert model.manifest.target == "portable"


@pytest.fixture
def without_operators(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An installation whose library of operators is gone."""
    monkeypatch.setattr(_native, "__file__", str(tmp_path / "_native.so"))


def test_where_our_operators_do_not_load_stock_ones_run(
    settings: Settings, tiny_file: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The model still answers, and one line says why it is slower; a model made for ours is made again."""
    folder, told = api.convert(tiny_file, settings=settings), []
    request.getfixturevalue("without_operators")
    with api.load(tiny_file, settings=settings, notice=told.append) as model:
        assert model.generate("hello", max_tokens=2, temperature=0).timings.completion_tokens
    assert ModelManifest.read(folder).target == "portable"
    reason = f"our operators cannot be loaded: `{tmp_path}` holds no library of operators"
    assert told == [f"`{tiny_file}` is made again: {reason}", f"{reason}, so the model is made for stock operators"]


def test_a_folder_for_our_operators_says_so_where_they_do_not_load(
    settings: Settings, tiny_file: str, request: pytest.FixtureRequest
) -> None:
    """A path is nobody's to convert again, so it is an error with the reason."""
    folder = api.convert(tiny_file, settings=settings)
    request.getfixturevalue("without_operators")
    with pytest.raises(UnsupportedModel, match="our operators cannot be loaded"):
        api.load(folder, settings=settings)


def test_weights_of_another_layout_are_packed_again(settings: Settings, tiny_file: str) -> None:
    """After an upgrade a model runs as before, and the line says why it takes a moment."""
    folder, told = api.convert(tiny_file, settings=settings), []
    manifest = ModelManifest.read(folder)
    dataclasses.replace(manifest, packed_layout=manifest.packed_layout + 1).write(folder)
    api.load(tiny_file, settings=settings, notice=told.append).close()
    assert ModelManifest.read(folder).packed_layout == manifest.packed_layout
    versions = f"layout {ops.layout_version() + 1}, expected {ops.layout_version()}"
    assert told == [f"`{tiny_file}` is made again: its weights have {versions}"]
