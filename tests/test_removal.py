"""What `rm` takes away, what it leaves, and that what it left can still be taken away."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastslm import api
from fastslm.config import Settings
from fastslm.errors import ModelNotFound
from fastslm.removal import remove
from support.hub_server import FakeHub
from support.tiny_files import write_llama_gguf


@pytest.fixture
def at_hub(settings: Settings) -> Iterator[Settings]:
    with FakeHub() as hub:
        hub.add_repo("tiny/llama", {"config.json": b"{}", "a.txt": b"a" * 100})
        yield dataclasses.replace(settings, endpoint=hub.endpoint)


def test_a_source_that_was_kept_can_be_removed_afterwards(at_hub: Settings) -> None:
    """The first removal says that the source stays, so the second must find it; the third finds nothing."""
    pulled = api.pull("tiny/llama", include="*.txt", convert=False, settings=at_hub)
    assert remove("tiny/llama", settings=at_hub).kept_source == pulled.path
    with pytest.raises(ModelNotFound):
        remove("tiny/llama", settings=at_hub)
    with pytest.raises(ModelNotFound):
        remove("tiny/llama", precision="int8", source=True, settings=at_hub)
    assert pulled.path.exists()
    removed = remove("tiny/llama", source=True, settings=at_hub)
    assert (removed.entries, removed.freed_bytes, removed.kept_source) == ((), 100, None)
    assert not pulled.path.exists()
    with pytest.raises(ModelNotFound, match="`tiny/llama` is not on this machine"):
        remove("tiny/llama", source=True, settings=at_hub)


def test_a_file_of_ones_own_is_never_offered_for_removal(settings: Settings, tmp_path: Path) -> None:
    """It stays without a word, because no option would remove it."""
    file = tmp_path / "tiny.gguf"
    write_llama_gguf(file)
    api.pull(str(file), convert=False, settings=settings)
    assert remove(str(file), settings=settings).kept_source is None
    with pytest.raises(ModelNotFound):
        remove(str(file), source=True, settings=settings)
    assert file.exists()
