"""A file of weights that is given back to the disk while it arrives: at no time is much of it there.

Law: what is given back was converted, and the result and the note of it are on the disk itself; the download gives
nothing back that its hash did not go over, and publishes nothing of what is left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fastslm.errors import FileSystemError
from fastslm.formats.arriving import ArrivingFiles

WINDOW_BYTES = 256 * 1024 * 1024
"""So much may wait to be converted, beside tensors that have not come as a whole."""

HELD_BYTES = 2 * 1024 * 1024 * 1024
"""What a plan counts for one file: the window, what waits for a sync, and a very large tensor."""

WORTH_BYTES = 32 * 1024 * 1024
"""Less is not worth a sync."""


def can_pass(folder: Path) -> bool:
    """Whether parts of files can be given back, in a folder or in that which will hold it."""
    from fastslm._native import can_punch

    with suppress(FileSystemError):
        return can_punch(str(next(place for place in (folder, *folder.parents) if place.exists())))
    return False


@dataclass(frozen=True)
class PassingFile:
    """See ``hub.transfer.Passing``.

    Attributes:
        path, files: the file, and those among which it is.
        size: in bytes.
        sync: has on the disk itself what was converted.
        is_used: whether the conversion goes on.
    """

    path: Path
    files: ArrivingFiles
    size: int
    sync: Callable[[], None]
    is_used: Callable[[], bool]

    @property
    def limit(self) -> int:
        """See ``Passing``; all of it, when the conversion has failed."""
        return self.files.limit(self.path, WINDOW_BYTES) if self.is_used() else self.size

    def used(self, hashed_bytes: int) -> Sequence[tuple[int, int]]:
        """See ``Passing``."""
        if not self.is_used():
            return ()
        ranges = self.files.spent(self.path, hashed_bytes, WORTH_BYTES)
        if ranges:
            self.sync()
        return ranges
