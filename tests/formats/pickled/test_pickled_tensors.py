"""`pytorch_model.bin` is read without torch and without running anything that it names."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastslm.errors import FileMissing, FormatError, UnsupportedModel
from fastslm.export.convert import convert
from fastslm.export.options import ConvertOptions
from fastslm.formats import open_model
from fastslm.formats.pickled.tensors import INDEX, SINGLE, PickledFile, open_pickled
from fastslm.formats.safetensors import SafetensorsFile
from support.golden import ROOT
from support.golden_encoders import golden_encoder
from support.pickles import Call, Name, Stored, pickled, tensor, write_model, write_zip
from support.tiny_files import bounded_memory, survives

GOLDEN = ROOT / "pickled"
FORMATS = ["zip.bin", "older.bin"]


@pytest.mark.parametrize("name", FORMATS)
def test_every_tensor_is_as_torch_has_it(name: str) -> None:
    """Views, strides, shared storages, bfloat16, parameters: the same numbers, bit for bit."""
    file = PickledFile(GOLDEN / name)
    with np.load(GOLDEN / "expected.npz") as expected:
        assert set(file) == {*expected.files, "positions"}
        for key in expected.files:
            np.testing.assert_array_equal(file.read(key), expected[key])
            assert file.info(key).shape == expected[key].shape
    assert file.info("brain").dtype == "BF16"
    assert (file.info("positions").dtype, file.info("positions").is_quantized) == ("I64", False)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("key", ["whole", "turned", "steps", "brain"])
def test_rows_are_rows(name: str, key: str) -> None:
    """A matrix is converted a few rows at a time, however it lies."""
    file = PickledFile(GOLDEN / name)
    np.testing.assert_array_equal(file.read(key, 1, 3), file.read(key)[1:3])
    np.testing.assert_array_equal(file.read(key, 2), file.read(key)[2:])


def test_what_cannot_be_asked_for_is_told() -> None:
    """A missing tensor, whole numbers, blocks."""
    file = PickledFile(GOLDEN / "zip.bin")
    with pytest.raises(FormatError, match="tensor `none` is missing"):
        file.read("none")
    with pytest.raises(UnsupportedModel, match="tensor `positions` has type `I64`"):
        file.read("positions")
    with pytest.raises(FormatError, match="expected quantised blocks"):
        file.blocks("whole")


def test_shards_come_with_their_index(tmp_path: Path) -> None:
    """As of large models; what the index promises must be there."""
    shutil.copy(GOLDEN / "zip.bin", tmp_path / "pytorch_model-00001-of-00002.bin")
    shutil.copy(GOLDEN / "older.bin", tmp_path / "pytorch_model-00002-of-00002.bin")
    places = {"whole": "pytorch_model-00001-of-00002.bin", "half": "pytorch_model-00002-of-00002.bin"}
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": places}))
    tensors, files = open_pickled(tmp_path)
    assert (sorted(tensors), sorted(files)) == (["half", "whole"], sorted(places.values()))
    assert tensors.read("half").shape == (3, 4)
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"x": "../model.bin"}}))
    with pytest.raises(FormatError, match="expected a file name"):
        open_pickled(tmp_path)
    with pytest.raises(FileMissing):
        open_pickled(tmp_path / "none")


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("builtins", "eval"),
        ("torch", "load"),
        ("torch._utils", "_rebuild_tensor"),
        ("posix", "system"),
    ],
)
def test_a_hostile_name_is_refused_by_its_name(module: str, name: str, tmp_path: Path) -> None:
    """Nothing is imported, nothing is called, wherever in the file it stands."""
    marker = tmp_path / "was here"
    attack = Call(Name(module, name), f"touch {marker}")
    for root in (attack, {"a": tensor(Stored()), "b": attack}, [attack]):
        with pytest.raises(FormatError, match=f"names the Python object `'{module}.{name}'`"):
            PickledFile(write_zip(tmp_path / "x.bin", root))
    assert not marker.exists()


def test_a_real_attack_does_nothing(tmp_path: Path) -> None:
    """What Python's own unpickler would run."""
    marker = tmp_path / "was here"

    class Attack:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(marker),)

    for protocol in (0, 1, 2, 4):
        data = pickle.dumps(OrderedDict(a=Attack()), protocol)
        for path in (write_zip(tmp_path / "x.bin", data), older(tmp_path / "y.bin", data)):
            with pytest.raises((FormatError, UnsupportedModel)):
                PickledFile(path)
    assert not marker.exists()


