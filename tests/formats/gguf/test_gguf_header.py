"""GGUF headers: read as the gguf package reads them, and refused when anything in them cannot be."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import numpy as np
import pytest
from tests.support.tiny_files import (
    ARRAY,
    BOOL,
    FLOAT32,
    STRING,
    UINT32,
    GgufBytes,
    TinyLlama,
    bounded_memory,
    gguf_string,
    gguf_strings,
    gguf_tensor,
    survives,
    write_llama_gguf,
)

from fastslm.errors import FormatError
from fastslm.formats import open_model
from fastslm.formats.gguf.header import GgufHeader


def opened(tmp_path: Path, file: GgufBytes) -> GgufHeader:
    path = tmp_path / "x.gguf"
    path.write_bytes(file.build())
    return GgufHeader(path)


def test_metadata_and_directory_agree_with_the_gguf_package(tmp_path):
    """The reference reader takes seconds for a real vocabulary; ours must see the same."""
    import gguf

    path = tmp_path / "x.gguf"
    write_llama_gguf(path, extra={"general.tags": ["a", "ü"], "x.flag": True, "x.floats": [1.5, 2.5]})
    header, reference = GgufHeader(path), gguf.GGUFReader(path)
    expected = {key: field.contents() for key, field in reference.fields.items() if not key.startswith("GGUF.")}
    found = {key: v.tolist() if isinstance(v, np.ndarray) else v for key, v in header.metadata.items()}
    assert found == expected
    for tensor in reference.tensors:
        ours = header.tensors[tensor.name]
        assert (ours.type_name, ours.shape) == (tensor.tensor_type.name, tuple(reversed(tensor.shape.tolist())))
        assert (ours.offset, ours.size_bytes) == (tensor.data_offset, tensor.n_bytes)
    assert len(header.tensors) == len(reference.tensors)


@pytest.mark.parametrize("version", [2, 3])
def test_both_versions_in_use_are_read(tmp_path, version):
    file = GgufBytes([("a", UINT32, struct.pack("<I", 5))], version=struct.pack("<I", version))
    assert dict(opened(tmp_path, file).metadata) == {"a": 5}


def test_an_alignment_of_the_file_is_kept(tmp_path):
    values = [("general.alignment", UINT32, struct.pack("<I", 64))]
    file = GgufBytes(values, [gguf_tensor("t", [2], offset=64)], bytes(64) + struct.pack("<2f", 1, 2), alignment=64)
    tensor = opened(tmp_path, file).tensors["t"]
    assert tensor.offset % 64 == 0
    assert tensor.size_bytes == 8


def array(kind: int, count: int, raw: bytes = b"") -> bytes:
    return struct.pack("<IQ", kind, count) + raw


HOSTILE = {
    "magic": (GgufBytes(magic=b"GGML"), "begins with b'GGML'"),
    "old version": (GgufBytes(version=struct.pack("<I", 1)), "version 1, expected 2 or 3"),
    "new version": (GgufBytes(version=struct.pack("<I", 4)), "version 4"),
    "big endian": (GgufBytes(version=struct.pack(">I", 3)), "big-endian"),
    "value count": (GgufBytes(value_count=1 << 60), "metadata values, but has room"),
    "tensor count": (GgufBytes(tensor_count=(1 << 64) - 1), "tensors, but has room"),
    "empty key": (GgufBytes(value_count=1, data=bytes(8)), "metadata key of 0 bytes"),
    "string length": (GgufBytes([("a", STRING, struct.pack("<Q", 1 << 62))]), "ends inside `a`"),
    "string wraps": (GgufBytes([("a", STRING, struct.pack("<Q", (1 << 64) - 8))]), "ends inside `a`"),
    "array count": (GgufBytes([("a", ARRAY, array(FLOAT32, 1 << 61))]), "items in `a`"),
    "string array": (GgufBytes([("a", ARRAY, array(STRING, 3, gguf_string("x")))]), "items in `a`|ends inside `a`"),
    "string in array": (GgufBytes([("a", ARRAY, array(STRING, 1, struct.pack("<Q", 1 << 50)))]), "ends inside `a`"),
    "nested array": (GgufBytes([("a", ARRAY, array(ARRAY, 1, array(UINT32, 0)))]), "value type 9"),
    "value type": (GgufBytes([("a", 77, bytes(8))]), "value type 77"),
    "bool": (GgufBytes([("a", BOOL, b"\x02")]), "neither true nor false"),
    "key twice": (GgufBytes([("a", UINT32, bytes(4))] * 2), "key `a` twice"),
    "key length": (GgufBytes([("k" * 1025, UINT32, bytes(4))]), "metadata key of 1025 bytes"),
    "key with escapes": (GgufBytes([("a\x1b[2J", UINT32, bytes(4))]), r"not printable text: `b'a\\x1b\[2J'`"),
    "tensor with newline": (GgufBytes([], [gguf_tensor("a\nb", [1])], bytes(64)), "tensor name that is not printable"),
    "key text": (GgufBytes([(b"\xff", UINT32, bytes(4))], data=bytes(64)), "metadata key that is not printable text"),
    "alignment zero": (GgufBytes([("general.alignment", UINT32, bytes(4))]), "expected a power of two"),
    "alignment": (GgufBytes([("general.alignment", UINT32, struct.pack("<I", 48))]), "expected a power of two"),
    "alignment text": (GgufBytes([("general.alignment", STRING, gguf_string("32"))]), "expected a power of two"),
    "tensor twice": (GgufBytes([], [gguf_tensor("t", [8])] * 2, bytes(64)), "tensor `t` twice"),
    "tensor type": (GgufBytes([], [gguf_tensor("t", [8], 4)], bytes(64)), "unknown type number 4"),
    "no dimensions": (GgufBytes([], [gguf_tensor("t", [], 0) + bytes(8)], bytes(64)), "0 dimensions"),
    "five dimensions": (GgufBytes([], [gguf_tensor("t", [1] * 5)], bytes(64)), "5 dimensions"),
    "empty dimension": (GgufBytes([], [gguf_tensor("t", [8, 0])], bytes(64)), "whole numbers from 1"),
    "huge": (GgufBytes([], [gguf_tensor("t", [1 << 32, 1 << 32])], bytes(64)), "whole numbers from 1"),
    "beyond the end": (GgufBytes([], [gguf_tensor("t", [17])], bytes(64)), "or more for tensor `t`"),
    "offset beyond": (GgufBytes([], [gguf_tensor("t", [1], 0, 1 << 62)], bytes(64)), "or more for tensor `t`"),
    "offset crooked": (GgufBytes([], [gguf_tensor("t", [1], 0, 4)], bytes(64)), "a multiple of 32"),
    "half a block": (GgufBytes([], [gguf_tensor("t", [33], 8)], bytes(64)), "a multiple of 32 for Q8_0"),
    "overlap": (GgufBytes([], [gguf_tensor("t", [9]), gguf_tensor("u", [8], 0, 32)], bytes(128)), "inside `t`"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_headers_are_refused(tmp_path, case):
    """Each is a way to make a careless reader crash, read beyond the file, or ask for terabytes."""
    file, message = HOSTILE[case]
    with bounded_memory(), pytest.raises(FormatError, match=message):
        opened(tmp_path, file)


def test_text_that_is_not_utf8_is_refused_when_it_is_read(tmp_path):
    """A damaged comment must not hide a good model."""
    header = opened(tmp_path, GgufBytes([("a", STRING, gguf_string(b"\xff\xfe")), ("b", UINT32, bytes(4))]))
    assert header.metadata["b"] == 0
    with pytest.raises(FormatError, match="`a` is not UTF-8"):
        header.metadata["a"]


def test_arrays_come_as_lists_of_text_and_as_numbers(tmp_path):
    values = [("s", ARRAY, gguf_strings(["", "ü", "x y"])), ("n", ARRAY, array(FLOAT32, 2, struct.pack("<2f", 1, 2)))]
    metadata = opened(tmp_path, GgufBytes(values)).metadata
    assert metadata["s"] == ["", "ü", "x y"]
    assert metadata["n"].tolist() == [1.0, 2.0]
    assert len(metadata) == 2


def read_everything(path: Path) -> None:
    model = open_model(path)
    for name in model.tensors:
        model.tensors.read(name, 0, 2)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.gguf"
    write_llama_gguf(path, TinyLlama(layers=1))
    return path


def test_a_file_cut_anywhere_is_refused(small, tmp_path):
    """A download that stopped early, or a disk that lied."""
    whole, path = small.read_bytes(), tmp_path / "cut.gguf"
    lengths = [*range(0, min(len(whole), 9000), 61), *range(9000, len(whole), 4999), len(whole) - 1]
    with bounded_memory():
        for length in lengths:
            path.write_bytes(whole[:length])
            with pytest.raises(FormatError):
                GgufHeader(path)


def test_flipped_header_bytes_give_a_refusal_or_a_sound_model(small, tmp_path):
    """Whatever byte is damaged, the user reads one sentence and not a traceback."""
    whole, rng, path = small.read_bytes(), random.Random(11), tmp_path / "flipped.gguf"
    end = min(tensor.offset for tensor in GgufHeader(small).tensors.values())
    outcomes = set()
    with bounded_memory():
        for _ in range(400):
            damaged = bytearray(whole)
            for _ in range(rng.choice([1, 1, 4])):
                damaged[rng.randrange(end)] = rng.choice([0, 1, 127, 128, 255, rng.randrange(256)])
            path.write_bytes(damaged)
            outcomes.add(survives(lambda: read_everything(path)))
    assert outcomes == {True, False}
