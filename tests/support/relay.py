"""A line to a server, made of user space: a rate for each connection, a common one, a delay, and bad connections.

A byte leaves the server when its connection and the link have room for it, and arrives one delay later. Run as a
program it prints its port and relays until its input ends: ``python relay.py HOST:PORT '{"delay_s": 0.04}'``.
"""

from __future__ import annotations

import contextlib
import json
import queue
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

CHUNK = 16384
IDLE_S = 600.0
SLACK_S = 0.05
"""A busy machine wakes us late; so much of the lost time is made good."""


@dataclass(frozen=True)
class Line:
    """What a line is like; 0 means no limit, and no such connection.

    Attributes:
        rate: bytes per second of one connection, from the server.
        link: bytes per second of all connections together, from the server.
        delay_s: one way; half of the round trip.
        bad_every: each connection whose number divides by this is bad.
        bad_rate: bytes per second of a bad connection.
        bad_after: bytes after which a bad connection shows what it is.
        bad_kind: ``crawl`` (``bad_rate``), ``stall`` (nothing more comes) or ``reset``.
    """

    rate: float = 0
    link: float = 0
    delay_s: float = 0
    bad_every: int = 0
    bad_rate: float = 50_000
    bad_after: int = 0
    bad_kind: str = "crawl"


class Bucket:
    """Gives out moments at which bytes may leave, so that they keep to a rate."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._free_from = 0.0
        self._lock = threading.Lock()

    def reserve(self, size: int, now: float) -> float:
        """The moment when ``size`` bytes have left."""
        if not self._rate:
            return now
        with self._lock:
            self._free_from = max(self._free_from, now - SLACK_S) + size / self._rate
            return self._free_from


class Relay:
    """Passes connections on to ``upstream``; a context manager. ``connections`` counts them."""

    def __init__(self, upstream: tuple[str, int], line: Line) -> None:
        self.line = line
        self.connections = 0
        self._upstream = upstream
        self._link = Bucket(line.link)
        self._closing = threading.Event()
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._listener.settimeout(0.2)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Relay:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join(5)
        self._listener.close()
        with self._lock:
            for end in self._sockets:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                client, _ = self._listener.accept()
            except (TimeoutError, OSError):
                continue
            self.connections += 1
            threading.Thread(target=self._serve, args=(client, self.connections), daemon=True).start()

    def _serve(self, client: socket.socket, number: int) -> None:
        try:
            server = socket.create_connection(self._upstream, timeout=10)
        except OSError:
            client.close()
            return
        with self._lock:
            self._sockets |= {client, server}
        for end in (client, server):
            end.settimeout(IDLE_S)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        up = threading.Thread(target=self._pump, args=(client, server, lambda size, now: now), daemon=True)
        up.start()
        self._pump(server, client, self._departures(number, client))
        up.join(IDLE_S)
        with self._lock:
            self._sockets -= {client, server}
        client.close()
        server.close()

    def _departures(self, number: int, client: socket.socket) -> Callable[[int, float], float]:
        line = self.line
        own, slow, passed = Bucket(line.rate), Bucket(line.bad_rate), 0
        bad = bool(line.bad_every) and number % line.bad_every == 0

        def leave(size: int, now: float) -> float:
            nonlocal passed
            passed += size
            if not bad or passed <= line.bad_after:
                return self._link.reserve(size, own.reserve(size, now))
            if line.bad_kind == "reset":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                raise ConnectionResetError
            return slow.reserve(size, now) if line.bad_kind == "crawl" else now + IDLE_S

        return leave

    def _pump(self, source: socket.socket, sink: socket.socket, leave: Callable[[int, float], float]) -> None:
        """Read at the pace of ``leave``, let each chunk travel for the delay, write."""
        travelling: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
        writer = threading.Thread(target=self._deliver, args=(travelling, sink), daemon=True)
        writer.start()
        with contextlib.suppress(OSError):
            while not self._closing.is_set():
                chunk = source.recv(CHUNK)
                if not chunk:
                    break
                departure = leave(len(chunk), time.monotonic())
                self._sleep_until(departure)
                travelling.put((departure + self.line.delay_s, chunk))
        travelling.put((0.0, b""))
        writer.join(IDLE_S)
        with contextlib.suppress(OSError):
            source.shutdown(socket.SHUT_RD)

    def _deliver(self, travelling: queue.SimpleQueue[tuple[float, bytes]], sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                arrival, chunk = travelling.get()
                if not chunk:
                    break
                self._sleep_until(arrival)
                sink.sendall(chunk)
        for how in (socket.SHUT_WR, socket.SHUT_RD):
            with contextlib.suppress(OSError):
                sink.shutdown(how)

    def _sleep_until(self, moment: float) -> None:
        wait = moment - time.monotonic()
        if wait > 0.0005:
            (self._closing.wait if wait > 1 else time.sleep)(wait)


@contextmanager
def relaying(upstream: tuple[str, int], line: Line) -> Iterator[Relay]:
    """A running relay; it is down when the block ends."""
    with Relay(upstream, line) as relay:
        yield relay


if __name__ == "__main__":
    host, _, port = sys.argv[1].rpartition(":")
    with Relay((host, int(port)), Line(**json.loads(sys.argv[2]))) as running:
        print(running.port, flush=True)
        sys.stdin.read()
