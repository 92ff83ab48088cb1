"""A file server with ranges on the loopback whose answers can be made wrong, one request at a time.

Every request is written down, so that a test can say what went over the wire.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BLOCK = 16384


@dataclass(frozen=True)
class Fault:
    """What is wrong with one answer; the defaults are a right answer.

    Attributes:
        status: answer with this status and a short text instead of the file.
        headers: more headers, or other values for the usual ones.
        ignore_range: send the whole file with status 200.
        shift: send bytes, and name a range, this far behind what was asked for.
        total: name this total size in Content-Range.
        flip: invert the first byte of the body.
        cut_after: close the connection after this many bytes of the body.
        stall_after: send nothing more after this many bytes of the body.
        chunked_extra: send the body without a length and with these bytes behind it.
    """

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    ignore_range: bool = False
    shift: int = 0
    total: int | None = None
    flip: bool = False
    cut_after: int | None = None
    stall_after: int | None = None
    chunked_extra: bytes | None = None


@dataclass
class Seen:
    """One request and how many bytes of a body it got."""

    path: str
    headers: dict[str, str]
    sent: int = 0


class RangeServer(ThreadingHTTPServer):
    """Serves ``contents`` (path to bytes); ``always`` is the fault of every answer without a scripted one."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, contents: Mapping[str, bytes], *, rate_bytes_s: float = 0, always: Fault | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.contents = dict(contents)
        self.rate_bytes_s = rate_bytes_s
        self.always = always or Fault()
        self.seen: list[Seen] = []
        self.closing = threading.Event()
        self._faults: dict[str, deque[Fault]] = defaultdict(deque)
        self._lock = threading.Lock()

    def script(self, path: str, *faults: Fault) -> None:
        """The next answers for ``path``, in order."""
        with self._lock:
            self._faults[path].extend(faults)

    def url(self, path: str) -> str:
        """Address of ``path`` on this server."""
        return f"http://127.0.0.1:{self.server_address[1]}{path}"

    @property
    def sent_bytes(self) -> int:
        """Bytes of all bodies so far."""
        return sum(seen.sent for seen in list(self.seen))

    def note(self, path: str, headers: dict[str, str]) -> tuple[Seen, Fault]:
        """Write a request down and tell what is to go wrong with it."""
        seen = Seen(path, headers)
        with self._lock:
            self.seen.append(seen)
            queue = self._faults[path]
            return seen, queue.popleft() if queue else self.always

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 20
    server: RangeServer

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        seen, fault = self.server.note(path, {k.lower(): v for k, v in self.headers.items()})
        content = self.server.contents.get(path)
        if fault.status or content is None:
            self._refuse(fault.status or 404, fault)
            return
        first, last, status = self._range(len(content), ignore=fault.ignore_range)
        body = content[first + fault.shift : last + 1 + fault.shift]
        if fault.flip and body:
            body = bytes([body[0] ^ 255]) + body[1:]
        headers = {"Content-Length": str(len(body))}
        if status == 206:
            total = len(content) if fault.total is None else fault.total
            headers["Content-Range"] = f"bytes {first + fault.shift}-{last + fault.shift}/{total}"
        if fault.chunked_extra is not None:
            del headers["Content-Length"]
            headers["Transfer-Encoding"] = "chunked"
            body = self._chunk(body) + self._chunk(fault.chunked_extra) + self._chunk(b"")
        self._head(status, headers | dict(fault.headers))
        self._send(body, seen, fault)

    def _range(self, size: int, *, ignore: bool) -> tuple[int, int, int]:
        text = self.headers.get("Range", "")
        if ignore or not text.startswith("bytes="):
            return 0, size - 1, 200
        first, _, last = text.removeprefix("bytes=").partition("-")
        return int(first), min(int(last or size - 1), size - 1), 206

    @staticmethod
    def _chunk(data: bytes) -> bytes:
        return f"{len(data):x}\r\n".encode() + data + b"\r\n"

    def _refuse(self, status: int, fault: Fault) -> None:
        text = b"no"
        self._head(status, {"Content-Length": str(len(text))} | dict(fault.headers))
        self.wfile.write(text)

    def _head(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _send(self, body: bytes, seen: Seen, fault: Fault) -> None:
        limits = [limit for limit in (fault.cut_after, fault.stall_after) if limit is not None]
        view = memoryview(body)[: min(limits)] if limits else memoryview(body)
        for start in range(0, len(view), BLOCK):
            block = view[start : start + BLOCK]
            self.wfile.write(block)
            seen.sent += len(block)
            if self.server.rate_bytes_s:
                time.sleep(len(block) / self.server.rate_bytes_s)
        if fault.stall_after is not None:
            self.server.closing.wait(10)
        if limits:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Tests do not read logs."""


@contextmanager
def serving(
    contents: Mapping[str, bytes], *, rate_bytes_s: float = 0, always: Fault | None = None
) -> Iterator[RangeServer]:
    """A running server; it is down when the block ends."""
    server = RangeServer(contents, rate_bytes_s=rate_bytes_s, always=always)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join(5)
