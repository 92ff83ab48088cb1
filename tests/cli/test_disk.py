"""What takes room is told once, and what nobody needs goes, but never what somebody is waiting for."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest

from cli.conftest import Run
from fastslm.config import Settings
from fastslm.errors import Cancelled
from fastslm.store.models import folder_path
from fastslm.store.registry import Registry
from fastslm.store.staging import staged, stagings
from support.hub_server import FakeHub, Fault

DEAD = 2**22 + 1
"""More than the largest process number of a usual system."""


def age(path: Path, seconds: float = 3600) -> None:
    """Make a file look older."""
    then = path.lstat().st_mtime - seconds
    os.utime(path, (then, then), follow_symlinks=False)


def interrupted_pull(fastslm: Run, hub: FakeHub, data: bytes) -> None:
    """A pull that fails half way and leaves its partial file."""
    hub.add_repo("tiny/half", {"model.safetensors": data, "config.json": b"{}"})
    fault = hub.add_fault(Fault("drop", path="safetensors", offset=len(data) // 2))
    assert fastslm("pull", "tiny/half", "--no-convert").code == 5
    fault.times = 0


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine gives up soon."""
    from fastslm import _native
    from fastslm.hub import transfer

    def options(settings: Settings, url: str) -> _native.DownloadOptions:
        return _native.DownloadOptions(connections=1, max_attempts=2, backoff_s=0.01, journal_interval_s=0.01)

    monkeypatch.setattr(transfer, "_options", options)


def test_df_counts_a_shared_file_once(fastslm: Run, hub: FakeHub, tiny_gguf: bytes, settings: Settings) -> None:
    """Two snapshots that show one blob, and a hard link to it among the conversions' neighbours."""
    fastslm("pull", "tiny/llama")
    hub.repos["tiny/llama"].commit({"README.md": b"# new\n", "tiny.Q8_0.gguf": tiny_gguf})
    fastslm("pull", "tiny/llama", "--no-convert")
    blob = next(settings.hub_cache.rglob("snapshots/*/*.gguf")).resolve()
    before = fastslm("df", "--json").data
    rows = {row["kind"]: row["bytes"] for row in before["rows"]}
    assert len(tiny_gguf) <= rows["hub cache"] < 1.5 * len(tiny_gguf)
    assert rows["converted"] > 0
    place = settings.downloads_dir / "twin"
    place.mkdir(parents=True)
    os.link(blob, place / "twin.gguf")
    assert fastslm("df", "--json").data["total_bytes"] == before["total_bytes"]
    text = fastslm("df")
    assert "tiny/llama" in text.out
    assert "free" in text.err


def test_gc_has_nothing_to_do_after_a_pull(fastslm: Run, hub: FakeHub) -> None:
    """What is in use is no garbage."""
    fastslm("pull", "tiny/llama")
    shown = fastslm("gc", "--yes")
    assert (shown.code, shown.out) == (0, "")
    assert fastslm("gc", "--json").data == {"items": [], "freed_bytes": 0}
    assert fastslm("run", "tiny/llama", "hello", "-n", "2").code == 0


def test_gc_removes_what_nobody_needs(fastslm: Run, hub: FakeHub, settings: Settings) -> None:
    """Blobs without a snapshot, conversions without a line, leftovers of dead processes; each with its reason."""
    folder = Path(fastslm("pull", "tiny/llama").out.strip())
    repo = next(settings.hub_cache.glob("models--*"))
    stray = repo / "blobs" / ("1" * 64)
    stray.write_bytes(b"x" * 1000)
    unknown = settings.models_dir / "someone" / "abc-int4"
    unknown.mkdir(parents=True)
    (unknown / "fastslm.json").write_text("{}")
    dead = folder.parent / f".gone.{DEAD}.tmp"
    dead.mkdir()
    (dead / "model.onnx.data").write_bytes(b"x" * 500)
    text = settings.home / f".registry.json.{DEAD}.tmp"
    text.write_text("{}")
    link = repo / ".fastslm" / "abc.link"
    link.symlink_to("nowhere")
    for path in (stray, unknown / "fastslm.json", link):
        age(path)
    asked = fastslm("gc")
    assert asked.code == 0
    assert stray.exists(), "nobody agreed"
    assert len(asked.out.splitlines()) == 5
    assert "--yes" in asked.err
    done = fastslm("gc", "--yes", "--json")
    assert all(item["removed"] for item in done.data["items"])
    assert done.data["freed_bytes"] >= 1500
    assert not any(path.exists() or path.is_symlink() for path in (stray, unknown, unknown.parent, dead, text, link))
    assert fastslm("verify").code == 0


