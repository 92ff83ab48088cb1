"""Run the official huggingface_hub client in a process of its own: it reads its environment when it is imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any


def run_official(script: str, *, endpoint: str, cache: Path, offline: bool = False, token: str = "") -> Any:
    """Run ``script`` with ``cache`` and ``endpoint`` in effect; what it assigns to ``result`` comes back (as JSON)."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    environ |= {"HF_ENDPOINT": endpoint, "HF_HUB_CACHE": str(cache), "HF_HOME": str(cache.parent / "hf-official")}
    environ |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    environ |= {"HF_HUB_OFFLINE": "1"} if offline else {}
    environ |= {"HF_TOKEN": token} if token else {}
    code = f"import json\n{textwrap.dedent(script)}\nprint('RESULT' + json.dumps(result))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode != 0:
        raise AssertionError(f"the official client failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.rpartition("RESULT")[2])


def tree_of(folder: Path) -> dict[str, tuple[str, str]]:
    """Everything below a folder: kind with mode, and link target or content, by relative path."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            found[path.relative_to(folder).as_posix()] = ("link", str(path.readlink()))
        elif path.is_file():
            mode = oct(path.stat().st_mode & 0o777)
            found[path.relative_to(folder).as_posix()] = (f"file {mode}", path.read_bytes().hex())
    return found


def assert_same_cache(ours: Path, theirs: Path) -> None:
    """Blobs, links, refs, listings and modes are equal; lock files and the tag for backup programs do not count."""
    trees = [
        {path: entry for path, entry in tree_of(folder).items() if path != "CACHEDIR.TAG" and path[:7] != ".locks/"}
        for folder in (ours, theirs)
    ]
    if not any("/trees/" in path for path in trees[1]):  # the older generation keeps no listings
        trees[0] = {path: entry for path, entry in trees[0].items() if "/trees/" not in path}
    assert trees[0] == trees[1]