def test_a_model_converts_from_it_as_from_safetensors(tmp_path: Path) -> None:
    """The same graph and the same weights, byte for byte."""
    source = golden_encoder("bert", tmp_path / "source").folder
    results = []
    for name in ("safetensors", "pickled"):
        target = tmp_path / name
        target.mkdir()
        convert(open_model(source), target, ConvertOptions("tiny", "0", "int8"))
        results.append([(target / file).read_bytes() for file in ("model.onnx", "model.onnx.data")])
        if name == "safetensors":
            write_model(source / SINGLE, SafetensorsFile(source / "model.safetensors"))
            (source / "model.safetensors").unlink()
    assert results[0] == results[1]


def older(path: Path, *pickles: bytes) -> Path:
    """A file of the older format."""
    facts = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    head = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, facts)]
    path.write_bytes(b"".join([*head, *pickles]))
    return path


@pytest.mark.parametrize(
    ("described", "reason"),
    [
        (tensor(Stored(), shape=(2, 4), strides=(4, 1)), "takes 8 numbers up to 7, expected less than 6"),
        (tensor(Stored(), offset=1), "takes 6 numbers up to 6, expected less than 6"),
        (tensor(Stored(), strides=(3, 2)), "takes 6 numbers up to 7"),
        (tensor(Stored(), shape=(1 << 40,), strides=(0,)), "takes 1099511627776 numbers up to 0"),
        (tensor(Stored(), strides=(1,)), "has 2 dimensions and 1 strides"),
        (tensor(Stored(), shape=(1,) * 20, strides=(1,) * 20), "has 20 dimensions"),
        (tensor(Stored(), shape=(-2, 3)), "a size is `-2`"),
        (tensor(Stored(), offset="x"), "a size is str"),
        (tensor(Stored(), shape=[2, 3]), "a shape is a list"),
        (tensor(Stored(length=7)), "has 24 bytes, expected 7 numbers of type F32"),
        (tensor(Stored("DoubleStorage")), "has 24 bytes, expected 6 numbers of type F64"),
        (tensor(Stored(key="9")), "has -1 bytes, expected 6 numbers"),
        (tensor(Stored(key=("0",))), "a name is a tuple"),
        (tensor("no storage"), "a call of torch._utils._rebuild_tensor_v2"),
    ],
)
def test_a_tensor_outside_its_storage_is_refused(described: Call, reason: str, tmp_path: Path) -> None:
    """Whatever is read lies in the file, and is not more than the file."""
    with pytest.raises(FormatError, match=reason):
        PickledFile(write_zip(tmp_path / "x.bin", {"w": described}))


@pytest.mark.parametrize(
    ("root", "reason"),
    [
        ([1], "holds a list, expected tensors by name"),
        ({(1, 2): 3}, "a key is a tuple"),
        (b"\x80\x02}.extra", None),
        (b"\x80\x02", "is a damaged pickle"),
        (b"", "is a damaged pickle"),
        (b"\x80\x02h\x05.", "is a damaged pickle"),
        (b"\x80\x02R.", "is a damaged pickle"),
        (b"\x80\x02(.", "is a damaged pickle"),
        (b"\x80\x02X\xff\xff\xff\x7fabc.", "is a damaged pickle"),
        (b"\x80\x02}r\xff\xff\xff\x7f.", None),
        (b"\x80\x02ios\nsystem\n.", "operation `INST`"),
        (b"\x80\x02" + b"(" * 100_000 + b".", "is a damaged pickle"),
    ],
)
def test_damaged_pickles_are_refused_in_little_memory(root: object, reason: str | None, tmp_path: Path) -> None:
    """A few bytes that announce gigabytes, a memo of two thousand million places, a hundred thousand levels."""
    path = write_zip(tmp_path / "x.bin", root)
    with bounded_memory():
        if reason is None:
            assert list(PickledFile(path)) == []
        else:
            with pytest.raises((FormatError, UnsupportedModel), match=reason):
                PickledFile(path)


