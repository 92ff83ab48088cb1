"""How measurements are written down: JSON lines with the machine in front, and a table of medians for people."""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from bench.machine import describe


class Record(Protocol):
    """What is written down: any dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


class Run(Record, Protocol):
    """One measurement; ``failed`` says why. More fields are welcome."""

    @property
    def case(self) -> str:
        """What was done."""

    @property
    def peer(self) -> str:
        """Who did it."""

    @property
    def seconds(self) -> float:
        """How long it took."""

    @property
    def failed(self) -> str:
        """Empty if it went well."""


@dataclass(frozen=True)
class Cost:
    """What a command took; memory and disk are the most at any time."""

    case: str
    peer: str
    seconds: float
    cpu_s: float
    rss_mb: float
    disk_mb: float


R = TypeVar("R", bound=Record)


def report(
    output: Path | None,
    measure: Callable[[Path], Iterator[R]],
    summary: Callable[[Sequence[R]], list[str]],
    **facts: object,
) -> None:
    """Measure in a scratch folder; every run is written to ``output`` or stdout at once, the table to stderr."""
    runs: list[R] = []
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fastslm-bench-")))
        out = stack.enter_context(output.open("a", encoding="utf-8")) if output else sys.stdout
        print(json.dumps({"machine": describe(), **facts}), file=out, flush=True)
        for run in measure(scratch):
            runs.append(run)
            print(json.dumps(asdict(run)), file=out, flush=True)
        print("\n".join(summary(runs)), file=sys.stderr)


def table(runs: Sequence[Run]) -> list[str]:
    """Median, spread and the other figures of each case and peer, and how many times faster we are."""
    lines = []
    for case in dict.fromkeys(run.case for run in runs):
        good = [run for run in runs if run.case == case and not run.failed]
        ours = [run.seconds for run in good if run.peer == "fastslm"]
        for peer in dict.fromkeys(run.peer for run in runs if run.case == case):
            own = [run for run in good if run.peer == peer]
            lines.append(f"{case:16} {peer:18} " + (_figures(own, ours) if own else "failed"))
    return lines


def _figures(runs: Sequence[Run], ours: Sequence[float]) -> str:
    seconds = [run.seconds for run in runs]
    text = f"{statistics.median(seconds):7.2f} s ({min(seconds):.2f}-{max(seconds):.2f})"
    for name, unit in (("rate_mb_s", "MB/s"), ("cpu_s_per_gb", "cpu s/GB")):
        if name in runs[0].__dataclass_fields__:
            text += f"  {statistics.median(getattr(run, name) for run in runs):7.2f} {unit}"
    ratio = statistics.median(seconds) / statistics.median(ours) if ours else 0
    return text + (f"  {ratio:6.2f} x ours" if ratio else "")
