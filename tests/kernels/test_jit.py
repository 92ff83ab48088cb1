"""Kernels must work wherever they are installed, and remember their machine code where that is allowed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fastslm.kernels

SOURCE = "from fastslm.kernels.jit import compiled\n\n\n@compiled\ndef twice(x):\n    return 2 * x\n"
USE = "import lonely; assert lonely.twice(21) == 42; print(type(lonely.twice._cache).__name__)"


def run(folder: Path, home: Path):
    src = str(Path(fastslm.kernels.__file__).parents[2])
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "LD_LIBRARY_PATH"}}
    env = {**kept, "HOME": str(home), "PYTHONPATH": os.pathsep.join([str(folder), src])}
    env |= {"PYTHONDONTWRITEBYTECODE": "1", "XDG_CACHE_HOME": str(home / ".cache")}
    done = subprocess.run([sys.executable, "-c", USE], env=env, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def package(tmp_path):
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "lonely.py").write_text(SOURCE)
    return folder


def close(path: Path) -> None:
    """A file where a folder is wanted: refused even to root, who may write anywhere."""
    if path.is_dir():
        shutil.rmtree(path)
    path.write_text("")


def test_machine_code_is_kept_beside_the_package_when_that_is_writable(package, tmp_path):
    assert run(package, tmp_path / "home") == "FunctionCache"
    assert list((package / "__pycache__").glob("lonely.twice*.nbc"))


def test_a_read_only_installation_uses_the_user_s_cache(package, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    close(package / "__pycache__")
    assert run(package, home) == "FunctionCache"
    assert list(home.rglob("lonely.twice*.nbc"))


def test_with_no_writable_folder_at_all_kernels_still_run(package, tmp_path):
    close(package / "__pycache__")
    home = tmp_path / "home"
    close(home)
    assert run(package, home) == "NullCache"
