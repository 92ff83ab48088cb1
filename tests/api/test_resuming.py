"""A conversion that was killed goes on: what it had finished is used, what was torn is made again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from fastslm import api
from fastslm.api import ahead
from fastslm.config import Settings
from fastslm.store.registry import Registry
from fastslm.store.staging import stagings
from support.hub_server import FakeHub
from support.sharded_model import REPO, sharded_files

WISH = {"precision": "int4", "quality": "never"}
FINISHED = 7

KILLED = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path
from fastslm import api
from fastslm.api import ahead
from fastslm.config import Settings
from fastslm.store.ledger import Ledger
from fastslm.api.ahead import Ahead
name, endpoint, when, keeps = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4] == "keeps"
ahead.WORTH_BYTES = 0
noted, note, let_go = 0, Ledger.note, Ahead._let_go

def counted(self, finished):
    global noted
    note(self, finished)
    noted += 1
    if when == "tensors" and noted == 7:
        os.kill(os.getpid(), signal.SIGKILL)

def dropped(self, files):
    kept = let_go(self, files)
    if when == "drop" and files:
        os.kill(os.getpid(), signal.SIGKILL)
    return kept

Ledger.note, Ahead._let_go = counted, dropped
settings = replace(Settings.from_environment(), endpoint=endpoint)
api.pull(name, precision="int4", quality="never", discard_source=not keeps, settings=settings)
"""


def killed(name: str, endpoint: str = "http://127.0.0.1:9", when: str = "tensors", source: str = "keeps") -> None:
    """A pull in another process, which ends by SIGKILL."""
    command = [sys.executable, "-c", KILLED, name, endpoint, when, source]
    ended = subprocess.run(command, env=os.environ.copy(), capture_output=True, timeout=120, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()


def content(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in ("model.onnx", "model.onnx.data", "tokenizer.json")}


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """The model as a folder of one's own."""
    for name, data in sharded_files(tmp_path / "plain", 1).items():
        (tmp_path / "plain" / name).write_bytes(data)
    return tmp_path / "plain"


@pytest.fixture
def ordinary(settings: Settings, plain: Path, tmp_path: Path) -> dict[str, bytes]:
    """What an undisturbed conversion makes."""
    apart = replace(settings, home=tmp_path / "apart")
    return content(api.convert(str(plain), output=tmp_path / "out", settings=apart, **WISH))  # type: ignore[arg-type]


def visible(settings: Settings) -> list[Path]:
    return list(settings.models_dir.glob("[!.]*/[!.]*"))


def test_finished_tensors_are_used(settings: Settings, plain: Path, ordinary: dict[str, bytes]) -> None:
    """No half model is seen, the second run says how many were finished, and the bytes are the same."""
    killed(str(plain))
    assert not visible(settings)
    told: list[str] = []
    pulled = api.pull(str(plain), settings=settings, notice=told.append, **WISH)  # type: ignore[arg-type]
    assert pulled.reused_tensors >= FINISHED
    assert told == [f"{pulled.reused_tensors} of {pulled.tensors} tensors had been converted before"]
    assert content(pulled.path) == ordinary
    assert not stagings(settings.models_dir)


@pytest.mark.parametrize("damage", ["torn line", "lost bytes", "no journal", "another release"])
def test_what_a_crash_took_is_made_again(
    settings: Settings, plain: Path, ordinary: dict[str, bytes], damage: str
) -> None:
    """The journal and the bytes are compared with each other, and neither is believed alone."""
    killed(str(plain))
    (staging,) = stagings(settings.models_dir)
    ledger, weights = staging / "ledger", staging / "model" / "model.onnx.data"
    first, *lines = ledger.read_bytes().splitlines(keepends=True)
    if damage == "torn line":
        ledger.write_bytes(first + b"".join(lines[:3]) + lines[3][:20])
    elif damage == "lost bytes":
        weights.write_bytes(bytes(len(weights.read_bytes())))
    elif damage == "no journal":
        ledger.unlink()
    else:
        ledger.write_bytes(json.dumps({**json.loads(first), "fastslm": "0"}).encode() + b"\n" + b"".join(lines))
    pulled = api.pull(str(plain), settings=settings, **WISH)  # type: ignore[arg-type]
    assert content(pulled.path) == ordinary
    assert pulled.reused_tensors < FINISHED


def test_a_pull_that_was_killed_goes_on(settings: Settings, tmp_path: Path, ordinary: dict[str, bytes]) -> None:
    """Also when its files were still arriving."""
    with FakeHub() as hub:
        hub.add_repo(REPO, sharded_files(tmp_path / "files"))
        killed(REPO, hub.endpoint)
        assert not visible(settings)
        assert Registry(settings.registry_file).list()[0].resumable
        pulled = api.pull(REPO, settings=replace(settings, endpoint=hub.endpoint), **WISH)  # type: ignore[arg-type]
    assert content(pulled.path) == ordinary


def test_a_file_that_was_dropped_is_not_fetched_again(
    settings: Settings, tmp_path: Path, ordinary: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tensors are finished, and that is all that is wanted of it."""
    monkeypatch.setattr(ahead, "WORTH_BYTES", 0)
    with FakeHub() as hub:
        hub.add_repo(REPO, sharded_files(tmp_path / "files"))
        killed(REPO, hub.endpoint, "drop", "drops")
        hub.clear()
        here = replace(settings, endpoint=hub.endpoint)
        pulled = api.pull(REPO, settings=here, discard_source=True, **WISH)  # type: ignore[arg-type]
        first = next(
            f for path, f in next(iter(hub.repos[REPO].commits.values())).items() if path.startswith("model-00001")
        )
        assert not [each for each in hub.log("cdn", "GET") if first.sha256 in each.path]
    assert content(pulled.path) == ordinary
    assert pulled.reused_tensors > 0
