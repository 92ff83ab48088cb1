"""What a pipeline sees of ``pull``, ``convert`` and ``load`` when a wish cannot be met, or comes twice at once."""

from __future__ import annotations

import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fastslm import api
from fastslm.config import Settings
from fastslm.store.registry import Registry
from support.file_server import FileServer
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
