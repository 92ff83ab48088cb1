"""Weights of GGUF files: every block type, row ranges, and the row order of llama's query and key."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.tiny_files import GgufBytes, TinyLlama, gguf_tensor, write_llama_gguf

from fastslm.errors import FormatError, UnsupportedModel
from fastslm.formats import open_model
from fastslm.formats.gguf.header import GgufHeader
from fastslm.formats.gguf.rows import InterleavedHeads
from fastslm.formats.gguf.tensors import GgufTensors, Placement

TYPES = gguf.GGMLQuantizationType
SIZES = gguf.GGML_QUANT_SIZES
UNREADABLE = {TYPES.Q8_1, TYPES.Q8_K, TYPES.I8, TYPES.I16, TYPES.I32, TYPES.I64}
UNDECODED = UNREADABLE | {kind for kind in TYPES if kind.name == "Q1_0"}
DECODED = [kind for kind in SIZES if kind not in UNDECODED]


def one_tensor(tmp_path: Path, kind: int, raw: np.ndarray, dims: list[int], head_rows: int = 0) -> GgufTensors:
    path = tmp_path / "x.gguf"
    path.write_bytes(GgufBytes([], [gguf_tensor("t", dims, int(kind))], raw.tobytes()).build())
    header = GgufHeader(path)
    return GgufTensors(
        {"w": Placement(header, header.tensors["t"], InterleavedHeads(head_rows) if head_rows else None)}
    )


def random_blocks(kind: TYPES, rows: int, columns: int) -> np.ndarray:
    items, size = SIZES[kind]
    return np.random.default_rng(int(kind)).integers(0, 256, (rows, columns // items * size), dtype=np.uint8)


@pytest.mark.parametrize("kind", DECODED, ids=lambda kind: kind.name)
def test_every_type_that_the_gguf_package_decodes_reads_the_same(tmp_path, kind):
    """Random bytes are valid blocks of every type; some decode to infinities and NaN, which must survive as well."""
    raw = random_blocks(kind, 5, 512)
    tensors = one_tensor(tmp_path, kind, raw, [512, 5])
    with np.errstate(all="ignore"):
        plain = raw.view("<f8").astype(np.float32) if kind == TYPES.F64 else gguf.dequantize(raw, kind)
    for start, stop in ((0, None), (1, 4), (4, 5)):
        read = tensors.read("w", start, stop)
        assert read.dtype == np.float32
        np.testing.assert_array_equal(read, plain[start:stop])
    assert tensors.info("w").shape == (5, 512)
    assert tensors.info("w").dtype == kind.name


@pytest.mark.parametrize("kind", [k for k in DECODED if SIZES[k][0] > 1], ids=lambda kind: kind.name)
def test_blocks_come_out_as_they_lie_in_the_file(tmp_path, kind):
    """The converter keeps the numbers of some types instead of quantising again."""
    raw = random_blocks(kind, 4, 512)
    items, size = SIZES[kind]
    blocks = one_tensor(tmp_path, kind, raw, [512, 4]).blocks("w", 1, 3)
    assert blocks.dtype == np.uint8
    np.testing.assert_array_equal(blocks, raw[1:3].reshape(2, 512 // items, size))


def test_blocks_of_plain_floats_and_types_nobody_decodes_are_refused(tmp_path):
    with pytest.raises(FormatError, match="`w` has type `F32`, expected quantised blocks"):
        one_tensor(tmp_path, TYPES.F32, np.zeros((2, 4), np.float32), [4, 2]).blocks("w")
    with pytest.raises(UnsupportedModel, match="`w` has type `I32`, which cannot be decoded"):
        one_tensor(tmp_path, TYPES.I32, np.zeros((2, 4), np.int32), [4, 2]).read("w")
    with pytest.raises(UnsupportedModel, match="one dimension of blocks"):
        one_tensor(tmp_path, TYPES.Q8_0, random_blocks(TYPES.Q8_0, 1, 32), [32]).read("w")
    with pytest.raises(FormatError, match="`nope` is missing"):
        one_tensor(tmp_path, TYPES.F32, np.zeros((2, 4), np.float32), [4, 2]).read("nope")


def test_tensors_of_one_and_three_dimensions_keep_their_shape(tmp_path):
    vector = np.arange(6, dtype=np.float32)
    np.testing.assert_array_equal(one_tensor(tmp_path, TYPES.F32, vector, [6]).read("w", 2, 5), vector[2:5])
    cube = np.arange(24, dtype=np.float16).reshape(2, 3, 4)
    np.testing.assert_array_equal(one_tensor(tmp_path, TYPES.F16, cube, [4, 3, 2]).read("w", 1), cube[1:])
    empty = one_tensor(tmp_path, TYPES.Q8_0, random_blocks(TYPES.Q8_0, 2, 64), [64, 2])
    assert empty.read("w", 1, 1).shape == (0, 64)
    assert empty.blocks("w", 2).shape == (0, 2, 34)


def permuted_by_the_converter(weight: np.ndarray, heads: int) -> np.ndarray:
    """What llama.cpp's converter does to query and key rows, as its documentation writes it."""
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return halves.swapaxes(1, 2).reshape(weight.shape)


@given(st.integers(1, 5), st.integers(1, 8))
def test_row_order_undoes_the_converters_permutation(heads, pairs):
    rows = np.arange(heads * pairs * 2)
    stored = permuted_by_the_converter(rows[:, None], heads)[:, 0]
    np.testing.assert_array_equal(stored[InterleavedHeads(pairs * 2).places(rows)], rows)


def test_query_and_key_are_read_in_hugging_faces_order_as_floats_and_as_blocks(tmp_path):
    """With GGUF's order the model would speak nonsense."""
    path = tmp_path / "x.gguf"
    stored = write_llama_gguf(path, TinyLlama(heads=4, kv_heads=2, hidden=64, quant="Q4_1"))
    tensors = open_model(path).tensors
    for part, heads in (("q", 4), ("k", 2)):
        name = f"model.layers.1.self_attn.{part}_proj.weight"
        read = tensors.read(name)
        np.testing.assert_array_equal(permuted_by_the_converter(read, heads), stored[f"blk.1.attn_{part}.weight"])
        np.testing.assert_array_equal(tensors.read(name, 5, 21), read[5:21])
        decoded = gguf.dequantize(tensors.blocks(name, 5, 21).reshape(16, -1), TYPES.Q4_1)
        np.testing.assert_array_equal(decoded, read[5:21])
    value = "model.layers.1.self_attn.v_proj.weight"
    np.testing.assert_array_equal(tensors.read(value), stored["blk.1.attn_v.weight"])