def test_a_value_without_an_end_is_not_looked_at(tmp_path: Path) -> None:
    """Sixty doublings of a tuple have 10^18 parts, which nobody may print, compare or hash."""
    bomb = b"\x80\x02)" + b"2\x86" * 60
    with bounded_memory():
        for data in (b"\x80\x02(" + bomb[2:] + b"Q.", bomb + b"Q.", bomb + b")R.", b"\x80\x02}" + bomb[2:] + b"Ns."):
            with pytest.raises((FormatError, UnsupportedModel)):
                PickledFile(write_zip(tmp_path / "x.bin", data))


def test_archives_that_are_no_files_of_torch(tmp_path: Path) -> None:
    """Compressed members, two pickles, another byte order, no archive at all."""
    with zipfile.ZipFile(tmp_path / "compressed.bin", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/data.pkl", pickled({"a": "b" * 1000}))
    with zipfile.ZipFile(tmp_path / "two.bin", "w") as archive:
        archive.writestr("a/data.pkl", pickled({}))
        archive.writestr("b/data.pkl", pickled({}))
    (tmp_path / "text.bin").write_text("version https://git-lfs.github.com/spec/v1\n")
    write_zip(tmp_path / "big.bin", {}, byteorder=b"big")
    for name, reason in {
        "compressed.bin": "is compressed",
        "two.bin": "holds 2 members `data.pkl`",
        "text.bin": "damaged pickle|no file of torch|operation",
        "big.bin": "not little-endian",
    }.items():
        with pytest.raises((FormatError, UnsupportedModel), match=reason):
            PickledFile(tmp_path / name)


def test_the_older_format_is_checked_too(tmp_path: Path) -> None:
    """Storages that are longer than the file, of another length, or not listed."""
    root, keys = pickled({"w": tensor(Stored())}), pickle.dumps(["0"], 2)
    good = older(tmp_path / "good.bin", root, keys, struct.pack("<q", 6), bytes(24))
    assert PickledFile(good).read("w").shape == (2, 3)
    for name, parts in {
        "short": (root, keys, struct.pack("<q", 6), bytes(20)),
        "other": (root, keys, struct.pack("<q", 5), bytes(24)),
        "negative": (root, keys, struct.pack("<q", -6), bytes(24)),
        "unlisted": (root, pickle.dumps([], 2)),
        "no list": (root, pickle.dumps({}, 2)),
        "no keys": (root, pickle.dumps([("0",)], 2)),
    }.items():
        with pytest.raises(FormatError):
            PickledFile(older(tmp_path / f"{name}.bin", *parts))


@pytest.mark.parametrize("name", FORMATS)
@given(data=st.data())
def test_damage_anywhere_is_survived(name: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Any byte changed, or any end cut off: refused in one sentence, or read as something that lies in the file."""
    content = bytearray((GOLDEN / name).read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(1, len(content))) :]
    path = tmp_path_factory.mktemp("damaged") / SINGLE
    path.write_bytes(content)
    check: Callable[[], object] = lambda: [read_floats(PickledFile(path))]  # noqa: E731
    survives(check)


def read_floats(file: PickledFile) -> None:
    for name in file:
        if file.info(name).dtype != "I64":
            file.read(name)
