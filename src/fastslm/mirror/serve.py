"""Run the mirror under uvicorn on a port of this machine."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from fastslm.config import Settings
from fastslm.errors import FileSystemError, MissingExtra, UsageError
from fastslm.mirror.app import MirrorApp
from fastslm.mirror.shelf import Shelf
from fastslm.mirror.stock import LocalStock, Stock, UpstreamStock

MOST_CONNECTIONS = 2048
IDLE_S = 30
LAST_WORDS_S = 2
"""How long a transfer may go on after Ctrl-C."""


@dataclass(frozen=True)
class Wishes:
    """Where to listen (port 0: any that is free), and whom to ask for what is not here (empty: nobody)."""

    host: str = "127.0.0.1"
    port: int = 8090
    upstream: str = ""


@dataclass(frozen=True)
class Opening:
    """What is being served, told once the port is open. ``models``: names and bytes."""

    url: str
    loopback: bool
    models: tuple[tuple[str, int], ...]
    upstream: str


def serve(settings: Settings, wishes: Wishes, opened: Callable[[Opening], None]) -> None:
    """Serve until the process is asked to stop.

    Raises:
        MissingExtra: uvicorn is not installed.
        UsageError: the host has no address on this machine.
        FileSystemError: the port is taken or not allowed.
    """
    try:
        import uvicorn
    except ImportError as error:
        message = "the mirror needs uvicorn, which the extra `server` installs"
        raise MissingExtra(message, extra="server", feature="mirror") from error
    shelf = Shelf(settings.hub_cache)
    with _listener(wishes) as listener:
        loopback = _is_loopback(listener.getsockname()[0])
        app = MirrorApp(_stock(shelf, settings, wishes), loopback=loopback)
        config = uvicorn.Config(
            app,
            log_config=None,
            log_level="critical",  # a body that is cut off on purpose is no news
            access_log=False,
            lifespan="on",
            loop="asyncio",
            ws="none",
            limit_concurrency=MOST_CONNECTIONS,
            timeout_keep_alive=IDLE_S,
            timeout_graceful_shutdown=LAST_WORDS_S,
            server_header=False,
        )
        models = tuple((repo, shelf.shared_bytes(repo)) for repo in shelf.repos())
        opened(Opening(_address(wishes.host, listener), loopback, models, wishes.upstream))
        with suppress(KeyboardInterrupt):
            asyncio.run(uvicorn.Server(config).serve(sockets=[listener]))


def _stock(shelf: Shelf, settings: Settings, wishes: Wishes) -> Stock:
    if not wishes.upstream:
        return LocalStock(shelf)
    return UpstreamStock(shelf, replace(settings, endpoint=wishes.upstream, mirrors=()))


def _listener(wishes: Wishes) -> socket.socket:
    try:
        family, _, _, _, place = socket.getaddrinfo(
            wishes.host, wishes.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise UsageError(f"`--host` is `{wishes.host}`: {error}", name="host", value=wishes.host) from error
    try:
        return socket.create_server(place[:2], family=family, backlog=1024)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        reason = "another program listens there" if taken else error.strerror or str(error)
        where = f"{wishes.host}:{wishes.port}"
        raise FileSystemError(f"cannot listen on `{where}`: {reason}", path=where, errno=error.errno or 0) from error


def _address(host: str, listener: socket.socket) -> str:
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{listener.getsockname()[1]}"


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback
