"""The engine over lines that are slow, far away and unreliable, made of a relay on the loopback."""

from __future__ import annotations

import hashlib
import random
import time
from pathlib import Path
from typing import Any

import pytest

from fastslm import _native
from support.range_server import RangeServer, serving
from support.relay import Line, Relay, relaying

MB = 1_000_000
DATA = random.Random(5).randbytes(6 * MB)
DIGEST = hashlib.sha256(DATA).hexdigest()


def upstream(server: RangeServer) -> tuple[str, int]:
    return "127.0.0.1", server.server_address[1]


def fetched(relay: Relay, folder: Path, **options: Any) -> tuple[_native.Progress, float]:
    file = _native.FileRequest(
        url=f"http://127.0.0.1:{relay.port}/f",
        partial_path=str(folder / "partial"),
        journal_path=str(folder / "journal"),
        size_bytes=len(DATA),
        hash_algorithm="sha256",
        expected_hash=DIGEST,
    )
    began = time.monotonic()
    download = _native.Download([file], _native.DownloadOptions(**({"backoff_s": 0.05} | options)))
    assert download.wait(60)
    [progress] = download.progress().files
    assert progress.error is None
    assert (folder / "partial").read_bytes() == DATA
    return download.progress(), time.monotonic() - began


def test_a_line_with_a_cap_for_each_connection_gets_many(tmp_path: Path) -> None:
    """One connection would need twelve seconds."""
    with serving({"/f": DATA}) as server, relaying(upstream(server), Line(rate=0.5 * MB, delay_s=0.02)) as relay:
        _, seconds = fetched(relay, tmp_path)
        assert relay.connections > 4
    assert seconds < 8


def test_a_line_that_one_connection_fills_gets_few(tmp_path: Path) -> None:
    """Whatever was tried, the bytes that came twice are few."""
    with serving({"/f": DATA}) as server, relaying(upstream(server), Line(link=3 * MB, delay_s=0.02)) as relay:
        progress, _ = fetched(relay, tmp_path)
    assert progress.wire_bytes < 1.1 * len(DATA)


@pytest.mark.parametrize("kind", ["crawl", "stall", "reset"])
def test_one_bad_connection_in_four_does_not_decide(tmp_path: Path, kind: str) -> None:
    """Its bytes are fetched by others; alone the crawling one would take minutes."""
    line = Line(rate=MB, delay_s=0.01, bad_every=4, bad_rate=5000, bad_after=100_000, bad_kind=kind)
    with serving({"/f": DATA}) as server, relaying(upstream(server), line) as relay:
        _, seconds = fetched(relay, tmp_path, connections=8, adaptive=False)
    assert seconds < 20


def test_a_rate_limit_is_exact(tmp_path: Path) -> None:
    """Over all connections together, with a little slack for a busy machine."""
    with serving({"/f": DATA}) as server, relaying(upstream(server), Line(delay_s=0.005)) as relay:
        _, seconds = fetched(relay, tmp_path, limit_rate_bytes_s=2 * MB)
    assert 0.93 * 3 < seconds < 2 * 3
