"""``registry.json``: every model on this machine and its state.

Reading takes no lock, because the file is only ever replaced as a whole. Every change locks, reads again, writes
and renames, so that processes at the same time lose nothing of each other.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timezone
from os import getpid
from pathlib import Path
from typing import Any

from fastslm.errors import StoreError
from fastslm.store import atomic
from fastslm.store.entry import NEXT_STATES, Entry

VERSION = 1
LOCK_TIMEOUT_S = 10.0
MAX_FILE_BYTES = 64 << 20
_ADVANCEABLE = frozenset({"revision", "commit", "snapshot", "folder", "size_bytes", "resolved_precision", "discarded"})

Entries = dict[str, Entry]


class Registry:
    """The registry in one file.

    A damaged file is set aside under a new name, never overwritten; ``notices`` says so, for the caller to show.
    """

    def __init__(self, path: Path, *, lock_timeout_s: float = LOCK_TIMEOUT_S) -> None:
        self.path = path
        self.lock_timeout_s = lock_timeout_s
        self._notices: list[str] = []

    @property
    def notices(self) -> tuple[str, ...]:
        """What the user should be told, in the order it happened."""
        return tuple(self._notices)

    def list(self) -> tuple[Entry, ...]:
        """All entries, by name and precision. Raises StoreError when the file cannot be read."""
        return tuple(sorted(self._read().values(), key=lambda entry: entry.key))

    def get(self, name: str, precision: str = "auto") -> Entry | None:
        """The entry of this name and asked-for precision, or None. Raises StoreError."""
        return self._read().get(f"{name}#{precision}")

    def find(self, name: str) -> Entry | None:
        """The newest usable entry of this name in any precision, a ready one first; or None. Raises StoreError."""
        found = [entry for entry in self._read().values() if entry.name == name and entry.usable]
        return max(found, key=lambda entry: (entry.state == "ready", entry.updated), default=None)

    def begin(self, name: str, precision: str = "auto", *, revision: str = "") -> Entry:
        """Start (again) to pull a model: ``downloading``. What is already there stays usable. Raises StoreError."""

        def start(entries: Entries) -> Entry:
            before = entries.get(f"{name}#{precision}") or Entry(name, precision, "downloading", created=now())
            return replace(before, state="downloading", revision=revision, stage="", cause="", failed_at="")

        return self._put(start)

    def advance(self, entry: Entry, state: str, **facts: str | int | Path) -> Entry:
        """Move an entry, as this process last saw it, to its next state.

        Args:
            entry: what ``begin`` or an earlier ``advance`` returned, or ``get`` found.
            state: one that may follow ``entry.state``.
            facts: new values of ``commit``, ``snapshot``, ``folder``, ``size_bytes``, ``resolved_precision``,
                ``revision``, ``discarded``.

        Raises:
            StoreError: the state may not follow, the fact is not one of these, or the file cannot be changed.
        """
        if state not in NEXT_STATES.get(entry.state, frozenset()) or not facts.keys() <= _ADVANCEABLE:
            found = f"`{entry.state}` to `{state}` with {', '.join(sorted(facts)) or 'no facts'}"
            raise StoreError(f"`{entry.key}` cannot go from {found}", path=str(self.path))

        def move(entries: Entries) -> Entry:
            current = entries.get(entry.key, entry)
            folder = entry.folder or current.folder
            changes: dict[str, Any] = {"folder": folder, "stage": "", "cause": "", "failed_at": ""}
            changes |= {key: str(fact) if isinstance(fact, Path) else fact for key, fact in facts.items()}
            return replace(entry, state=state, **changes)

        return self._put(move)

    def fail(self, entry: Entry, *, stage: str, cause: str) -> Entry:
        """Record a failure with its time. A model that was usable is ``ready`` again, else it is ``failed``."""

        def record(entries: Entries) -> Entry:
            folder = entries.get(entry.key, entry).folder or entry.folder
            state = "ready" if folder else "failed"
            return replace(entry, state=state, folder=folder, stage=stage, cause=cause, failed_at=now())

        return self._put(record)

    def drop_work(self, entry: Entry) -> None:
        """Take back what was begun: the entry goes, or is ``ready`` where an older conversion is. Raises StoreError."""
        if not entry.folder:
            self.remove(entry.name, entry.precision)
            return
        self._put(lambda entries: replace(entries.get(entry.key, entry), state="ready"))

    def copy(self, entry: Entry, name: str) -> Entry:
        """Register the same files under another name.

        Raises:
            StoreError: the name is taken in this precision, or the file cannot be changed.
        """

        def twin(entries: Entries) -> Entry:
            fresh = replace(entry, name=name, created=now())
            if fresh.key in entries:
                raise StoreError(f"`{fresh.key}` is taken", path=str(self.path))
            return fresh

        return self._put(twin)

    def remove(self, name: str, precision: str = "auto") -> Entry | None:
        """Forget an entry and return it, None when there was none. Files are not touched. Raises StoreError."""
        with self._changing() as entries:
            return entries.pop(f"{name}#{precision}", None)

    def _put(self, change: Callable[[Entries], Entry]) -> Entry:
        with self._changing() as entries:
            entry = replace(change(entries), pid=getpid(), updated=now())
            try:
                entries[entry.key] = Entry.from_json(entry.to_json())
            except ValueError as error:  # would make the whole file unreadable
                raise StoreError(f"`{entry.key}` cannot be recorded: {error}", path=str(self.path)) from error
        return entry

    @contextlib.contextmanager
    def _changing(self) -> Iterator[Entries]:
        """The entries, locked; what is left of them at the end is written."""
        with self._locked():
            entries = self._read(locked=True)
            yield entries
            models = {key: entry.to_json() for key, entry in sorted(entries.items())}
            text = json.dumps({"version": VERSION, "models": models}, indent=1, ensure_ascii=False) + "\n"
            try:
                atomic.write_text(self.path, text, private=True)
            except OSError as error:
                raise StoreError(f"`{self.path}` cannot be written: {error.strerror}", path=str(self.path)) from error

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        from filelock import FileLock, Timeout

        lock = FileLock(self.path.with_name(f"{self.path.name}.lock"), timeout=self.lock_timeout_s)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout:
            message = f"`{self.path}` has been locked by another process for {self.lock_timeout_s:g} seconds"
            raise StoreError(message, path=str(self.path)) from None
        except OSError as error:
            raise StoreError(f"`{self.path}` cannot be locked: {error.strerror}", path=str(self.path)) from error
        try:
            yield
        finally:
            lock.release()

    def _read(self, *, locked: bool = False) -> Entries:
        try:
            with self.path.open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise StoreError(f"`{self.path}` cannot be read: {error.strerror}", path=str(self.path)) from error
        try:
            return _parse(data)
        except (ValueError, RecursionError) as error:
            if locked:
                self._set_aside(str(error))
                return {}
        with self._locked():
            return self._read(locked=True)  # another process may have repaired it meanwhile

    def _set_aside(self, reason: str) -> None:
        stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S.%fZ")
        target = self.path.with_name(f"{self.path.name}.damaged-{stamp}")
        try:
            self.path.rename(target)
        except OSError as error:
            raise StoreError(
                f"`{self.path}` is damaged and cannot be set aside: {error.strerror}", path=str(self.path)
            ) from error
        notice = f"`{self.path}` is damaged ({reason}); it was kept as `{target.name}` and a new one begun"
        self._notices.append(notice)


def _parse(data: bytes) -> Entries:
    """Entries of a registry file. Raises ValueError that says what is wrong."""
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"it has more than {MAX_FILE_BYTES} bytes")
    content = json.loads(data.decode("utf-8"))
    version = content.get("version") if isinstance(content, dict) else None
    if version != VERSION:
        raise ValueError(f"version `{version}`, expected {VERSION}")
    models = content.get("models")
    if not isinstance(models, dict):
        raise ValueError("`models` is not an object")
    entries = {key: Entry.from_json(value) for key, value in models.items()}
    wrong = next((key for key, entry in entries.items() if entry.key != key), None)
    if wrong is not None:
        raise ValueError(f"`{wrong}` is filed under another name")
    return entries


def now() -> str:
    """UTC time, as entries have it."""
    return datetime.now(timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")
