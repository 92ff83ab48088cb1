"""``machine.json``: what was measured on this machine: memory bandwidth, the best number of threads, real answers.

Only measurements are kept here, so a file that is damaged, or that came from another machine, is simply begun again.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastslm.errors import StoreError
from fastslm.store import atomic
from fastslm.store.manifest import ModelKind

VERSION = 1
MOST_RUNS = 24
"""Runs that are remembered for each architecture and precision; the newest count."""

MOST_SHARES = 16
"""Choices of threads that are remembered; the newest count."""

LEAST_TOKENS = 8
"""Answers shorter than this say nothing about speed."""

BUFFER_BYTES = 512 * 1024 * 1024
"""Larger than the last-level cache of the machines we mean."""

MEASURE_S = 0.2
MEASUREMENTS = 3
"""The best counts: whatever disturbs a measurement makes it slower."""


def measure_bandwidth(threads: int, available_bytes: int) -> float | None:
    """Bytes per second that memory gives now, in about half a second; None when there is too little memory for it."""
    if available_bytes < 2 * BUFFER_BYTES:
        return None
    from fastslm._native import read_bandwidth

    return max(read_bandwidth(BUFFER_BYTES, threads, MEASURE_S) for _ in range(MEASUREMENTS))


@dataclass(frozen=True)
class Run:
    """The speed of one answer.

    Attributes:
        kind: of the model.
        streamed_bytes: weights read for each token.
        num_layers: its layers.
        kv_bytes: keys and values read for each token, on average.
        token_s: seconds for one token, the prompt left out.
    """

    kind: ModelKind
    streamed_bytes: int
    num_layers: int
    kv_bytes: int
    token_s: float


NUMBERS = ("streamed_bytes", "num_layers", "kv_bytes", "token_s")
"""What is written down of a run."""


class MachineFile:
    """Measurements in one file. Reading never fails; what cannot be understood was not measured."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def bandwidth(self, threads: int) -> float | None:
        """Bytes per second that so many threads read from memory, None when it was not measured yet."""
        value = self._section("bandwidth").get(str(threads))
        return float(value) if isinstance(value, (int, float)) and 1e6 < value < 1e15 else None

    def runs(self, kind: ModelKind) -> tuple[Run, ...]:
        """Remembered answers of models like this, oldest first."""
        found = self._section("runs").get(_key(kind))
        parsed = [_run(kind, item) for item in found] if isinstance(found, list) else []
        return tuple(run for run in parsed if run is not None)

    def note_bandwidth(self, threads: int, bytes_per_s: float) -> None:
        """Remember a measurement. Raises StoreError."""
        self._write("bandwidth", {**self._section("bandwidth"), str(threads): bytes_per_s})

    def threads(self, share: str) -> int | None:
        """The best number of threads for a share of the machine, None when it was not measured yet."""
        value = self._section("threads").get(share)
        return value if type(value) is int else None

    def note_threads(self, share: str, threads: int) -> None:
        """Remember a choice; that for another share of the machine is kept. Raises StoreError."""
        known = list(self._section("threads").items())[-MOST_SHARES + 1 :]
        self._write("threads", {**dict(known), share: threads})

    def note_run(self, run: Run) -> None:
        """Remember the speed of an answer. Raises StoreError."""
        known = [*self.runs(run.kind), run][-MOST_RUNS:]
        numbers = [{name: getattr(each, name) for name in NUMBERS} for each in known]
        self._write("runs", {**self._section("runs"), _key(run.kind): numbers})

    def _section(self, name: str) -> Mapping[str, Any]:
        found = self._read().get(name)
        return found if isinstance(found, dict) else {}

    def _read(self) -> dict[str, Any]:
        try:
            data = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        known = isinstance(data, dict) and data.get("version") == VERSION and data.get("machine") == signature()
        return data if known else {}

    def _write(self, name: str, section: Mapping[str, Any]) -> None:
        data = {"version": VERSION, "machine": signature(), **self._read(), name: section}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            atomic.write_text(self.path, json.dumps(data, indent=1) + "\n")
        except OSError as error:
            raise StoreError(f"`{self.path}` cannot be written: {error.strerror}", path=str(self.path)) from error


def signature() -> str:
    """What tells this machine from another that shares the folder."""
    return f"{platform.node()} {platform.machine()}"


def _key(kind: ModelKind) -> str:
    return f"{kind.architecture}/{kind.precision}/{kind.target}"


def _run(kind: ModelKind, item: Any) -> Run | None:
    """A remembered answer, None when it is not one."""
    if not isinstance(item, dict) or set(item) != set(NUMBERS):
        return None
    is_sound = all(type(number) in (int, float) and 0 <= number < 1e15 for number in item.values())
    return Run(kind, **item) if is_sound and item["token_s"] > 0 else None
