"""The one door of the hub: each kind of name finds its way, and Ctrl-C means the same everywhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import fastslm
from fastslm.config import Settings
from fastslm.errors import Cancelled, FileMissing
from fastslm.hub import fetch_model, parse, plan_model
from fastslm.progress import Progress
from support.hub_server import FakeHub


def test_local_files_and_folders_are_taken_as_they_are(tmp_path: Path, hub_settings: Settings) -> None:
    """Nothing is copied; a path that vanished meanwhile is an error."""
    model = tmp_path / "m.gguf"
    model.write_bytes(b"GGUF")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "config.json").write_text("{}")
    assert fetch_model(parse(str(model)), hub_settings).files == ("m.gguf",)
    found = fetch_model(parse(str(tmp_path / "folder")), hub_settings)
    assert (found.path, found.files, found.commit) == (tmp_path / "folder", ("config.json",), "")
    ref = parse(str(model))
    model.unlink()
    with pytest.raises(FileMissing, match="not there any more"):
        fetch_model(ref, hub_settings)


def test_one_file_of_a_repository(hub: FakeHub, hub_settings: Settings) -> None:
    """A pasted address of a GGUF on the hub fetches that file into the shared cache, with its small companions."""
    files = {"README.md": b"#", "tiny-Q4_0.gguf": b"4", "tiny-Q8_0.gguf": b"8"}
    hub.add_repo("org/tiny", files)
    ref = parse(f"{hub.endpoint}/org/tiny/resolve/main/tiny-Q8_0.gguf?download=true", endpoint=hub.endpoint)
    fetched = fetch_model(ref, hub_settings)
    assert fetched.files == ("README.md", "tiny-Q8_0.gguf")
    assert fetched.path.is_relative_to(hub_settings.hub_cache)
    assert fetched.path.read_bytes() == b"8"
    other = fetch_model(parse("org/tiny"), hub_settings)
    assert (other.files, other.path.read_bytes()) == (("README.md", "tiny-Q4_0.gguf"), b"4")


def test_a_plan_changes_nothing(hub: FakeHub, hub_settings: Settings, model_files: dict[str, bytes]) -> None:
    """`fastslm plan` leaves no trace on the disk."""
    hub.add_repo("org/tiny", model_files)
    assert plan_model(parse("org/tiny"), hub_settings).total_bytes == sum(map(len, model_files.values()))
    assert not hub_settings.hub_cache.exists()


@pytest.mark.parametrize("stage", ["resolving", "downloading"])
def test_ctrl_c_means_cancelled(
    hub: FakeHub, hub_settings: Settings, model_files: dict[str, bytes], stage: str
) -> None:
    """At whatever moment it is pressed."""
    hub.add_repo("org/tiny", model_files)

    def interrupt(progress: Progress) -> None:
        if progress.stage == stage:
            raise KeyboardInterrupt

    with pytest.raises(Cancelled):
        fetch_model(parse("org/tiny"), hub_settings, progress=interrupt)


def test_the_door_opens_quickly() -> None:
    """No heavy library is loaded before something is fetched."""
    script = (
        "import sys, fastslm.hub\n"
        "heavy = {'huggingface_hub', 'numpy', 'onnxruntime', 'numba', 'requests', 'filelock'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    folder = Path(fastslm.__file__).parent.parent
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60, cwd=folder)
