"""Models of GPTQ and AWQ keep every number: in the reader, in the weights file, and in the logits."""

from __future__ import annotations

import json
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastslm import _native
from fastslm.errors import FormatError, UnsupportedModel
from fastslm.export.convert import convert
from fastslm.export.encoding import INT4, choose_encoding, encode_rows
from fastslm.export.matrices import MatrixWriter
from fastslm.export.native.packing import store_packed
from fastslm.export.options import ConvertOptions
from fastslm.export.weights import WeightsFile
from fastslm.formats import open_model
from fastslm.formats.prequantized.settings import Settings, plain, read_settings
from fastslm.formats.prequantized.tensors import PrequantizedTensors
from fastslm.formats.safetensors import SafetensorsFile
from reference.groups import dequantized, pack_awq, pack_gptq
from support.decoder import all_logits
from support.golden import golden_model
from support.tiny_files import write_safetensors

METHODS = ["gptq", "gptq_v2", "awq"]
SORTED = "act-order"
LINEAR = ("_proj.weight",)


def settings_of(method: str, group_size: int, *, sorts_inputs: bool = False) -> Settings:
    return Settings("awq" if method == "awq" else "gptq", group_size, int(method == "gptq"), sorts_inputs)


def config_of(method: str, group_size: int) -> dict[str, Any]:
    if method == "awq":
        return {"quant_method": "awq", "bits": 4, "group_size": group_size, "version": "gemm", "zero_point": True}
    version = "gptq" if method == SORTED else method
    return {
        "quant_method": "gptq",
        "bits": 4,
        "group_size": group_size,
        "desc_act": method == SORTED,
        "checkpoint_format": version,
    }


