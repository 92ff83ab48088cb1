"""Packed frames of a stored file, made when they are asked for and kept in memory for the next client of a class.

Only a safetensors file that is mostly floats is offered packed. Memory has a limit, and nothing is kept on disk.
"""

from __future__ import annotations

import asyncio
import os
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Executor
from functools import lru_cache
from pathlib import Path

from fastslm.errors import FastSLMError
from fastslm.formats.safetensors import Region, number_regions
from fastslm.mirror.ranges import Span
from fastslm.mirror.sending import CutOff
from fastslm.mirror.shelf import Stored, etag_of

KEPT_BYTES = 256 << 20
LEAST_FLOATS = 0.5
"""The share of a file that must be floats."""


class FrameKeeper:
    """The packed frames that were sent last; thread-safe."""

    def __init__(self, most_bytes: int = KEPT_BYTES) -> None:
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._frames: OrderedDict[tuple[str, int, int], bytes] = OrderedDict()
        self._bytes = 0

    def frame(self, etag: str, descriptor: int, begin: int, end: int, region: Region) -> bytes:
        """The bytes ``begin`` to ``end``, all of one region, packed. Raises CutOff when the file has become shorter."""
        from fastslm import _native

        key = (etag, begin, end)
        with self._lock:
            known = self._frames.pop(key, None)
            if known is not None:
                self._frames[key] = known
                return known
        raw = os.pread(descriptor, end - begin, begin)
        if len(raw) != end - begin:
            raise CutOff
        lead = (region.begin - begin) % region.width
        made = _native.pack_frame(raw, offset=begin, width=region.width, lead=lead)
        self._keep(key, made)
        return made

    def _keep(self, key: tuple[str, int, int], frame: bytes) -> None:
        with self._lock:
            if key in self._frames:
                return
            self._frames[key] = frame
            self._bytes += len(frame)
            while self._bytes > self._most_bytes:
                _, dropped = self._frames.popitem(last=False)
                self._bytes -= len(dropped)


def regions_of(stored: Stored) -> tuple[Region, ...]:
    """What a file's bytes are, if it is worth packing; else nothing."""
    if not stored.file.path.endswith(".safetensors"):
        return ()
    regions = _regions(stored.path, etag_of(stored.file))
    return regions if regions and regions[-1].end == stored.file.size else ()


@lru_cache(maxsize=64)
def _regions(path: Path, etag: str) -> tuple[Region, ...]:
    try:
        regions = number_regions(path)
    except FastSLMError:
        return ()
    floats = sum(region.end - region.begin for region in regions if region.width > 1)
    return regions if floats >= LEAST_FLOATS * regions[-1].end else ()


def cuts(span: Span, regions: tuple[Region, ...], frame_bytes: int) -> Iterator[tuple[int, int, Region]]:
    """The frames of a span: they end at multiples of ``frame_bytes`` and where a region ends."""
    begins = [region.begin for region in regions]
    position = span.begin
    while position < span.end:
        region = regions[bisect_right(begins, position) - 1]
        end = min(span.end, region.end, (position // frame_bytes + 1) * frame_bytes)
        yield position, end, region
        position = end


async def frame_blocks(
    stored: Stored, span: Span, pool: Executor, keeper: FrameKeeper, regions: tuple[Region, ...]
) -> AsyncIterator[bytes]:
    """The frames of a span; the next is packed while one is sent."""
    from fastslm import _native

    loop = asyncio.get_running_loop()
    descriptor = await loop.run_in_executor(pool, stored.open)
    under_way: asyncio.Future[bytes] | None = None
    try:
        for begin, end, region in cuts(span, regions, _native.PLANES_FRAME_BYTES):
            following = loop.run_in_executor(pool, keeper.frame, etag_of(stored.file), descriptor, begin, end, region)
            ready, under_way = under_way, following
            if ready is not None:
                yield await ready
        if under_way is not None:
            yield await under_way
    finally:
        if under_way is not None:
            await asyncio.wait([under_way])
        os.close(descriptor)
