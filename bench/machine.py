"""What a figure was measured on: processor, memory, load, versions."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def _first(path: str, pattern: str) -> str:
    try:
        found = re.search(pattern, Path(path).read_text(encoding="utf-8"))
    except OSError:
        return ""
    return found.group(1).strip() if found else ""


def _tool(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except OSError:
        return ""
    return done.stdout.partition("\n")[0].strip()


def _package(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _features() -> list[str]:
    """What decides which matrix kernels run; tools differ in what they use of it."""
    flags = _first("/proc/cpuinfo", r"flags\s*:\s*(.+)").split()
    return [flag for flag in flags if flag.startswith(("avx", "amx"))]


def describe() -> dict[str, object]:
    """The machine and the versions; empty strings for what is not there."""
    return {
        "cpu": _first("/proc/cpuinfo", r"model name\s*:\s*(.+)"),
        "features": _features(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_kb": _first("/proc/meminfo", r"MemTotal:\s*(\d+)"),
        "kernel": platform.release(),
        "load": os.getloadavg(),
        "python": platform.python_version(),
        "curl": _tool("curl", "--version"),
        "aria2": _tool("aria2c", "--version"),
        **{name: _package(name) for name in ("fastslm", "huggingface_hub", "hf_transfer")},
    }
