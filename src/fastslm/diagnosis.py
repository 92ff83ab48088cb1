"""What ``doctor`` looks at: processor, memory, libraries, folders, line. Each check is one function, one finding."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from shutil import disk_usage
from typing import Literal

from fastslm import machine
from fastslm.config import Settings
from fastslm.errors import FastSLMError

LIBRARIES = (
    "numpy",
    "numba",
    "onnxruntime",
    "onnx",
    "huggingface_hub",
    "tokenizers",
    "jinja2",
    "gguf",
    "zstandard",
)
LOW_DISK = 2_000_000_000

Status = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """One line of the report; ``facts`` holds the plain values behind ``text``."""

    name: str
    status: Status
    text: str
    facts: dict[str, object]


def examine(settings: Settings, *, online: bool = True) -> Iterator[Finding]:
    """Run all checks one after the other; a check that breaks is itself a finding."""
    checks: list[tuple[str, Callable[[Settings], Finding]]] = [
        ("python", _python),
        ("processor", _processor),
        ("memory", _memory),
        ("bandwidth", _bandwidth),
        ("libraries", _libraries),
        ("hub cache", lambda s: _folder("hub cache", s.hub_cache)),
        ("fastslm home", lambda s: _folder("fastslm home", s.home)),
    ]
    if online:
        checks.append(("hub", _hub))
    for name, check in checks:
        try:
            yield check(settings)
        except (FastSLMError, OSError, ImportError) as error:
            yield Finding(name, "error", str(error), {})


def _python(settings: Settings) -> Finding:
    version = sys.version.split()[0]
    from fastslm._native import __version__ as native

    return Finding("python", "ok", f"Python {version}, fastslm {native}", {"python": version, "fastslm": native})


def _processor(settings: Settings) -> Finding:
    from fastslm._native import cpu_info

    cores = machine.inspect_cores()
    features = cpu_info()["features"]
    names = [str(f) for f in features] if isinstance(features, list) else []
    quota = f", quota {cores.quota:g}" if cores.quota is not None else ""
    slow = f" ({cores.physical - cores.fast} of them slow)" if cores.fast < cores.physical else ""
    text = f"{cores.physical} cores{slow}, {cores.logical} threads{quota}; {' '.join(names)}"
    facts: dict[str, object] = {
        "physical_cores": cores.physical,
        "fast_cores": cores.fast,
        "logical_cores": cores.logical,
        "cpu_quota": cores.quota,
        "features": names,
        "generation_threads": _threads(settings, cores),
    }
    return Finding("processor", "ok", text, facts)


def _memory(settings: Settings) -> Finding:
    here = machine.inspect()
    text = f"{here.memory_bytes / 1e9:.1f} GB, {here.available_bytes / 1e9:.1f} GB available"
    facts: dict[str, object] = {"total_bytes": here.memory_bytes, "available_bytes": here.available_bytes}
    return Finding("memory", "ok" if here.available_bytes > 1e9 else "warning", text, facts)


def _bandwidth(settings: Settings) -> Finding:
    from fastslm.store.machine_file import measure_bandwidth

    here = machine.inspect()
    threads = _threads(settings, here.cores)
    rate = measure_bandwidth(threads, here.available_bytes)
    if rate is None:
        return Finding("bandwidth", "warning", "not measured: too little memory is available", {})
    text = f"memory is read at {rate / 1e9:.1f} GB/s by {threads} threads"
    return Finding("bandwidth", "ok", text, {"read_bytes_per_s": rate, "threads": threads})


def _threads(settings: Settings, cores: machine.Cores) -> int:
    """The number that generation takes."""
    from fastslm.store.machine_file import MachineFile
    from fastslm.store.threads import usual_threads

    return settings.threads or usual_threads(MachineFile(settings.machine_file), cores)


def _libraries(settings: Settings) -> Finding:
    found: dict[str, object] = {}
    missing: list[str] = []
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return Finding("libraries", "error", f"not installed: {', '.join(missing)}", found)
    return Finding("libraries", "ok", ", ".join(f"{name} {version}" for name, version in found.items()), found)


def _folder(name: str, path: Path) -> Finding:
    """Whether files can be made there, and how much room there is."""
    facts: dict[str, object] = {"path": str(path)}
    existing = next(p for p in (path, *path.parents) if p.exists())
    try:
        with tempfile.NamedTemporaryFile(dir=existing):
            pass
    except OSError as error:
        return Finding(name, "error", f"`{path}` cannot be written: {error.strerror}", facts)
    free = disk_usage(existing).free
    facts["free_bytes"] = free
    status: Status = "ok" if free > LOW_DISK else "warning"
    return Finding(name, status, f"{path}, {free / 1e9:.1f} GB free", facts)


def _hub(settings: Settings) -> Finding:
    from fastslm.hub.reach import reachable

    facts: dict[str, object] = {"endpoint": settings.endpoint, "token": settings.token is not None}
    if settings.offline:
        return Finding("hub", "warning", "the network is switched off by `HF_HUB_OFFLINE`", facts)
    try:
        seconds = reachable(settings)
    except FastSLMError as error:
        return Finding("hub", "warning", str(error), facts)
    token = "with a token" if settings.token else "without a token"
    return Finding("hub", "ok", f"{settings.endpoint} answered in {seconds:.2f} s, {token}", facts)