def test_gc_asks_at_a_keyboard(fastslm: Run, hub: FakeHub, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A no keeps everything, a yes removes it."""
    fastslm("pull", "tiny/llama")
    stray = next(settings.hub_cache.glob("models--*")) / "blobs" / ("1" * 64)
    stray.write_bytes(b"x")
    age(stray)
    for answer, exists in (("n\n", True), ("y\n", False)):
        keyboard = io.StringIO(answer)
        monkeypatch.setattr(keyboard, "isatty", lambda: True)
        monkeypatch.setattr(sys, "stdin", keyboard)
        assert fastslm("gc").code == 0
        assert stray.exists() == exists


def test_what_is_young_or_alive_is_kept(fastslm: Run, hub: FakeHub, settings: Settings) -> None:
    """Another process may have put it there a moment ago."""
    folder = Path(fastslm("pull", "tiny/llama").out.strip())
    stray = next(settings.hub_cache.glob("models--*")) / "blobs" / ("1" * 64)
    stray.write_bytes(b"x")
    mine = folder.parent / f".new.{os.getpid()}.tmp"
    mine.mkdir()
    assert fastslm("gc", "--yes").code == 0
    assert stray.exists()
    assert mine.exists()


def test_a_repository_that_is_being_changed_is_left_alone(fastslm: Run, hub: FakeHub, settings: Settings) -> None:
    """Its lock is held."""
    from filelock import FileLock

    from fastslm.hub.layout import RepoLayout

    fastslm("pull", "tiny/llama")
    layout = RepoLayout(settings.hub_cache, "tiny/llama")
    stray = layout.blob("1" * 64)
    stray.write_bytes(b"x")
    age(stray)
    with FileLock(layout.own_lock):
        assert fastslm("gc", "--yes").code == 0
        assert stray.exists()
    fastslm("gc", "--yes")
    assert not stray.exists()


def test_a_partial_download_is_listed_and_kept(fastslm: Run, hub: FakeHub, settings: Settings, impatient: None) -> None:
    """It goes with `--partials` only; before that a pull goes on from it."""
    data = os.urandom(3 << 20)
    interrupted_pull(fastslm, hub, data)
    listed = fastslm("list", "--json").data[0]
    assert 0 < listed["partial_bytes"] <= len(data) + 8192
    assert " % of " in fastslm("list").out
    assert "partial" in fastslm("df").out
    for path in settings.hub_cache.rglob(".fastslm/*"):
        age(path)
    assert fastslm("gc", "--yes").out == ""
    assert list(settings.hub_cache.rglob("*.partial"))
    shown = fastslm("gc", "--partials", "--yes")
    assert "unfinished download of `tiny/half`" in shown.out
    assert not list(settings.hub_cache.rglob("*.partial"))
    assert not list(settings.hub_cache.rglob("*.journal"))
    assert fastslm("list", "--json").data[0]["partial_bytes"] == 0


def test_partials_of_a_forgotten_model_are_mentioned(
    fastslm: Run, hub: FakeHub, settings: Settings, impatient: None
) -> None:
    """Otherwise nobody would know what takes the room."""
    interrupted_pull(fastslm, hub, os.urandom(3 << 20))
    fastslm("rm", "tiny/half")
    assert "tiny/half" in fastslm("list").err


def test_a_damaged_registry_does_not_make_every_model_garbage(fastslm: Run, hub: FakeHub, settings: Settings) -> None:
    """While it lies aside it may be mended, and it names them all."""
    folder = Path(fastslm("pull", "tiny/llama").out.strip())
    age(folder / "fastslm.json")
    settings.registry_file.write_text("{")
    assert fastslm("list").code == 0
    assert fastslm("gc", "--yes").code == 0
    assert folder.is_dir()
    next(settings.home.glob("registry.json.damaged-*")).unlink()
    assert fastslm("gc", "--yes").code == 0
    assert not folder.exists()


def test_a_cache_behind_a_link_is_no_garbage(
    fastslm: Run, hub: FakeHub, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Homes move to other disks; the same files have then two spellings."""
    fastslm("pull", "tiny/llama")
    for path in [*settings.hub_cache.rglob("blobs/*"), *settings.models_dir.rglob("fastslm.json")]:
        age(path)
    for name, place in (("HF_HUB_CACHE", settings.hub_cache), ("FASTSLM_HOME", settings.home)):
        (tmp_path / name).symlink_to(place)
        monkeypatch.setenv(name, str(tmp_path / name))
    assert fastslm("gc", "--yes", "--json").data["items"] == []


def test_what_a_killed_repair_left_is_removed(fastslm: Run, hub: FakeHub, settings: Settings) -> None:
    """The damaged blob that was set aside."""
    fastslm("pull", "tiny/llama")
    aside = next(settings.hub_cache.glob("models--*")) / "blobs" / ("1" * 64 + ".damaged")
    aside.write_bytes(b"x")
    age(aside)
    fastslm("gc", "--yes")
    assert not aside.exists()


def test_a_conversion_that_nobody_waits_for_is_garbage(
    fastslm: Run, tiny_file: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was interrupted is kept as unfinished downloads are; without an entry in the list it goes."""
    from fastslm.upkeep import garbage

    monkeypatch.setattr(garbage, "YOUNG_S", -1.0)
    target = folder_path(settings.models_dir, tiny_file, "abc", "int8")

    def interrupted() -> None:
        with staged(target, {"name": tiny_file}):
            raise Cancelled

    with pytest.raises(Cancelled):
        interrupted()
    registry = Registry(settings.registry_file)
    registry.fail(registry.begin(tiny_file, "int8"), stage="conversion", cause="cancelled")
    assert not [each for each in fastslm("gc", "--yes", "--json").data["items"] if each["path"].endswith(".staging")]
    registry.remove(tiny_file, "int8")
    fastslm("gc", "--yes")
    assert not stagings(settings.models_dir)
