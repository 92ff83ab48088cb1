"""A glance at an address costs its header; at what is here, nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastslm.config import Settings
from fastslm.errors import FileMissing, OfflineMode
from fastslm.formats import open_outline
from fastslm.hub import fetch_model, parse
from fastslm.hub.look import peek
from fastslm.hub.look.glance import at_hand, glance
from fastslm.hub.select import Wishes
from support.file_server import FileServer
from support.tiny_files import TinyLlama, write_llama_gguf


def test_an_address_is_seen_through_its_header(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it is here by ranges, afterwards from the disk; offline only what is here."""
    monkeypatch.setattr(peek, "FIRST_BYTES", 4096)
    write_llama_gguf(tmp_path / "tiny.gguf", TinyLlama(hidden=128))
    data = (tmp_path / "tiny.gguf").read_bytes()
    with FileServer(data) as server:
        ref = parse(server.url)
        (tmp_path / "one").mkdir()
        seen = glance(ref, settings, Wishes(), tmp_path / "one")
        assert (seen.total_bytes, seen.cached_bytes) == (len(data), 0)
        assert seen.path is not None
        assert open_outline(seen.path).config == open_outline(tmp_path / "tiny.gguf").config
        spans = [span[6:].split("-") for method, span in server.requests if method == "GET"]
        assert sum(int(last) - int(first) + 1 for first, last in spans) < len(data) / 4
        fetched = fetch_model(ref, settings)
        again = glance(ref, settings, Wishes(), tmp_path / "two")
        assert (again.path, again.cached_bytes) == (fetched.path, len(data))
        server.status = 404
        with pytest.raises(FileMissing):
            glance(parse(server.url.replace("tiny.gguf", "other.gguf")), settings, Wishes(), tmp_path)
    offline = Settings(home=settings.home, hub_cache=settings.hub_cache, offline=True)
    assert glance(ref, offline, Wishes(), tmp_path).cached_bytes == len(data)
    with pytest.raises(OfflineMode):
        glance(parse("http://127.0.0.1:9/new.gguf"), offline, Wishes(), tmp_path)


def test_what_is_at_hand_has_its_own_size(tmp_path: Path) -> None:
    """Of a folder all files, of a file itself; the tokenizer beside a GGUF file is not its own."""
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "m.gguf").write_bytes(b"12345")
    from fastslm.hub import Fetched, ModelRef

    ref = ModelRef("local", "m")
    folder, file = (at_hand(Fetched(ref, path, "", ())) for path in (tmp_path, tmp_path / "m.gguf"))
    assert (folder.total_bytes, folder.tokenizer_bytes) == (7, 2)
    assert (file.total_bytes, file.tokenizer_bytes) == (5, 0)


def test_the_demo_is_known_before_it_is_here(settings: Settings, tmp_path: Path) -> None:
    """Its wheel has a size, and unpacking takes room beside it."""
    seen = glance(parse("demo"), settings, Wishes(), tmp_path)
    assert seen.path is None
    assert seen.scratch_bytes > seen.total_bytes > 90_000_000
