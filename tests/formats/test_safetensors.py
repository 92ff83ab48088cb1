"""safetensors: what sound files hold, and that no damaged one is believed."""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.tiny_files import bounded_memory, safetensors_bytes, survives, write_safetensors

from fastslm.errors import FileMissing, FormatError, UnsupportedModel
from fastslm.formats.floats import ITEM_TYPES
from fastslm.formats.safetensors import INDEX_NAME, SafetensorsFile, open_safetensors

RNG = np.random.default_rng(3)
MATRIX = RNG.standard_normal((6, 4)).astype(np.float32)
BF16 = (MATRIX.view(np.uint32) >> 16).astype(np.uint16)


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    tensors = {"a.f32": ("F32", MATRIX), "b.bf16": ("BF16", BF16), "c.f16": ("F16", MATRIX), "d.f64": ("F64", MATRIX)}
    write_safetensors(path, {**tensors, "e.scalar": ("F32", np.float32(7).reshape(())), "f.ids": ("I64", np.arange(3))})
    return path


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.f32", MATRIX),
        ("b.bf16", (BF16.astype(np.uint32) << 16).view(np.float32)),
        ("c.f16", MATRIX.astype(np.float16).astype(np.float32)),
        ("d.f64", MATRIX),
    ],
)
def test_every_float_type_reads_as_float32_by_rows(sound, name, expected):
    """bfloat16 is what most models come in; numpy does not know it."""
    file = SafetensorsFile(sound)
    read = file.read(name)
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, expected)
    np.testing.assert_array_equal(file.read(name, 2, 5), expected[2:5])
    np.testing.assert_array_equal(file.read(name, 4), expected[4:])
    assert file.read(name, 5, 2).shape == (0, 4)
    assert file.info(name).shape == (6, 4)


def test_scalars_are_read_and_integers_are_refused(sound):
    file = SafetensorsFile(sound)
    assert file.read("e.scalar") == np.float32(7)
    with pytest.raises(UnsupportedModel, match=r"`f\.ids` has type `I64`"):
        file.read("f.ids")


def test_a_missing_tensor_and_blocks_of_plain_floats_are_named(sound):
    file = SafetensorsFile(sound)
    with pytest.raises(FormatError, match="tensor `nope` is missing"):
        file.read("nope")
    with pytest.raises(FormatError, match=r"`a\.f32` has type `F32`, expected quantised blocks"):
        file.blocks("a.f32")


def test_what_was_read_can_be_changed_without_changing_the_file(sound):
    """The map is read-only; a caller that scales weights in place must get its own copy."""
    file = SafetensorsFile(sound)
    file.read("a.f32")[:] = 0
    np.testing.assert_array_equal(file.read("a.f32"), MATRIX)


