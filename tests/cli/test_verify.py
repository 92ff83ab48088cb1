"""Damage is found by hash, told in one line for each file, and repaired from where the file came."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from cli.conftest import Run
from fastslm.config import Settings
from support.hub_server import FakeHub


def flip(path: Path, at: int = -3) -> None:
    """Change one byte, keeping size and times."""
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def blob_of(settings: Settings, suffix: str) -> Path:
    return next(settings.hub_cache.rglob(f"snapshots/*/*{suffix}")).resolve()


def test_sound_files_are_counted(fastslm: Run, hub: FakeHub) -> None:
    """Hub cache and conversions together; nobody is asked."""
    fastslm("pull", "tiny/llama")
    hub.close_for_good()
    shown = fastslm("verify")
    assert shown.code == 0, shown.err
    assert shown.out == ""
    assert "no file is damaged" in shown.err
    record = fastslm("verify", "tiny/llama", "--json").data
    assert record["files"] == 2 + 4
    assert record["damaged"] == []


@pytest.mark.parametrize("suffix", [".gguf", "README.md"])
def test_a_flipped_byte_in_the_cache_is_found_and_repaired(
    fastslm: Run, hub: FakeHub, settings: Settings, suffix: str
) -> None:
    """Large files by SHA-256, small ones by git's hash; only the damaged one is fetched again."""
    fastslm("pull", "tiny/llama")
    blob = blob_of(settings, suffix)
    good = blob.read_bytes()
    flip(blob)
    shown = fastslm("verify", "tiny/llama")
    assert shown.code == 6
    assert len(shown.out.splitlines()) == 1
    assert blob.name in shown.out
    hub.clear()
    mended = fastslm("verify", "--repair", "--json")
    assert mended.code == 0, mended.err
    assert [each["repaired"] for each in mended.data["damaged"]] == [True]
    assert blob_of(settings, suffix).read_bytes() == good
    assert len({request.path for request in hub.log("cdn", "GET")}) == (1 if suffix == ".gguf" else 0)
    assert fastslm("verify").code == 0


def test_a_missing_blob_is_damage(fastslm: Run, hub: FakeHub, settings: Settings) -> None:
    """A link that leads nowhere."""
    fastslm("pull", "tiny/llama")
    blob = blob_of(settings, ".gguf")
    blob.unlink()
    shown = fastslm("verify")
    assert shown.code == 6
    assert "is missing" in shown.out
    assert fastslm("verify", "--repair").code == 0
    assert blob.is_file()


def test_without_the_network_nothing_is_lost(fastslm: Run, hub: FakeHub, settings: Settings) -> None:
    """A damaged file that cannot be had again stays as it is, and the exit code stays 6."""
    fastslm("pull", "tiny/llama")
    blob = blob_of(settings, ".gguf")
    flip(blob)
    left = blob.read_bytes()
    hub.close_for_good()
    shown = fastslm("verify", "--repair")
    assert shown.code == 6
    assert "not repaired" in shown.out
    assert blob.read_bytes() == left
    assert not list(blob.parent.glob("*.damaged"))


@pytest.mark.parametrize("name", ["model.onnx.data", "fastslm.json", "tokenizer.json"])
def test_a_damaged_conversion_is_made_again(fastslm: Run, tiny_file: str, name: str) -> None:
    """With the context it had; no line of it is left damaged."""
    folder = Path(fastslm("pull", tiny_file, "--context", "64").out.strip())
    if name == "fastslm.json":
        (folder / name).write_text("{")
    else:
        flip(folder / name)
    shown = fastslm("verify", tiny_file)
    assert shown.code == 6
    assert name in shown.out
    assert fastslm("verify", tiny_file, "--repair").code == 0
    assert fastslm("verify").code == 0
    if name != "fastslm.json":
        assert json.loads((folder / "fastslm.json").read_text())["context_length"] == 64


def test_two_damaged_files_of_one_model_are_mended_together(fastslm: Run, tiny_file: str) -> None:
    """The second line does not convert once more."""
    folder = Path(fastslm("pull", tiny_file).out.strip())
    flip(folder / "model.onnx")
    flip(folder / "model.onnx.data")
    shown = fastslm("verify", "--repair")
    assert shown.code == 0, shown.out + shown.err
    assert len(shown.out.splitlines()) == 2


def test_snapshots_without_links_are_checked_by_the_listing(
    fastslm: Run, hub: FakeHub, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the file system has no links the files themselves lie in the snapshot."""
    monkeypatch.setenv("HF_HUB_DISABLE_SYMLINKS", "1")
    fastslm("pull", "tiny/llama")
    file = next(settings.hub_cache.rglob("snapshots/*/*.gguf"))
    assert not file.is_symlink()
    flip(file)
    assert fastslm("verify").code == 6
    assert fastslm("verify", "--repair").code == 0
    assert fastslm("verify").code == 0


def test_a_file_that_nobody_vouches_for_is_said(fastslm: Run, hub: FakeHub, settings: Settings) -> None:
    """It is neither sound nor damaged."""
    fastslm("pull", "tiny/llama")
    next(settings.hub_cache.glob("models--*")).joinpath("blobs", "abc-2").write_text("?")
    shown = fastslm("verify")
    assert shown.code == 0
    assert "1 files have no known hash" in shown.err


def test_a_blob_that_no_snapshot_shows_is_removed_when_damaged(fastslm: Run, hub: FakeHub, settings: Settings) -> None:
    """Nobody misses it."""
    fastslm("pull", "tiny/llama")
    stray = next(settings.hub_cache.glob("models--*")) / "blobs" / ("0" * 64)
    stray.write_text("damaged")
    assert fastslm("verify").code == 6
    assert fastslm("verify", "--repair").code == 0
    assert not stray.exists()


def test_an_unknown_model_is_exit_code_3(fastslm: Run, hub: FakeHub) -> None:
    """Nothing of it is here."""
    assert fastslm("verify", "tiny/nothing").code == 3
