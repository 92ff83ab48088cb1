"""Put a file at a second place without a second copy of its bytes, where the file system can."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

Way = Literal["reflink", "hard link", "copy"]

FICLONE = 0x40049409
"""Linux's request to share the blocks of a file until one side changes (linux/fs.h)."""


def place(source: Path, target: Path) -> Way:
    """Make ``target`` have the content of ``source``, which may be a link; an existing target is never overwritten.

    A reflink is tried first, because the two files stay independent; a hard link is one file under two names.

    Raises:
        FileSystemError, DiskFull: it cannot be read or written.
    """
    from fastslm import _native

    real = source.resolve()
    if _reflink(real, target):
        return "reflink"
    try:
        os.link(real, target)
    except OSError:  # another disk, a file system without links, or a limit: then by copying
        return _native.copy_file(str(real), str(target))
    return "hard link"


def _reflink(source: Path, target: Path) -> bool:
    try:
        from fcntl import ioctl

        with source.open("rb") as there, target.open("xb") as here:
            try:
                ioctl(here.fileno(), FICLONE, there.fileno())
            except OSError:
                target.unlink()
                return False
    except (ImportError, OSError):
        return False
    return True
