"""One file at an address, as a plain web server gives it: ranges, ETag, redirects, and refusals on demand."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class FileServer:
    """A context manager; ``url`` is the file's address and ``requests`` what was asked (method and range)."""

    def __init__(self, data: bytes, *, name: str = "tiny.gguf") -> None:
        self.data = data
        self.etag = '"v1"'
        self.modified = ""
        self.status = 200
        self.head_status = 200
        self.redirect = ""
        self.announce_size = True
        self.requests: list[tuple[str, str]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/models/{name}"

    def __enter__(self) -> FileServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join(5)
            self._server.server_close()


def _handler_of(server: FileServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 10

        def log_message(self, *_: Any) -> None:
            """Kept in ``requests``."""

        def do_HEAD(self) -> None:
            self._serve()

        def do_GET(self) -> None:
            self._serve()

        def _serve(self) -> None:
            server.requests.append((self.command, self.headers.get("Range", "")))
            self.close_connection = True
            status = server.head_status if self.command == "HEAD" and server.head_status != 200 else server.status
            if server.redirect and self.path.startswith("/models/"):
                self._answer(302, b"", {"Location": server.redirect})
            elif status != 200:
                self._answer(status, b"", {})
            else:
                self._answer(*self._file())

        def _file(self) -> tuple[int, bytes, dict[str, str]]:
            headers = {"ETag": server.etag} if server.etag else {}
            headers |= {"Last-Modified": server.modified} if server.modified else {}
            span = self.headers.get("Range", "")
            if not span or not server.announce_size:
                return 200, server.data, headers
            first, _, last = span.removeprefix("bytes=").partition("-")
            start, stop = int(first), min(int(last or len(server.data)), len(server.data) - 1)
            headers["Content-Range"] = f"bytes {start}-{stop}/{len(server.data)}"
            return 206, server.data[start : stop + 1], headers

        def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            if server.announce_size or status != 200:
                headers = {**headers, "Content-Length": str(len(body))}
            for name, value in {**headers, "Connection": "close"}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    return Handler
