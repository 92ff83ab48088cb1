"""Packed frames of a file: every span comes back whole, memory has a limit, and strange files stay as they are."""

from __future__ import annotations

import asyncio
import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastslm import _native
from fastslm.errors import FormatError, UsageError
from fastslm.formats.safetensors import Region
from fastslm.hub.client import RemoteFile
from fastslm.mirror.frames import FrameKeeper, cuts, frame_blocks, regions_of
from fastslm.mirror.ranges import Span
from fastslm.mirror.shelf import Stored
from support.tiny_files import safetensors_bytes, write_safetensors


def _stored(path: Path) -> Stored:
    return Stored(RemoteFile(path.name, path.stat().st_size, "0" * 40, f"{path.stat().st_ino:064x}"), path)


@pytest.fixture
def stored(tmp_path: Path, weights: bytes) -> Stored:
    (tmp_path / "model.safetensors").write_bytes(weights)
    return _stored(tmp_path / "model.safetensors")


def _frames(stored: Stored, span: Span, keeper: FrameKeeper) -> list[bytes]:
    async def collect() -> list[bytes]:
        with ThreadPoolExecutor(2) as pool:
            return [frame async for frame in frame_blocks(stored, span, pool, keeper, regions_of(stored))]

    return asyncio.run(collect())


@pytest.mark.parametrize(("begin", "end"), [(0, None), (1, 2), (7, 3_000_001), (2_252_801, 2_300_000), (None, None)])
def test_a_span_comes_back_whole(stored: Stored, weights: bytes, begin: int | None, end: int | None) -> None:
    """Wherever it begins and ends, also in the middle of a number."""
    size = len(weights)
    span = Span(size - 1 if begin is None else begin, size if end is None else end, size, partial=True)
    position, back = span.begin, b""
    for frame in _frames(stored, span, FrameKeeper()):
        back += _native.unpack_frame(frame, offset=position)
        position = span.begin + len(back)
    assert back == weights[span.begin : span.end]


def test_the_weights_are_packed_by_kind(stored: Stored, weights: bytes) -> None:
    """A third of the bfloat16 is gone, a sixth of the rest; bytes and header are not made of numbers."""
    regions = regions_of(stored)
    assert [region.width for region in regions] == [1, 2, 1, 4, 2]
    assert (regions[0].begin, regions[-1].end) == (0, len(weights))
    frames = _frames(stored, Span(0, len(weights), len(weights), partial=False), FrameKeeper())
    assert sum(map(len, frames)) < 0.8 * len(weights)


def test_a_class_packs_once(stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second pupil's frames come from memory, which never holds more than it may."""
    size = stored.file.size
    span, keeper = Span(0, size, size, partial=False), FrameKeeper(most_bytes=1_500_000)
    first = _frames(stored, span, keeper)
    assert 0 < keeper._bytes <= 1_500_000
    large = FrameKeeper()
    assert _frames(stored, span, large) == first
    monkeypatch.setattr(_native, "pack_frame", None)
    assert _frames(stored, span, large) == first


@pytest.mark.parametrize(
    "content",
    [b"", b"garbage", safetensors_bytes({}), safetensors_bytes(b"{" * 1000), safetensors_bytes({"a": {}}, b"12")],
)
def test_a_file_that_only_looks_like_safetensors_is_sent_as_it_is(tmp_path: Path, content: bytes) -> None:
    """Its owner may have such a file; the mirror does not care."""
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    assert regions_of(_stored(path)) == ()


def test_files_without_floats_and_other_files_are_sent_as_they_are(tmp_path: Path, stored: Stored) -> None:
    """Packing would cost time and save nothing."""
    write_safetensors(tmp_path / "q.safetensors", {"a": ("U8", np.zeros(5000)), "b": ("F32", np.zeros(10))})
    assert regions_of(_stored(tmp_path / "q.safetensors")) == ()
    (tmp_path / "m.gguf").write_bytes(stored.path.read_bytes())
    assert regions_of(_stored(tmp_path / "m.gguf")) == ()
    longer = dataclasses.replace(stored, file=dataclasses.replace(stored.file, size=stored.file.size + 1))
    assert regions_of(longer) == ()


@given(
    st.lists(st.tuples(st.integers(1, 50), st.sampled_from([1, 2, 4])), min_size=1, max_size=8),
    st.integers(1, 64),
    st.data(),
)
def test_frames_cover_a_span_exactly(pieces: list[tuple[int, int]], frame_bytes: int, data: st.DataObject) -> None:
    """Without gap or overlap, each inside one region and one stretch of the file."""
    regions, end = [], 0
    for length, width in pieces:
        regions.append(Region(end, end + length, width))
        end += length
    first = data.draw(st.integers(0, end - 1))
    last = data.draw(st.integers(first + 1, end))
    position = first
    for begin, stop, region in cuts(Span(first, last, end, partial=True), tuple(regions), frame_bytes):
        assert begin == position < stop
        assert region.begin <= begin
        assert stop <= region.end
        assert begin // frame_bytes == (stop - 1) // frame_bytes
        position = stop
    assert position == last


@given(st.binary(min_size=1, max_size=300), st.sampled_from([1, 2, 4]), st.integers(0, 3), st.integers(0, 1 << 62))
def test_packing_loses_nothing(raw: bytes, width: int, lead: int, offset: int) -> None:
    """Whatever the bytes are."""
    frame = _native.pack_frame(raw, offset=offset, width=width, lead=lead % width)
    assert _native.unpack_frame(frame, offset=offset) == raw


@given(st.binary(max_size=200))
def test_a_strangers_bytes_are_no_frame(garbage: bytes) -> None:
    """The error says so."""
    with pytest.raises(FormatError):
        _native.unpack_frame(garbage, offset=0)


def test_wrong_arguments_of_the_packer() -> None:
    """Each has its sentence."""
    for raw, width, lead in ((b"", 1, 0), (b"x", 3, 0), (b"x", 2, 2), (bytes((1 << 20) + 1), 1, 0)):
        with pytest.raises(UsageError):
            _native.pack_frame(raw, offset=0, width=width, lead=lead)


def test_descriptors_are_closed_when_a_client_leaves(stored: Stored) -> None:
    """In the middle of a file as well."""

    async def leave() -> None:
        span = Span(0, stored.file.size, stored.file.size, partial=False)
        with ThreadPoolExecutor(2) as pool:
            blocks = frame_blocks(stored, span, pool, FrameKeeper(), regions_of(stored))
            async for _ in blocks:
                break
            await blocks.aclose()  # type: ignore[attr-defined]

    folder = Path("/proc/self/fd")
    before = len(list(folder.iterdir())) if folder.exists() else 0
    asyncio.run(leave())
    assert not before or len(list(folder.iterdir())) <= before
