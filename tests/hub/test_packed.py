"""A packed model at an address: unpacked while it arrives, whole or not at all, found again without the network."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import pytest
import zstandard

from fastslm.config import Settings
from fastslm.errors import Cancelled, FileMissing, FormatError
from fastslm.hub import Fetched, fetch_model, parse
from fastslm.hub.disk.keepsakes import keepsakes
from fastslm.hub.forget import forget
from fastslm.progress import ProgressCallback, silent
from support.file_server import FileServer
from support.tiny_files import write_llama_gguf


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    write_llama_gguf(path)
    return path.read_bytes()


@pytest.fixture
def here(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", hub_cache=tmp_path / "cache", connections=4)


def tarred(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def packed(kind: str, files: dict[str, bytes]) -> bytes:
    [first, *_] = files.values()
    match kind:
        case "gguf.gz":
            return gzip.compress(first)
        case "gguf.zst":
            return zstandard.compress(first)
        case "tar":
            return tarred(files)
        case "tar.gz" | "tgz":
            return gzip.compress(tarred(files))
        case "tar.zst":
            return zstandard.compress(tarred(files))
    return zipped(files)


def pull(server: FileServer, settings: Settings, progress: ProgressCallback = silent) -> Fetched:
    return fetch_model(parse(server.url), settings, progress=progress)


KINDS = ["gguf.gz", "gguf.zst", "tar", "tar.gz", "tgz", "tar.zst", "zip", "whl"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_packed_model_is_pulled_ready_to_open(here: Settings, model: bytes, kind: str) -> None:
    """Nothing of the archive stays, a second pull asks with HEAD only, and nobody is needed any more."""
    data = packed(kind, {"sub/tiny.gguf": model, "README.md": b"# tiny"})
    with FileServer(data, name=f"tiny.{kind}") as server:
        fetched = pull(server, here)
        assert fetched.path.name == "tiny.gguf"
        assert fetched.path.read_bytes() == model
        assert fetched.commit == hashlib.sha256(data).hexdigest()
        assert fetched.wire_bytes >= len(data)
        [folder] = here.downloads_dir.iterdir()
        assert sorted(path.name for path in folder.iterdir()) == [".lock", "source.json", "unpacked"]
        server.requests.clear()
        again = pull(server, here)
        assert (again.path, again.commit, again.wire_bytes) == (fetched.path, fetched.commit, 0)
        assert server.requests == [("HEAD", "")]
        off = fetch_model(parse(server.url), dataclasses.replace(here, offline=True))
        assert off.path == fetched.path


@pytest.mark.parametrize("top", ["", "org--name/", "a/b/"])
def test_a_folder_of_safetensors_is_opened_wherever_it_lies(here: Settings, top: str) -> None:
    """People pack folders from inside and from outside."""
    files = {f"{top}config.json": b"{}", f"{top}model.safetensors": b"x", "LICENSE": b"free"}
    with FileServer(packed("tar.gz", files), name="m.tar.gz") as server:
        fetched = pull(server, here)
        assert (fetched.path / "model.safetensors").read_bytes() == b"x"
        assert sorted(fetched.files) == sorted(files)


def test_a_changed_archive_takes_the_place_of_the_old_one(here: Settings, model: bytes) -> None:
    """As a whole: what is not in the new one goes."""
    with FileServer(packed("tar", {"a.gguf": model, "old": b"1"}), name="m.tar") as server:
        pull(server, here)
        server.data, server.etag = packed("tar", {"b.gguf": model, "new": b"2"}), '"v2"'
        fetched = pull(server, here)
        assert sorted(path.name for path in fetched.path.parent.iterdir()) == ["b.gguf", "new"]


def test_a_damaged_or_hostile_archive_leaves_the_old_model(here: Settings, model: bytes) -> None:
    """The error names what is wrong, and nothing else stays."""
    with FileServer(packed("zip", {"a.gguf": model}), name="m.zip") as server:
        good = pull(server, here)
        wrong = bytearray(server.data)
        wrong[len(wrong) // 2] ^= 1
        for number, data in enumerate((bytes(wrong), zipped({"../a.gguf": model}), server.data[:-30])):
            server.data, server.etag = data, f'"bad{number}"'
            with pytest.raises(FormatError):
                pull(server, here)
            assert good.path.read_bytes() == model
            names = sorted(path.name for path in good.path.parent.parent.iterdir())
            assert names == [".lock", "source.json", "unpacked"]


def test_an_archive_without_one_model_is_refused_and_not_kept(here: Settings, model: bytes) -> None:
    """None, or several: what should be opened?"""
    with FileServer(packed("tar", {"README.md": b"x"}), name="m.tar") as server:
        with pytest.raises(FileMissing, match="holds no model"):
            pull(server, here)
        server.data, server.etag = packed("tar", {"a.gguf": model, "b.gguf": model}), '"v2"'
        with pytest.raises(FormatError, match="holds 2 models"):
            pull(server, here)
        [folder] = here.downloads_dir.iterdir()
        assert [path.name for path in folder.iterdir()] == [".lock"]


def test_every_file_of_an_archive_can_be_verified_and_goes_with_it(here: Settings, model: bytes) -> None:
    """Each has its hash; `rm` takes all."""
    with FileServer(packed("tar.gz", {"a/b/c.gguf": model, "a/LICENSE": b"free"}), name="m.tar.gz") as server:
        ref = parse(server.url)
        fetched = pull(server, here)
        for kept in keepsakes(here):
            assert kept.sha256 == hashlib.sha256(kept.file.read_bytes()).hexdigest()
        assert [kept.file.name for kept in keepsakes(here)] == ["LICENSE", "c.gguf"]
        assert forget(ref, fetched.path, fetched.commit, here) > len(model)
        assert list(here.downloads_dir.iterdir()) == []


def test_an_interrupted_pull_goes_on_and_unpacks_from_the_disk(here: Settings, model: bytes) -> None:
    """Ctrl-C in the middle: the second call fetches the rest only."""
    data = tarred({"a.gguf": model, "filler": bytes(range(256)) * 40_000})
    with FileServer(data, name="m.tar") as server:

        def stop(seen: object) -> None:
            if getattr(seen, "stage", "") == "downloading" and getattr(seen, "done", 0) > 0:
                raise KeyboardInterrupt

        with pytest.raises(Cancelled):
            pull(server, dataclasses.replace(here, limit_rate=4 << 20), stop)
        [folder] = here.downloads_dir.iterdir()
        assert not (folder / "unpacked").exists()
        assert not (folder / ".unpacking").exists()
        fetched = pull(server, here)
        assert fetched.path.read_bytes() == model
        assert 0 < fetched.resumed_bytes < len(data)
        assert fetched.wire_bytes < len(data)
