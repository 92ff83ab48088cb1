"""Source files are taken away only where they are ours to take."""

from __future__ import annotations

from pathlib import Path

from fastslm.config import Settings
from fastslm.hub import fetch_model, parse
from fastslm.hub.forget import forget, is_shared
from support.hub_server import FakeHub


def test_a_snapshot_of_the_hub_cache_goes_with_its_blobs(hub: FakeHub, hub_settings: Settings) -> None:
    """The bytes freed are those of the files."""
    hub.add_repo("tiny/llama", {"config.json": b"{}", "model.safetensors": b"x" * 5000})
    ref = parse("tiny/llama", endpoint=hub.endpoint)
    fetched = fetch_model(ref, hub_settings)
    assert is_shared(ref)
    assert forget(ref, fetched.path, fetched.commit, hub_settings) == 5002
    assert not fetched.path.exists()


def test_a_download_of_our_own_goes_with_its_folder(settings: Settings) -> None:
    """An address or the demo: nobody else knows the folder."""
    folder = settings.downloads_dir / "demo"
    folder.mkdir(parents=True)
    (folder / "model.gguf").write_bytes(b"x" * 100)
    ref = parse("demo")
    assert not is_shared(ref)
    assert forget(ref, folder / "model.gguf", "", settings) == 100
    assert not folder.exists()


def test_a_file_elsewhere_is_never_touched(settings: Settings, tmp_path: Path) -> None:
    """A damaged registry that points to a foreign folder does no harm."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "model.gguf").write_bytes(b"x")
    assert forget(parse("demo"), tmp_path / "mine" / "model.gguf", "", settings) == 0
    local = parse(str(tmp_path / "mine" / "model.gguf"))
    assert forget(local, tmp_path / "mine" / "model.gguf", "", settings) == 0
    assert (tmp_path / "mine" / "model.gguf").exists()
