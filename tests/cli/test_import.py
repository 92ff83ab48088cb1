"""Models come in from elsewhere under a name that runs, and leave in one file that is believed in nothing."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.conftest import Run
from fastslm.config import Settings
from fastslm.hub.disk.foreign import MODEL_LAYER
from hub.disk.test_foreign import ollama
from support.hub_server import FakeHub

ONE_X = {"size": 1, "sha256": hashlib.sha256(b"x").hexdigest()}


def test_an_imported_file_runs_by_its_name(fastslm: Run, tiny_file: str, settings: Settings) -> None:
    """It takes no second room, and goes again with `rm`."""
    shown = fastslm("import", tiny_file, "--name", "my/tiny:v1")
    assert shown.code == 0, shown.err
    assert shown.out == "my/tiny:v1\n"
    copy = next(settings.downloads_dir.rglob("tiny.gguf"))
    assert "link" in shown.err
    Path(tiny_file).unlink()
    assert fastslm("run", "my/tiny:v1", "hello", "-n", "2").code == 0
    assert fastslm("show", "my/tiny:v1", "--json").data["state"] == "ready"
    assert fastslm("plan", "my/tiny:v1").code == 0
    assert fastslm("verify", "my/tiny:v1").code == 0
    assert fastslm("gc", "--yes").out == ""
    assert fastslm("rm", "my/tiny:v1").code == 0
    assert not copy.exists()
    assert fastslm("run", "my/tiny:v1", "hello").code in (2, 3)


@pytest.mark.parametrize("ending", ["gguf.gz", "tar.gz", "zip"])
def test_an_archive_is_imported_and_runs(fastslm: Run, tiny_gguf: bytes, tmp_path: Path, ending: str) -> None:
    """Every file of it is checked by its hash; nothing of the unpacking is left."""
    archive = tmp_path / f"tiny.{ending}"
    if ending == "gguf.gz":
        archive.write_bytes(gzip.compress(tiny_gguf))
    elif ending == "zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
            packed.writestr("sub/tiny.gguf", tiny_gguf)
    else:
        (tmp_path / "tiny.gguf").write_bytes(tiny_gguf)
        with tarfile.open(archive, "w:gz") as packed_tar:
            packed_tar.add(tmp_path / "tiny.gguf", "tiny.gguf")
    shown = fastslm("import", str(archive))
    assert (shown.code, shown.out) == (0, "tiny\n"), shown.err
    assert fastslm("run", "tiny", "hello", "-n", "2").code == 0
    assert fastslm("verify", "--json").data["files"] > 0
    downloads = tmp_path / "fastslm-home" / "downloads"
    assert [path.name for path in downloads.iterdir() if path.name.startswith(".")] == []


def test_an_ollama_store_is_imported_with_its_hashes(fastslm: Run, tiny_gguf: bytes, tmp_path: Path) -> None:
    """All models of it; what cannot be converted is told and passed over, and damage is found later."""
    ollama(tmp_path / "ollama", "library/tiny/1b", {MODEL_LAYER: tiny_gguf})
    ollama(tmp_path / "ollama", "library/broken/1b", {MODEL_LAYER: b"GGUF but not really"})
    shown = fastslm("import", str(tmp_path / "ollama"), "--json")
    assert shown.code == 0, shown.err
    assert [each["name"] for each in shown.data] == ["tiny:1b"]
    assert "broken:1b was not imported" in shown.err
    assert fastslm("verify", "--json").data["files"] == 1
    blob = next(path for path in (tmp_path / "ollama" / "blobs").iterdir() if path.stat().st_size > 100)
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    place = next((tmp_path / "fastslm-home" / "downloads").rglob("*.gguf"))
    place.write_bytes(data)
    damaged = fastslm("verify", "--repair")
    assert damaged.code == 6
    assert "no address" in damaged.out


def test_one_model_of_a_store(fastslm: Run, tiny_gguf: bytes, tmp_path: Path) -> None:
    """By its name; a name that is not there gives the nearest."""
    for name in ("small", "large"):
        path = tmp_path / "models" / "org" / name / f"{name}.gguf"
        path.parent.mkdir(parents=True)
        path.write_bytes(tiny_gguf)
    assert fastslm("import", str(tmp_path), "--only", "small").out == "small\n"
    assert [each["name"] for each in fastslm("list", "--json").data] == ["small"]
    assert fastslm("import", str(tmp_path), "--only", "medium").code == 3
    assert fastslm("import", str(tmp_path), "--name", "both").code == 2


@pytest.mark.parametrize("name", ["demo", "../up", "/abs", "a//b", "https://x/y", "", "x.gguf", "a b"])
def test_names_that_mean_something_else_are_refused(fastslm: Run, tiny_file: str, name: str) -> None:
    """Nothing is imported."""
    assert fastslm("import", tiny_file, "--name", name).code == 2
    assert fastslm("list", "--json").data == []


def test_a_name_is_taken_once(fastslm: Run, tiny_file: str) -> None:
    """The first import stays as it is."""
    assert fastslm("import", tiny_file).out == "tiny\n"
    again = fastslm("import", tiny_file)
    assert again.code == 2
    assert "imported already" in again.err


def test_a_damaged_file_is_not_imported(fastslm: Run, tiny_file: str, settings: Settings) -> None:
    """Nothing of it is kept."""
    Path(tiny_file).write_bytes(Path(tiny_file).read_bytes()[:5000])
    assert fastslm("import", tiny_file).code == 6
    assert list(settings.downloads_dir.iterdir()) == []
    assert fastslm("list", "--json").data == []


def test_a_bundle_runs_on_a_machine_without_a_network(
    fastslm: Run, hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Licence and README travel with it; the same answer comes out."""
    words = ("run", "tiny/llama", "hello", "-n", "6", "--temperature", "0", "-q")
    answer = fastslm(*words).out
    bundle = tmp_path / "tiny.fastslm"
    assert fastslm("bundle", "tiny/llama", "-o", str(bundle), "--json").data["file"] == str(bundle)
    assert fastslm("bundle", "tiny/llama", "-o", str(bundle)).code == 2
    hub.close_for_good()
    monkeypatch.setenv("FASTSLM_HOME", str(tmp_path / "other"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "other-hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    shown = fastslm("import", str(bundle))
    assert shown.code == 0, shown.err
    assert shown.out == "tiny/llama\n"
    assert fastslm(*words).out == answer
    folder = Path(fastslm("show", "tiny/llama", "--json").data["folder"])
    assert (folder / "README.md").read_text() == "# tiny\n"
    assert fastslm("verify", "--json").data["files"] == 4
    assert fastslm("import", str(bundle), "--name", "twin:1").code == 0
    assert fastslm("run", "twin:1", "hello", "-n", "2").code == 0
    assert fastslm("rm", "tiny/llama").code == 0
    assert fastslm("run", "twin:1", "hello", "-n", "2").code == 0


def test_a_damaged_model_is_not_bundled(fastslm: Run, tiny_file: str, tmp_path: Path) -> None:
    """The other machine would have to find out."""
    folder = Path(fastslm("pull", tiny_file).out.strip())
    weights = folder / "model.onnx.data"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    shown = fastslm("bundle", tiny_file, "-o", str(tmp_path / "x.fastslm"))
    assert shown.code == 6
    assert not (tmp_path / "x.fastslm").exists()
    assert fastslm("bundle", "tiny/unknown").code == 3


def rewrite(source: Path, target: Path, change: Callable[[dict[str, bytes], dict[str, Any]], None]) -> None:
    """A bundle with other members or another list."""
    with zipfile.ZipFile(source) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    listed = json.loads(members.pop("bundle.json"))
    change(members, listed)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
        archive.writestr("bundle.json", json.dumps(listed))


def flipped(members: dict[str, bytes], listed: dict[str, Any]) -> None:
    data = members["model/model.onnx.data"]
    members["model/model.onnx.data"] = data[:-1] + bytes([data[-1] ^ 1])


def unannounced(members: dict[str, bytes], listed: dict[str, Any]) -> None:
    members["model/extra.txt"] = b"x"


def escaping(members: dict[str, bytes], listed: dict[str, Any]) -> None:
    members["model/../../escaped"] = b"x"
    listed["files"]["../../escaped"] = {
        "size": 1,
        "sha256": "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881",
    }


def foreign(members: dict[str, bytes], listed: dict[str, Any]) -> None:
    members["model/run.sh"] = b"x"
    listed["files"]["run.sh"] = {
        "size": 1,
        "sha256": "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881",
    }


def missing(members: dict[str, bytes], listed: dict[str, Any]) -> None:
    del members["model/tokenizer.json"]


def newer(members: dict[str, bytes], listed: dict[str, Any]) -> None:
    listed["version"] = 2


def other_precision(members: dict[str, bytes], listed: dict[str, Any]) -> None:
    listed["precision"] = "int4"


def nameless(members: dict[str, bytes], listed: dict[str, Any]) -> None:
    listed["name"] = None


@pytest.mark.parametrize("change", [flipped, unannounced, escaping, foreign, missing, newer, other_precision, nameless])
def test_a_hostile_bundle_is_refused(
    fastslm: Run, tiny_file: str, tmp_path: Path, settings: Settings, change: Callable[..., None]
) -> None:
    """Exit code 6, and the store is as before."""
    fastslm("pull", tiny_file)
    assert fastslm("bundle", tiny_file, "-o", str(tmp_path / "good.fastslm")).code == 0
    shutil.rmtree(settings.home)
    rewrite(tmp_path / "good.fastslm", tmp_path / "bad.fastslm", change)
    shown = fastslm("import", str(tmp_path / "bad.fastslm"))
    assert shown.code == 6, shown.err
    assert not (tmp_path / "escaped").exists()
    assert [path for path in settings.models_dir.rglob("*") if path.is_file()] == []
    assert fastslm("list", "--json").data == []


def test_a_compressed_bundle_is_refused(fastslm: Run, tmp_path: Path) -> None:
    """Where nothing is compressed, nothing can be a bomb."""
    path = tmp_path / "bomb.fastslm"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/model.onnx", bytes(10_000_000))
        archive.writestr("bundle.json", "{}")
    shown = fastslm("import", str(path))
    assert shown.code == 6
    assert "compressed" in shown.err


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"not a zip at all" * 100])
def test_what_is_no_archive_is_refused(fastslm: Run, tmp_path: Path, data: bytes) -> None:
    """One sentence that names the file."""
    (tmp_path / "x.fastslm").write_bytes(data)
    shown = fastslm("import", str(tmp_path / "x.fastslm"))
    assert shown.code == 6
    assert "x.fastslm" in shown.err


def test_a_second_name_costs_nothing_and_keeps_the_model(fastslm: Run, hub: FakeHub, tiny_file: str) -> None:
    """Each name goes for itself; the files go with the last. A name that the catalogue knows may be taken."""
    folder = Path(fastslm("pull", tiny_file).out.strip())
    assert fastslm("cp", tiny_file, "llama3.2:1b").out == "llama3.2:1b\n"
    assert fastslm("cp", tiny_file, "llama3.2:1b").code == 2
    assert fastslm("cp", "tiny/nothing", "other").code == 3
    assert fastslm("run", "llama3.2:1b", "hello", "-n", "2").code == 0
    assert fastslm("rm", tiny_file).code == 0
    assert folder.exists()
    assert fastslm("run", "llama3.2:1b", "hello", "-n", "2").code == 0
    assert fastslm("gc", "--yes").out == ""
    assert fastslm("rm", "llama3.2:1b").code == 0
    assert not folder.exists()
    assert Path(tiny_file).exists()
