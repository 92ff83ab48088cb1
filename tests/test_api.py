"""What a pipeline sees of ``pull``, ``convert`` and ``load`` when its wishes cannot be met, or are met twice at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fastslm import api
from fastslm.config import Settings
from fastslm.store.registry import Registry
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
