"""A fast file server in a process of its own: ranges by sendfile, and the few headers that the hub's clients need.

Run as a program it prints its port and serves a folder until its input ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
from pathlib import Path
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPO = "bench/files"
PREFIX = f"/{REPO}/resolve/{COMMIT}/"
"""Where a hub would have the files of the repository ``bench/files``."""


def _head(connection: socket.socket) -> str:
    text = b""
    while b"\r\n\r\n" not in text:
        block = connection.recv(65536)
        if not block:
            return ""
        text += block
    return text.decode("latin-1")


def _span(head: str, size: int) -> tuple[int, int] | None:
    for line in head.split("\r\n"):
        name, _, value = line.partition(":")
        if name.lower() == "range":
            first, _, last = value.strip().removeprefix("bytes=").partition("-")
            return int(first), min(int(last or size - 1), size - 1)
    return None


def _listing(folder: Path) -> list[dict[str, object]]:
    """The files that have a hash, as the hub lists them."""
    found = []
    for note in sorted(folder.glob("*.sha256")):
        file, digest = note.with_suffix(""), note.read_text(encoding="utf-8")
        lfs = {"oid": digest, "size": file.stat().st_size, "pointerSize": 134}
        found.append({"type": "file", "path": file.name, "size": lfs["size"], "oid": digest[:40], "lfs": lfs})
    return found


def _tell(connection: socket.socket, value: object) -> None:
    body = json.dumps(value).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)


def _answer(connection: socket.socket, head: str, folder: Path) -> None:
    method, address, _ = head.split("\r\n", 1)[0].split(" ", 2)
    if address.startswith(f"/api/models/{REPO}/tree/"):
        _tell(connection, _listing(folder))
        return
    if address.startswith(f"/api/models/{REPO}"):
        _tell(connection, {"id": REPO, "modelId": REPO, "sha": COMMIT, "siblings": [], "tags": []})
        return
    path = folder / Path(unquote(address.partition("?")[0])).name
    if not path.is_file():
        connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        return
    size = path.stat().st_size
    span = _span(head, size)
    first, last = span or (0, size - 1)
    lines = [
        "HTTP/1.1 206 Partial Content" if span else "HTTP/1.1 200 OK",
        f"Content-Length: {last - first + 1}",
        "Accept-Ranges: bytes",
        f'ETag: "{(folder / (path.name + ".sha256")).read_text()}"',
        f"X-Repo-Commit: {COMMIT}",
        *([f"Content-Range: bytes {first}-{last}/{size}"] if span else []),
    ]
    connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
    if method == "GET":
        with path.open("rb") as file:
            while first <= last:
                first += os.sendfile(connection.fileno(), file.fileno(), first, last - first + 1)


def _serve(connection: socket.socket, folder: Path) -> None:
    with connection, contextlib.suppress(OSError):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while head := _head(connection):
            _answer(connection, head, folder)


def main() -> None:
    """Serve the folder of the first argument."""
    folder = Path(sys.argv[1])
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)

    def accept() -> None:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_serve, args=(connection, folder), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    print(listener.getsockname()[1], flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