def numbers(outputs: int, inputs: int, group_size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random codes, zero points and half-precision scales."""
    rng = np.random.default_rng(seed)
    groups = -(-inputs // group_size)
    codes = rng.integers(0, 16, (outputs, inputs))
    zeros = rng.integers(1, 16, (outputs, groups))
    return codes, zeros, rng.uniform(0.01, 0.1, (outputs, groups)).astype(np.float16)


def module(method: str, codes: np.ndarray, zeros: np.ndarray, scales: np.ndarray) -> dict[str, tuple[str, np.ndarray]]:
    """The tensors of one packed module."""
    if method == "awq":
        qweight, qzeros = pack_awq(codes, zeros)
    else:
        qweight, qzeros = pack_gptq(codes, zeros, added=int(method != "gptq_v2"))
    return {"qweight": ("I32", qweight), "qzeros": ("I32", qzeros), "scales": ("F16", np.ascontiguousarray(scales.T))}


def named(name: str, parts: dict[str, tuple[str, np.ndarray]]) -> dict[str, tuple[str, np.ndarray]]:
    return {f"{name}.{part}": value for part, value in parts.items()}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("group_size", "inputs"), [(32, 96), (64, 128), (96, 192), (128, 192), (128, 256), (-1, 160)])
def test_every_weight_is_kept_bit_for_bit(method: str, group_size: int, inputs: int, tmp_path: Path) -> None:
    """Read as floats, and as the codes, scales and zero points of the converted file."""
    per_group = inputs if group_size < 0 else group_size
    codes, zeros, scales = numbers(16, inputs, per_group)
    expected = dequantized(codes, zeros, scales, np.arange(inputs) // per_group)
    path = tmp_path / "model.safetensors"
    write_safetensors(path, named("x", module(method, codes, zeros, scales)))
    source = PrequantizedTensors(SafetensorsFile(path), settings_of(method, group_size))
    assert list(source) == ["x.weight"]
    np.testing.assert_array_equal(source.read("x.weight"), expected)
    np.testing.assert_array_equal(source.read("x.weight", 3, 11), expected[3:11])
    info = source.info("x.weight")
    group = next(size for size in (128, 64, 32) if inputs % size == per_group % size == 0)
    encoding = replace(INT4, group=group)
    assert choose_encoding("exact", info, "layer") == encoding
    packed, kept_scales, kept_zeros = encode_rows(source, info, encoding, slice(5, 16))
    values = np.stack([packed & 15, packed >> 4], axis=-1).reshape(11, inputs)
    points = np.stack([kept_zeros & 15, kept_zeros >> 4], axis=-1).reshape(11, -1)[:, : inputs // group]
    blocks = values.reshape(11, -1, group).astype(np.float32) - points[..., None].astype(np.float32)
    np.testing.assert_array_equal((blocks * kept_scales[..., None]).reshape(11, inputs), expected[5:])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("group", [32, 64, 128])
def test_our_operators_get_the_same_numbers(method: str, group: int, tmp_path: Path) -> None:
    """Zero points included: a packed unit holds them as whole numbers."""
    codes, zeros, scales = numbers(40, 256, group)
    parts = {name: value for name, (_, value) in named("x", module(method, codes, zeros, scales)).items()}
    source = PrequantizedTensors(Memory(parts), settings_of(method, group))
    with WeightsFile(tmp_path / "data") as weights, ThreadPoolExecutor(1) as pool:
        stored = store_packed(MatrixWriter(source, weights, "exact", pool, lambda name: None), "x.weight")
    packed = np.fromfile(tmp_path / "data", np.uint8)[stored.region.offset :][: stored.region.size_bytes]
    kept = _native.unpack_linear(packed, (40, 256), bits=4, group=group, has_offsets=True)
    scale, shift = (np.repeat(each, group, axis=1) for each in kept[1:3])
    assert (stored.attributes["offsets"], stored.attributes["group_size"]) == (2, group)
    np.testing.assert_array_equal(scale * (kept[0] + shift), dequantized(codes, zeros, scales, np.arange(256) // group))


@given(st.sampled_from(METHODS), st.integers(0, 99), st.integers(0, 24), st.integers(0, 24))
def test_any_rows_are_those_of_the_whole(method: str, seed: int, start: int, stop: int) -> None:
    """However a conversion cuts a matrix."""
    codes, zeros, scales = numbers(24, 64, 32, seed)
    parts = {name: value for name, (_, value) in named("x", module(method, codes, zeros, scales)).items()}
    source = PrequantizedTensors(Memory(parts), settings_of(method, 32))
    np.testing.assert_array_equal(source.blocks("x.weight", start, stop), source.blocks("x.weight")[start:stop])
    np.testing.assert_array_equal(source.read("x.weight", start, stop), source.read("x.weight")[start:stop])


class Memory:
    """Tensors in arrays, with whole numbers."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self.arrays = arrays

    def __iter__(self):
        return iter(self.arrays)

    def __contains__(self, name):
        return name in self.arrays

    def info(self, name):
        from fastslm.formats.source import TensorInfo

        kinds = {"int32": "I32", "float16": "F16", "int64": "I64"}
        if name not in self.arrays:
            raise FormatError(f"tensor `{name}` is missing")
        return TensorInfo(name, kinds[str(self.arrays[name].dtype)], self.arrays[name].shape)

    def read(self, name, start=0, stop=None):
        return self.arrays[name][start:stop].astype(np.float32)

    def raw(self, name):
        return self.arrays[name]


def groups_of(name: str, inputs: int) -> np.ndarray:
    """Mixed groups: in the first layer the same for all that read the same inputs, in the others not even that."""
    seed = inputs if ".layers.0." in name else zlib.crc32(name.encode())
    return np.random.default_rng(seed).permutation(np.arange(inputs) // 32)


def packed_model(folder: Path, method: str) -> tuple[Path, Path]:
    """A tiny Llama with packed matrices, and the same with the floats that these stand for."""
    golden = golden_model("untied", folder / "packed")
    golden_model("untied", folder / "floats")
    source = open_model(golden.folder).tensors
    packed: dict[str, tuple[str, np.ndarray]] = {}
    floats: dict[str, tuple[str, np.ndarray]] = {}
    for index, name in enumerate(source):
        shape = source.info(name).shape
        if not name.endswith(LINEAR):
            packed[name] = floats[name] = ("F32", source.read(name))
            continue
        codes, zeros, scales = numbers(*shape, 32, index)
        stem = name.removesuffix(".weight")
        packed |= named(stem, module(method, codes, zeros, scales))
        packed[f"{stem}.bias"] = ("F16", np.zeros(shape[0], np.float16))
        groups = groups_of(name, shape[1]) if method == SORTED else np.arange(shape[1]) // 32
        floats[name] = ("F32", dequantized(codes, zeros, scales, groups))
        if method != "awq":
            packed[f"{stem}.g_idx"] = ("I32", groups.astype(np.int32))
    for shard in [*folder.glob("*/*.safetensors"), *folder.glob("*/*.index.json")]:
        shard.unlink()
    for place, tensors in (("packed", packed), ("floats", floats)):
        write_safetensors(folder / place / "model.safetensors", tensors)
    config = json.loads((golden.folder / "config.json").read_text())
    config["quantization_config"] = config_of(method, 32)
    (golden.folder / "config.json").write_text(json.dumps(config))
    return folder / "packed", folder / "floats"


@pytest.mark.parametrize("target", ["native", "portable"])
@pytest.mark.parametrize("method", [*METHODS, SORTED])
def test_a_whole_model_gives_the_logits_of_its_floats(method: str, target: Any, tmp_path: Path) -> None:
    """Converted as it is (`auto` is `exact`), and to floats; biases of zeros that AutoGPTQ adds do no harm."""
    packed, floats = packed_model(tmp_path, method)
    results = {}
    for name, source, precision in (("floats", floats, "fp32"), ("read", packed, "fp32"), ("exact", packed, "auto")):
        folder = tmp_path / f"to-{name}"
        folder.mkdir()
        manifest = convert(open_model(source), folder, ConvertOptions("tiny", "0", precision, target=target))
        results[name] = all_logits(folder, np.arange(3, 15))
    assert manifest.precision == "exact"
    bound = 1e-4 if method == SORTED else 0  # whose sums run in another order
    np.testing.assert_allclose(results["read"], results["floats"], rtol=0, atol=bound)
    error = results["exact"] - results["floats"]  # activations of 8 bits, and an embedding of 8 bits
    assert np.sqrt((error**2).mean()) < 0.15 * results["floats"].std()


def test_mixed_groups_become_neighbours() -> None:
    """Columns are sorted by group, and keep every number."""
    codes, zeros, scales = numbers(8, 64, 32)
    parts = {name: value for name, (_, value) in named("x", module("gptq", codes, zeros, scales)).items()}
    parts["x.g_idx"] = np.array([1, *([0] * 31), *([1] * 31), 0], np.int32)
    source = PrequantizedTensors(Memory(parts), settings_of("gptq", 32, sorts_inputs=True))
    order = source.info("x.weight").column_order
    assert order == (*range(1, 32), 63, 0, *range(32, 63))
    expected = dequantized(codes, zeros, scales, parts["x.g_idx"])
    np.testing.assert_array_equal(source.read("x.weight"), expected[:, order])


@pytest.mark.parametrize(
    ("groups", "sorts_inputs", "error"),
    [
        ([0] * 33 + [1] * 31, True, FormatError),
        ([0] * 32 + [2] * 32, True, FormatError),
        ([-1] + [0] * 31 + [1] * 32, True, FormatError),
        ([1] + [0] * 31 + [1] * 31 + [0], False, UnsupportedModel),
    ],
)
def test_groups_of_other_sizes_are_refused(groups: list[int], sorts_inputs: bool, error: type[Exception]) -> None:
    """And mixed ones of which the configuration says nothing."""
    parts = {name: value for name, (_, value) in named("x", module("gptq", *numbers(8, 64, 32))).items()}
    parts["x.g_idx"] = np.array(groups, np.int32)
    with pytest.raises(error, match=r"`x\.g_idx`"):
        PrequantizedTensors(Memory(parts), settings_of("gptq", 32, sorts_inputs=sorts_inputs)).blocks("x.weight")


def test_a_zero_point_of_16_is_refused() -> None:
    """GPTQ stores one less; 15 stands for 16, which has no half byte."""
    codes, zeros, scales = numbers(8, 32, 32)
    parts = {name: value for name, (_, value) in named("x", module("gptq", codes, zeros + 0, scales)).items()}
    parts["x.qzeros"] = np.full((1, 1), -1, np.int32)
    with pytest.raises(UnsupportedModel, match="holds the zero point `16`"):
        PrequantizedTensors(Memory(parts), settings_of("gptq", 32)).read("x.weight")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"x.scales": None}, r"tensor `x\.scales` is missing"),
        ({"x.scales": np.zeros((1, 8), np.float16)}, r"`x\.scales` has shape `\[1, 8\]`, expected \[2, 8\]"),
        ({"x.qzeros": np.zeros((2, 2), np.int32)}, r"`x\.qzeros` has shape `\[2, 2\]`, expected \[2, 1\]"),
        ({"x.qweight": np.zeros((8, 8), np.int64)}, r"`x\.qweight` has type `I64`"),
        ({"x.qweight": np.zeros(8, np.int32)}, r"shape `\[8\]`, expected I32 in two dimensions"),
        ({"x.qweight": np.zeros((3, 8), np.int32)}, "`x` has 24 inputs and 8 outputs"),
        ({"x.g_idx": np.zeros(3, np.int32)}, r"`x\.g_idx` has shape `\[3\]`, expected \[64\]"),
    ],
)
def test_modules_that_do_not_fit_are_named(changes: dict[str, np.ndarray | None], reason: str) -> None:
    """Before anything is written."""
    parts = {name: value for name, (_, value) in named("x", module("gptq", *numbers(8, 64, 32))).items()}
    arrays = {name: value for name, value in {**parts, **changes}.items() if value is not None}
    with pytest.raises(FormatError, match=reason):
        PrequantizedTensors(Memory(arrays), settings_of("gptq", 32))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"quant_method": "bitsandbytes"}, "quantised by `'bitsandbytes'`"),
        ({"quant_method": None}, "quantised by `None`"),
        ({"bits": 8}, "`quantization_config.bits` is `8`, expected 4"),
        ({"group_size": 16}, "`quantization_config.group_size` is `16`"),
        ({"group_size": "x"}, "`group_size` is string"),
        ({"desc_act": "often"}, "`quantization_config.desc_act` is `'often'`, expected False or True"),
        ({"checkpoint_format": "marlin"}, "`quantization_config.checkpoint_format` is `'marlin'`"),
        ({"bits": [4]}, "`quantization_config.bits` is"),
        ({"quant_method": "awq", "version": "gemv"}, "`quantization_config.version` is `'gemv'`"),
        ({"quant_method": "awq", "zero_point": False}, "`quantization_config.zero_point` is `False`"),
    ],
)
def test_other_packings_are_refused_by_the_configuration(changes: dict[str, Any], reason: str) -> None:
    """So that `can-convert` tells without the weights."""
    with pytest.raises((UnsupportedModel, FormatError), match=reason):
        read_settings({"quantization_config": {**config_of("gptq", 128), **changes}})


def test_plain_models_have_no_settings() -> None:
    """And what is read needs no explanation any more."""
    assert read_settings({}) is None
    assert plain({"quantization_config": {"bits": 4}, "a": 1}) == {"a": 1}
