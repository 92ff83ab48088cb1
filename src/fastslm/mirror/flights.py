"""Files on their way from upstream: each is fetched once, however many clients wait for it, and is read meanwhile.

Law: the last bytes are given to nobody before the hash is right, and a file whose hash was wrong, even for a moment,
is finished for no client that began to read it before.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

from fastslm.errors import Cancelled, FastSLMError, StoreError
from fastslm.hub.client import RemoteFile
from fastslm.hub.layout import file_errors
from fastslm.hub.transfer import Arrival

HELD_BYTES = 1 << 20
"""What no client gets before the hash is right; a smaller file is sent when it is complete."""

MOST_AT_ONCE = 8
"""Files fetched at a time; the engine uses several connections for each."""

Fly = Callable[[Callable[[Arrival], None]], None]
"""Fetches and publishes one file; tells its argument how far it has come."""


class Flight:
    """One file that is being fetched. Its fields are set by the thread that fetches, and may be read by any other."""

    def __init__(self, file: RemoteFile, places: tuple[Path, ...]) -> None:
        self.file = file
        self.error: FastSLMError | None = None
        self.over = False
        self.doubted = False
        self._ready = 0
        self._places = places

    @property
    def readable(self) -> int:
        """How many bytes from the beginning may be given away."""
        if self.over:
            return self.file.size if self.error is None else 0
        return 0 if self.doubted else max(0, min(self._ready, self.file.size - HELD_BYTES))

    def open(self) -> int:
        """A descriptor of the file where it is now; it stays good when the file is published."""
        for place in self._places:
            try:
                return os.open(place, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
        with file_errors("open", self._places[-1]):
            return os.open(self._places[-1], os.O_RDONLY | os.O_CLOEXEC)

    def note(self, arrival: Arrival) -> None:
        """The engine's news."""
        self.doubted = self.doubted or arrival.doubted
        self._ready = arrival.ready_bytes


class Flights:
    """All files under way; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: dict[tuple[Path, ...], tuple[Flight, threading.Thread]] = {}
        self._room = threading.Semaphore(MOST_AT_ONCE)
        self._closing = threading.Event()

    def join(self, file: RemoteFile, places: tuple[Path, ...], fly: Fly) -> Flight:
        """The flight to these places, which begins now unless it is under way; ``places``: partial file, blob."""
        with self._lock:
            known = self._under_way.get(places)
            if known is not None:
                return known[0]
            flight = Flight(file, places)
            thread = threading.Thread(target=self._run, args=(flight, places, fly), name="fastslm-flight", daemon=True)
            self._under_way[places] = flight, thread
            thread.start()
            return flight

    def close(self, timeout_s: float = 5.0) -> None:
        """End all flights; what has arrived stays for the next time."""
        self._closing.set()
        with self._lock:
            threads = [thread for _, thread in self._under_way.values()]
        for thread in threads:
            thread.join(timeout_s)

    def _run(self, flight: Flight, places: tuple[Path, ...], fly: Fly) -> None:
        def watch(arrival: Arrival) -> None:
            if self._closing.is_set():
                raise Cancelled
            flight.note(arrival)

        try:
            while not self._room.acquire(timeout=0.2):
                watch(Arrival(0))
            try:
                fly(watch)
            finally:
                self._room.release()
        except FastSLMError as error:
            flight.error = error
        except Exception as error:  # noqa: BLE001 - whatever it is, the clients must not wait for ever
            flight.error = StoreError(f"`{flight.file.path}` cannot be fetched: {error}", path=flight.file.path)
        finally:
            with self._lock:
                del self._under_way[places]
            flight.over = True
