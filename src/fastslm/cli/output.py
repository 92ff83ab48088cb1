"""The only place that prints: data to stdout, all else to stderr, no bars and no colour off a terminal."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

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
        elif self.stderr.isatty():
            with _bars(self.stderr) as callback:
                yield callback
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
    return f"{word}: {amount(progress.done, progress.unit)}" + (f" of {size}" if size else "")


@contextmanager
def _bars(stream: TextIO) -> Iterator[ProgressCallback]:
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
    with Bars(*columns, console=Console(file=stream), transient=True) as bars:
        yield _Painter(bars)


class _Painter:
    """One bar for each stage; the rate is smoothed over the last seconds by the library."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, progress: Progress) -> None:
        task = self._tasks.get(progress.stage)
        if task is None:
            task = self._begin(progress)
        speed = next((t.speed for t in self._bars.tasks if t.id == task), None)
        done = amount(progress.done, progress.unit)
        of_total = f"{done} of {amount(progress.total, progress.unit)}" if progress.total else done
        rate = f"{amount(int(speed), progress.unit)}/s" if speed and progress.unit == "B" else ""
        self._bars.update(
            task, completed=progress.done, total=progress.total or None, amount=of_total, rate=rate, refresh=False
        )

    def _begin(self, progress: Progress) -> TaskID:
        word = STAGE_WORDS.get(progress.stage, progress.stage)
        for earlier in self._tasks.values():
            self._bars.update(earlier, visible=False)
        task = self._bars.add_task(word, total=progress.total or None, amount="", rate="")
        self._tasks[progress.stage] = task
        return task


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