def entry(begin, end, *, dtype="F32", shape=(2,)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


HOSTILE = {
    "overlap": ({"a": entry(0, 8), "b": entry(4, 12)}, 12, "overlaps"),
    "hole": ({"a": entry(0, 8), "b": entry(12, 20)}, 20, "leaves a hole"),
    "trailing": ({"a": entry(0, 8)}, 9, "holds 9 bytes of tensor data, expected 8"),
    "beyond": ({"a": entry(0, 8)}, 4, "holds 4 bytes"),
    "wrong size": ({"a": entry(0, 12)}, 12, "takes 12 bytes, expected 8"),
    "reversed": ({"a": entry(8, 0)}, 8, "takes -8 bytes"),
    "negative": ({"a": entry(-8, 0)}, 0, "data_offsets"),
    "huge dimensions": ({"a": entry(0, 8, shape=(1 << 62, 1 << 62))}, 8, "expected"),
    "beyond 64 bits": ({"a": entry(0, 8, shape=(1 << 63,))}, 8, "shape"),
    "float dimension": ({"a": entry(0, 8, shape=(2.0,))}, 8, "shape"),
    "boolean dimension": ({"a": entry(0, 4, shape=(True,))}, 4, "shape"),
    "rank": ({"a": entry(0, 4, shape=(1,) * 17)}, 4, "17 dimensions"),
    "unknown type": ({"a": entry(0, 8, dtype="F12")}, 8, "unknown type"),
    "type is a list": ({"a": entry(0, 8, dtype=["F32"])}, 8, "unknown type"),
    "name with escapes": ({"a\x1b[2J": entry(0, 8)}, 8, "tensor name that is not printable"),
    "long name": ({"n" * 1025: entry(0, 8)}, 8, "tensor name that is not printable"),
    "missing field": ({"a": {"dtype": "F32"}}, 0, "expected dtype, shape and data_offsets"),
    "no object": ({"a": 3}, 0, "described by"),
    "not json": (b"{no}", 0, "not valid JSON"),
    "a list": (b"[1, 2]", 0, "not a JSON object"),
    "twice": (b'{"a": 1, "a": 1}', 0, "occurs twice"),
    "nested": (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 0, "described by|nested too deeply"),
    "nan": (b'{"a": NaN}', 0, "not a JSON number"),
    "not utf-8": (b'{"\xff\xfe": 1}', 0, "not UTF-8"),
    "long number": (b'{"a": ' + b"9" * 5000 + b"}", 0, "not valid JSON|described by"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_headers_are_refused(tmp_path, case):
    """Each of these has crashed or fooled some reader."""
    header, size, message = HOSTILE[case]
    path = tmp_path / "x.safetensors"
    path.write_bytes(safetensors_bytes(header, bytes(size)))
    with bounded_memory(), pytest.raises(FormatError, match=message):
        SafetensorsFile(path)


@pytest.mark.parametrize("length", [0, 1, 9, 100_000_001, 1 << 40, (1 << 64) - 1])
def test_a_header_longer_than_the_file_or_the_limit_is_refused(tmp_path, length):
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", length) + b"{}")
    with bounded_memory(), pytest.raises(FormatError, match=f"a header of {length} bytes"):
        SafetensorsFile(path)


@pytest.mark.parametrize("content", [b"", b"abc"])
def test_files_too_short_for_a_header_are_refused(tmp_path, content):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(FormatError):
        SafetensorsFile(path)


def read_everything(path: Path) -> None:
    file = SafetensorsFile(path)
    for name in file:
        if file.info(name).dtype in ITEM_TYPES:
            file.read(name)


def test_a_file_cut_anywhere_is_refused(sound, tmp_path):
    whole = sound.read_bytes()
    path = tmp_path / "cut"
    for length in range(0, len(whole), 5):
        path.write_bytes(whole[:length])
        with pytest.raises(FormatError):
            SafetensorsFile(path)


def test_flipped_bytes_give_a_refusal_or_a_sound_file(sound, tmp_path):
    """No other exception, whatever byte of the header is damaged."""
    whole, rng, path = sound.read_bytes(), random.Random(5), tmp_path / "flipped"
    end = 8 + struct.unpack("<Q", whole[:8])[0]
    outcomes = set()
    with bounded_memory():
        for _ in range(700):
            damaged = bytearray(whole)
            damaged[rng.randrange(end)] = rng.randrange(256)
            path.write_bytes(damaged)
            outcomes.add(survives(lambda: read_everything(path)))
    assert outcomes == {True, False}


@given(
    st.dictionaries(st.text(max_size=8).filter(str.isprintable), st.lists(st.integers(0, 4), max_size=3), max_size=6)
)
def test_any_set_of_shapes_comes_back(tmp_path_factory, shapes):
    """Names in any script, empty tensors, scalars."""
    path = tmp_path_factory.mktemp("any") / "x.safetensors"
    arrays = {
        name: RNG.standard_normal(shape).astype(np.float32) for name, shape in shapes.items() if name != "__metadata__"
    }
    write_safetensors(path, {name: ("F32", array) for name, array in arrays.items()})
    file = SafetensorsFile(path)
    assert set(file) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(file.read(name), array)


def sharded(folder: Path, weight_map: dict[str, object]) -> Path:
    write_safetensors(folder / "m-1.safetensors", {"a": ("F32", MATRIX)})
    write_safetensors(folder / "m-2.safetensors", {"b": ("BF16", BF16)})
    (folder / INDEX_NAME).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def test_shards_read_as_one_model(tmp_path):
    tensors, files = open_safetensors(sharded(tmp_path, {"a": "m-1.safetensors", "b": "m-2.safetensors"}))
    assert sorted(tensors) == ["a", "b"]
    assert "b" in tensors
    np.testing.assert_array_equal(tensors.read("a", 1, 3), MATRIX[1:3])
    assert files == {name: (tmp_path / name).stat().st_size for name in ("m-1.safetensors", "m-2.safetensors")}


def test_a_tensor_that_its_shard_does_not_have_is_named(tmp_path):
    with pytest.raises(FormatError, match=r"places tensor `c` in `m-1\.safetensors`"):
        open_safetensors(sharded(tmp_path, {"a": "m-1.safetensors", "c": "m-1.safetensors"}))


def test_a_vanished_shard_is_named(tmp_path):
    with pytest.raises(FileMissing, match=r"m-3\.safetensors"):
        open_safetensors(sharded(tmp_path, {"a": "m-3.safetensors"}))


@pytest.mark.parametrize(
    "name", ["../m-1.safetensors", "/etc/passwd", "x/m-1.safetensors", "..", "a\\b.safetensors", 3, None, "m.bin"]
)
def test_an_index_cannot_reach_out_of_its_folder(tmp_path, name):
    with pytest.raises(FormatError, match="expected a file name"):
        open_safetensors(sharded(tmp_path, {"a": name}))


def test_several_files_without_an_index_are_ambiguous(tmp_path):
    sharded(tmp_path, {"a": "m-1.safetensors"})
    (tmp_path / INDEX_NAME).unlink()
    with pytest.raises(FormatError, match="holds 2 safetensors files"):
        open_safetensors(tmp_path)
