"""The only place that prints: data to stdout, all else to stderr, no bars and no colour off a terminal."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

from fastslm.config import is_plain_terminal
from fastslm.progress import Progress, ProgressCallback, silent

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

STAGE_WORDS = {
    "resolving": "Looking up",
    "downloading": "Downloading",
    "verifying": "Verifying",
    "unpacking": "Unpacking",
    "converting": "Converting",
    "bundling": "Bundling",
    "evaluating": "Evaluating",
    "encoding": "Encoding",
    "measuring": "Measuring",
}


@dataclass
class Output:
    """How one command talks. ``as_json``: data as JSON; ``quiet``: no progress, no remarks; ``verbose``: more."""

    as_json: bool = False
    quiet: bool = False
    verbose: bool = False
    stdout: TextIO = field(default_factory=lambda: sys.stdout)
    stderr: TextIO = field(default_factory=lambda: sys.stderr)

    def data(self, value: Any, text: str) -> None:
        """Print the result: ``value`` as JSON, or ``text`` for people."""
        shown = json.dumps(value, indent=2, ensure_ascii=False) if self.as_json else text
        self.stdout.write(shown + "\n")
        self.stdout.flush()

    def piece(self, text: str) -> None:
        """Print a piece of a streamed answer at once."""
        self.stdout.write(text)
        self.stdout.flush()

    def remark(self, text: str) -> None:
        """Say something that is not data."""
        if not self.quiet:
            self.stderr.write(text + "\n")
            self.stderr.flush()

    def error(self, message: str, hint: str = "") -> None:
        """Say what failed; also when quiet."""
        self.stderr.write(f"error: {message}\n")
        if hint and not self.quiet:
            self.stderr.write(f"hint: {hint}\n")
        self.stderr.flush()

    @contextmanager
    def progress(self) -> Iterator[ProgressCallback]:
        """Show long work: bars on a terminal, a line for each stage elsewhere, nothing when quiet."""
        if self.quiet:
            yield silent
        elif self.stderr.isatty() and not is_plain_terminal():
            with _Painter(self.stderr) as painter:
                yield painter
        else:
            yield _lines(self.remark)


def _lines(say: Callable[[str], None]) -> ProgressCallback:
    """A line when a stage begins, and one every ten seconds."""
    last: dict[str, float] = {}

    def show(progress: Progress) -> None:
        now = time.monotonic()
        if progress.stage in last and now - last[progress.stage] < 10.0:
            return
        say(_line(progress, first=progress.stage not in last))
        last[progress.stage] = now

    return show


def _line(progress: Progress, *, first: bool) -> str:
    word = STAGE_WORDS.get(progress.stage, progress.stage)
    countable = progress.total > 1 or (progress.unit == "B" and progress.total)
    size = amount(progress.total, progress.unit) if countable else ""
    if first:
        return " ".join(part for part in (word, progress.detail, f"({size})" if size else "") if part)
    return f"{word}: {share(progress)}"


class _Painter:
    """One bar for each stage; nothing is drawn before there is something to show."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._bars: Bars | None = None
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> _Painter:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def __call__(self, progress: Progress) -> None:
        bars = self._bars = self._bars or _start_bars(self._stream)
        task = self._tasks.get(progress.stage)
        if task is None:
            task = self._begin(bars, progress)
        speed = next((t.speed for t in bars.tasks if t.id == task), None)
        rate = f"{amount(int(speed), progress.unit)}/s" if speed and progress.unit == "B" else ""
        bars.update(task, completed=progress.done, total=progress.total or None, amount=share(progress), rate=rate)

    def _begin(self, bars: Bars, progress: Progress) -> TaskID:
        for earlier in self._tasks.values():
            bars.update(earlier, visible=False)
        word = STAGE_WORDS.get(progress.stage, progress.stage)
        task = bars.add_task(word, total=progress.total or None, amount="", rate="")
        self._tasks[progress.stage] = task
        return task


def _start_bars(stream: TextIO) -> Bars:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TextColumn("{task.fields[amount]}"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(compact=True),
    )
    bars = Bars(*columns, console=Console(file=stream), transient=True)
    bars.start()
    return bars


def share(progress: Progress) -> str:
    """How much of how much: ``3.1 MB of 98.4 MB``, ``45 of 272 tensors``."""
    if not progress.total:
        return amount(progress.done, progress.unit)
    done = amount(progress.done) if progress.unit == "B" else str(progress.done)
    return f"{done} of {amount(progress.total, progress.unit)}"


def amount(count: int, unit: str = "B") -> str:
    """A number with its unit: bytes in decimal units as disks and lines are sold, other units as they are."""
    if unit != "B":
        return f"{count} {unit}"
    value = float(count)
    for name in ("B", "kB", "MB", "GB", "TB"):
        if value < 999.5 or name == "TB":
            return f"{value:.0f} {name}" if name == "B" or value >= 99.5 else f"{value:.1f} {name}"
        value /= 1000.0
    raise AssertionError("unreachable")


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns padded to their widest cell, two spaces apart; no trailing blanks."""
    widths = [max(len(row[i]) for row in (headings, *rows)) for i in range(len(headings))]
    padded = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (headings, *rows)
    ]
    return "\n".join(line.rstrip() for line in padded)
