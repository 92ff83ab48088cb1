"""A mirror under uvicorn in a thread, on a port of its own."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from fastslm.mirror.app import MirrorApp
from fastslm.mirror.stock import Stock


@contextmanager
def mirroring(stock: Stock) -> Iterator[str]:
    """The address of a running mirror; it is down, and its threads are gone, when the block ends."""
    config = uvicorn.Config(
        MirrorApp(stock, loopback=True),
        log_config=None,
        log_level="critical",
        access_log=False,
        lifespan="on",
        loop="asyncio",
        ws="none",
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True)
        thread.start()
        try:
            _wait_until(lambda: server.started, 10)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()


def _wait_until(condition: object, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "the mirror did not start"
        time.sleep(0.01)
