"""Memory of other processes as Linux counts it, and files that leave the page cache."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

KB = 1024


def of_process(pid: int) -> dict[str, int]:
    """Bytes that are resident, that are no pages of files, and the proportional share of those that are shared."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    found = dict(line.split(":", 1) for line in text.splitlines()[1:])
    names = {"rss": "Rss", "anonymous": "Anonymous", "pss": "Pss"}
    return {name: int(found[key].split()[0]) * KB for name, key in names.items()}


def drop(files: Iterable[Path]) -> None:
    """Forget the cached pages of files that nobody has mapped; dirty ones are written first."""
    for path in files:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
