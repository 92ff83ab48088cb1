"""One measured number, how a run's numbers are read back, and their table: median, spread, ratio to ours."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

UNITS = MappingProxyType(
    {
        "prefill": "tokens/s",
        "decode": "tokens/s",
        "step": "ms",
        "load": "ms",
        "first token": "s",
        "first token, cold": "s",
        "process": "s",
        "whole": "s",
        "rss": "MB",
        "anonymous": "MB",
        "pss of two": "MB",
        "bandwidth": "GB/s",
        "memory read": "GB/s",
        "share": "%",
        "operator in a prompt": "ms",
        "operator in an answer": "ms",
    }
)
"""What is measured. ``first token``: from the request to load to the first token behind a prompt of 32; ``process``:
an interpreter with its imports; ``step``: one token for each row; ``memory read``: weights, keys and values of a step
over its time; ``share``: that over the bandwidth of the same round; of operators ``part`` has the name."""

RATES = frozenset({"prefill", "decode", "bandwidth", "memory read", "share"})
"""More is better; of everything else less is."""


@dataclass(frozen=True)
class Figure:
    """One measurement; a failed one says why."""

    shape: str
    threads: int
    prompt: int
    rows: int
    what: str
    peer: str
    value: float
    failed: str = ""
    part: str = ""


def read(paths: Iterable[Path]) -> tuple[dict[str, Any], list[Figure]]:
    """What was said of the first run (machine, versions), and the figures of all, from files of JSON lines."""
    about: dict[str, Any] = {}
    found, names = [], {field.name for field in fields(Figure)}
    for path in paths:
        for line in path.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            if entry.keys() <= names:
                found.append(Figure(**entry))
            else:
                about = about or entry
    return about, found


def median(figures: Iterable[Figure], what: str, peer: str, **case: object) -> float | None:
    """Median of the good ones; None when there is none."""
    values = [
        figure.value
        for figure in figures
        if (figure.what, figure.peer, figure.failed) == (what, peer, "")
        and all(getattr(figure, name) == value for name, value in case.items())
    ]
    return statistics.median(values) if values else None


def table(figures: Sequence[Figure]) -> list[str]:
    """A block for each case: median, lowest to highest, and how many times better the first of ours is."""
    lines = []
    for case in dict.fromkeys((f.shape, f.threads, f.prompt, f.rows, f.what) for f in figures):
        shape, threads, prompt, rows, what = case
        own = [f for f in figures if (f.shape, f.threads, f.prompt, f.rows, f.what) == case]
        title = [shape, f"{threads} threads", f"prompt {prompt}" if prompt else "", f"{rows} rows" if rows > 1 else ""]
        lines.append(f"{what} ({UNITS[what]}): {', '.join(filter(None, title))}")
        for peer, part in dict.fromkeys((f.peer, f.part) for f in own):
            each = [f for f in own if (f.peer, f.part) == (peer, part)]
            lines.append(f"  {peer:22} " + (_part(each, own) if part else _figures(each, own)))
    return lines


def _part(own: Sequence[Figure], all_: Sequence[Figure]) -> str:
    whole = sum(figure.value for figure in all_ if figure.peer == own[0].peer)
    return f"{own[0].part:32} {own[0].value:9.2f} ({own[0].value / whole:.1%})"


def _figures(own: Sequence[Figure], all_: Sequence[Figure]) -> str:
    values = [figure.value for figure in own if not figure.failed]
    if not values:
        return f"failed: {own[0].failed}"
    middle, ours = statistics.median(values), [f.value for f in all_ if f.peer == "fastslm" and not f.failed]
    text = f"{middle:9.2f} ({min(values):.2f} to {max(values):.2f})"
    if not ours or own[0].peer == "fastslm" or not middle:
        return text
    ratio = statistics.median(ours) / middle
    return f"{text}  ours is {ratio if own[0].what in RATES else 1 / ratio:.2f} x as good" if ratio else text
