"""Which tensors of a conversion are finished: a journal beside them, so that a killed conversion goes on.

One JSON object in a line. The first says what is made of what; a journal of anything else is begun anew. Law: a line
is written after the bytes that it speaks of, and tells their checksum. Nothing needs to be synced: what a crash took,
a torn line or bytes that never reached the disk, is noticed and done again.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fastslm.store import atomic

Extent = tuple[int, int]
"""Offset and length."""


@dataclass(frozen=True)
class Finished:
    """Tensors that were converted together.

    Attributes:
        names: the tensors that were read.
        extents: where the result lies in its file.
        values: the result itself in base64, where it is small and lies in no file.
        checksum: CRC-32 of the result.
        proven: the bytes that were read had been checked against the hash of their file.
        source: SHA-256 of the bytes that were read, where that is known; for those that are not proven.
    """

    names: tuple[str, ...]
    extents: tuple[Extent, ...]
    checksum: int
    proven: bool = True
    source: str = ""
    values: str = ""

    @property
    def key(self) -> str:
        """What it is found by."""
        return key_of(self.names[0], in_file=bool(self.extents))


def key_of(name: str, *, in_file: bool) -> str:
    """A tensor may be needed twice: as a matrix in the file, and as a vector."""
    return name if in_file else f"{name}#values"


class Ledger:
    """The journal in one file. Methods may be called from any thread.

    Attributes:
        trusted: keys whose bytes need no further look: made, or looked at, by this process.
        inherited: those of them that an earlier process made.
    """

    def __init__(self, path: Path, subject: Mapping[str, Any]) -> None:
        """Open a journal, or begin one.

        Raises:
            OSError: it cannot be written.
        """
        self._lock = threading.Lock()
        self._subject = json.loads(json.dumps(subject))
        self._path = path
        self._known = _read(path, self._subject)
        self._save()
        self.trusted: set[str] = set()
        self.inherited: set[str] = set()

    def find(self, key: str) -> Finished | None:
        """What is noted, not yet compared with the bytes themselves."""
        with self._lock:
            return self._known.get(key)

    def note(self, finished: Finished) -> None:
        """Write down what this process has made, or learnt of it. Raises OSError."""
        with self._lock:
            self._put(finished)
            self.trusted.add(finished.key)

    def accept(self, key: str) -> None:
        """What an earlier process noted is right, and is used."""
        with self._lock:
            if key not in self.trusted:
                self.trusted.add(key)
                self.inherited.add(key)

    def prove(self, keys: Iterable[str]) -> None:
        """The bytes that these were made of have turned out to be right. Raises OSError."""
        with self._lock:
            for key in keys:
                found = self._known.get(key)
                if found is not None and not found.proven:
                    self._put(replace(found, proven=True))

    def distrust(self) -> None:
        """Forget what was made of bytes that were not proven. Raises OSError."""
        with self._lock:
            self._known = {key: each for key, each in self._known.items() if each.proven}
            self.trusted &= self._known.keys()
            self._save()

    def sync(self) -> None:
        """Have the journal on the disk itself. Raises OSError."""
        with self._lock, self._path.open("rb") as file:
            os.fsync(file.fileno())

    def clear(self) -> None:
        """Forget everything. Raises OSError."""
        with self._lock:
            self._known = {}
            self.trusted.clear()
            self.inherited.clear()
            self._save()

    def _save(self) -> None:
        lines = [self._subject, *(asdict(each) for each in self._known.values())]
        atomic.write_text(self._path, "".join(json.dumps(line) + "\n" for line in lines))

    def _put(self, finished: Finished) -> None:
        self._known[finished.key] = finished
        with self._path.open("ab", buffering=0) as file:
            file.write((json.dumps(asdict(finished)) + "\n").encode())


def _read(path: Path, subject: Mapping[str, Any]) -> dict[str, Finished]:
    """What a journal of this subject notes, up to the first line that cannot be understood."""
    known: dict[str, Finished] = {}
    with suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
        first, *lines = path.read_bytes().split(b"\n")
        if json.loads(first) != subject:
            return {}
        for line in lines[:-1]:  # a whole line ends with a line feed
            found = _finished(json.loads(line))
            known[found.key] = found
    return known


def _finished(data: Any) -> Finished:
    """Raises ValueError, TypeError or KeyError."""
    names = tuple(str(name) for name in data["names"])
    extents = tuple((int(offset), int(length)) for offset, length in data["extents"])
    if not names or any(offset < 0 or length < 0 for offset, length in extents):
        raise ValueError("no names, or a wrong place")
    proven, source, values = data["proven"] is True, str(data["source"]), str(data["values"])
    return Finished(names, extents, int(data["checksum"]), proven, source, values)
