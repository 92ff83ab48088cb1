"""How the bytes of a file leave: in blocks read by threads, as fast as the client takes them, and never all at once.

A file that is on its way is followed as it grows. A body that cannot be finished is left unfinished, which cuts the
connection: a client then knows that it has not got the file.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from concurrent.futures import Executor
from contextlib import aclosing
from typing import Any

from fastslm.mirror.flights import Flight
from fastslm.mirror.ranges import Span
from fastslm.mirror.shelf import Stored

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Receive = Callable[[], Awaitable[Message]]

BLOCK_BYTES = 1 << 20
STALLED_S = 120.0
"""How long a client may take nothing."""

GLANCE_S = 0.05
"""How often a growing file is looked at."""


class CutOff(Exception):
    """The rest of a file will not come; stays inside this folder."""


async def stored_blocks(stored: Stored, span: Span, pool: Executor) -> AsyncIterator[bytes]:
    """The bytes of a span; the next block is read while one is sent."""
    loop = asyncio.get_running_loop()
    descriptor = await loop.run_in_executor(pool, stored.open)
    following: asyncio.Future[bytes] | None = None
    try:
        position = span.begin
        following = _read(loop, pool, descriptor, position, span.end)
        while position < span.end:
            block = await following
            if not block:
                raise CutOff
            position += len(block)
            following = _read(loop, pool, descriptor, position, span.end)
            yield block
    finally:
        if following is not None:
            await asyncio.wait([following])
        os.close(descriptor)


def _read(
    loop: asyncio.AbstractEventLoop, pool: Executor, descriptor: int, position: int, end: int
) -> asyncio.Future[bytes]:
    return loop.run_in_executor(pool, os.pread, descriptor, min(BLOCK_BYTES, end - position), position)


async def until_readable(flight: Flight, position: int, timeout_s: float) -> bool:
    """Whether there is a byte at ``position``, now or soon. Raises the flight's error when it failed."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while not (flight.over or flight.readable > position):
        if asyncio.get_running_loop().time() >= deadline:
            return False
        await asyncio.sleep(GLANCE_S)
    if flight.error is not None:
        raise flight.error
    return True


async def flight_blocks(flight: Flight, span: Span, pool: Executor) -> AsyncIterator[bytes]:
    """The bytes of a span as they arrive. Raises CutOff when the file fails, or was wrong while it was read."""
    loop = asyncio.get_running_loop()
    began_in_doubt = flight.doubted
    while flight.readable <= span.begin < span.end and not flight.over:
        await asyncio.sleep(GLANCE_S)
    descriptor = await loop.run_in_executor(pool, flight.open)
    try:
        position = span.begin
        while position < span.end:
            while flight.readable <= position and not flight.over and flight.doubted == began_in_doubt:
                await asyncio.sleep(GLANCE_S)
            here = min(flight.readable, span.end)
            block = await _read(loop, pool, descriptor, position, here) if here > position else b""
            if not block or flight.doubted != began_in_doubt:
                raise CutOff
            position += len(block)
            yield block
    finally:
        os.close(descriptor)


async def send_body(send: Send, receive: Receive, blocks: AsyncIterator[bytes]) -> None:
    """Send all blocks; stops in the middle when the client has gone, takes nothing, or there is no rest."""
    gone = asyncio.ensure_future(_until_gone(receive))
    try:
        async with aclosing(blocks) as body:  # type: ignore[type-var]
            async for block in body:
                if gone.done():
                    return
                message = {"type": "http.response.body", "body": block, "more_body": True}
                await asyncio.wait_for(send(message), STALLED_S)
        await send({"type": "http.response.body", "body": b"", "more_body": False})
    except (CutOff, TimeoutError, asyncio.TimeoutError, OSError):
        return
    finally:
        gone.cancel()


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
