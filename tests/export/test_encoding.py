"""Which matrix is stored how."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fastslm.errors import ConversionFailed
from fastslm.export.encoding import (
    FLOAT,
    INT4,
    INT4_FAST,
    INT4_OFFSETS,
    INT4_PROMPT,
    INT4_STEPS,
    INT4_SYMMETRIC,
    INT8,
    Encoding,
    check_finite,
    choose_encoding,
    encode_rows,
    for_ours,
    last_layer_of,
    role_of,
)
from fastslm.formats.source import TensorInfo
from support.memory_source import MemoryTensors


@pytest.mark.parametrize(
    ("precision", "kind", "layer", "embedding"),
    [
        ("fp32", "BF16", FLOAT, FLOAT),
        ("fp32", "Q4_0", FLOAT, FLOAT),
        ("int8", "F16", INT8, INT8),
        ("int8", "Q8_0", INT8, INT8),
        ("int8", "Q4_1", INT8, INT8),
        ("int4", "F32", INT4_PROMPT, INT8),
        ("int4", "Q4_0", INT4_SYMMETRIC, INT8),
        ("int4", "Q4_1", INT4_OFFSETS, INT8),
        ("int4", "Q6_K", INT4_PROMPT, INT8),
        ("int4-fast", "F32", INT4_FAST, INT4_FAST),
        ("int4-fast", "Q4_0", INT4_SYMMETRIC, INT4_SYMMETRIC),
        ("int4", "Q4Z128", replace(INT4, group=128), INT8),
        ("mixed", "F32", INT4, INT8),
        ("exact", "Q4_0", INT4_SYMMETRIC, INT4_SYMMETRIC),
        ("exact", "Q4_1", INT4_OFFSETS, INT4_OFFSETS),
        ("exact", "Q8_0", INT8, INT8),
        ("exact", "Q6_K", INT8, INT8),
        ("exact", "F16", INT8, INT8),
    ],
)
def test_the_table(precision: str, kind: str, layer: Encoding, embedding: Encoding) -> None:
    """As the module says."""
    info = TensorInfo("w", kind, (8, 128))
    assert choose_encoding(precision, info, "layer") == layer
    assert choose_encoding(precision, info, "table") == embedding


@pytest.mark.parametrize(
    ("precision", "outer"), [("int4", INT4_PROMPT), ("mixed", INT8), ("int8", INT8), ("int4-fast", INT4_FAST)]
)
def test_the_outer_layers_are_spared_under_mixed(precision: str, outer: Encoding) -> None:
    """What the first layer spoils, all others build on."""
    assert choose_encoding(precision, TensorInfo("w", "F32", (8, 64)), "sensitive") == outer


def test_roles_come_from_names() -> None:
    """Whatever a family calls its layers."""
    names = ["wte.weight", "h.0.mlp.weight", "model.layers.11.mlp.weight", "model.layers.2.mlp.weight"]
    last = last_layer_of(names)
    assert last == 11
    assert [role_of(name, last, is_table=False) for name in names] == ["layer", "sensitive", "sensitive", "layer"]
    assert role_of("model.layers.0.x", last, is_table=True) == "table"
    assert role_of("model.layers.2.self_attn.v_proj.weight", last, is_table=False) == "sensitive"


def test_rows_that_do_not_divide_into_blocks_stay_float() -> None:
    """A narrow matrix is rare and small; it is not padded."""
    assert choose_encoding("int4", TensorInfo("w", "F32", (8, 40)), "layer") == FLOAT


@pytest.mark.parametrize(("columns", "group"), [(256, 256), (576, 64), (896, 128), (96, 32)])
def test_int4_fast_has_steps_in_the_widest_groups(columns: int, group: int) -> None:
    """As few scales as the row allows."""
    plain = TensorInfo("w", "F32", (8, columns))
    assert for_ours(choose_encoding("int4-fast", plain, "layer"), [plain]) == replace(INT4_STEPS, group=group)


@pytest.mark.parametrize(
    ("rows", "columns", "has_steps"), [(128, 256, True), (896, 4864, True), (576, 1536, False), (128, 576, False)]
)
def test_int4_has_steps_where_they_lose_little(rows: int, columns: int, has_steps: bool) -> None:
    """Elsewhere offsets in small groups, as ``mixed`` has them everywhere."""
    plain = TensorInfo("w", "F32", (rows, columns))
    expected = replace(INT4_STEPS, group=128) if has_steps else INT4_OFFSETS
    assert for_ours(choose_encoding("int4", plain, "layer"), [plain]) == expected
    assert for_ours(choose_encoding("mixed", plain, "layer"), [plain]) == INT4_OFFSETS


def test_our_operators_keep_what_a_file_brings_along() -> None:
    """Its groups and zero points, and whatever has none."""
    plain, kept, wide = (TensorInfo("w", kind, (8, 128)) for kind in ("F32", "Q4Z32", "Q4Z64"))
    assert for_ours(INT4, [plain]) == INT4_OFFSETS
    assert for_ours(INT4, [plain, kept]) == INT4
    assert for_ours(replace(INT4, group=64), [wide]) == replace(INT4, group=64)
    for encoding in (INT8, FLOAT, INT4_SYMMETRIC, INT4_OFFSETS):
        assert for_ours(encoding, [plain]) == encoding


@pytest.mark.parametrize(("columns", "group"), [(256, 128), (576, 64), (1536, 128), (96, 32), (32, 32)])
def test_a_group_divides_the_row(columns: int, group: int) -> None:
    """The largest that does, of at most the wanted size."""
    assert replace(INT4, group=128).fitted(columns) == replace(INT4, group=group)
    assert INT4.fitted(columns) == INT4


@pytest.mark.parametrize("encoding", [FLOAT, INT8, INT4, INT4_OFFSETS, INT4_STEPS], ids=str)
@pytest.mark.parametrize(("columns", "group"), [(32, 32), (96, 32), (192, 64), (128, 128)])
def test_planes_have_the_announced_size(encoding: Encoding, columns: int, group: int) -> None:
    """The file is laid out before the first row is encoded."""
    encoding = replace(encoding, group=group)
    tensors = MemoryTensors({"w": np.random.default_rng(0).normal(size=(6, columns))})
    planes = encode_rows(tensors, tensors.info("w"), encoding, slice(1, 5))
    assert tuple(plane.nbytes for plane in planes) == tuple(4 * size for size in encoding.row_bytes(columns))


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q8_0"])
def test_planes_of_blocks_have_the_announced_size(kind: str) -> None:
    """Also when the numbers of the file are kept."""
    tensors = MemoryTensors({"w": np.random.default_rng(0).normal(size=(6, 96))}, {"w": kind})
    encoding = choose_encoding("exact", tensors.info("w"), "layer")
    planes = encode_rows(tensors, tensors.info("w"), encoding, slice(2, 6))
    assert tuple(plane.nbytes for plane in planes) == tuple(4 * size for size in encoding.row_bytes(96))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_no_number_is_refused_by_name(bad: float) -> None:
    """One NaN would silence the whole model."""
    values = np.ones((4, 32), np.float32)
    values[2, 7] = bad
    with pytest.raises(ConversionFailed, match=rf"`layer\.w` holds `{bad}`"):
        check_finite("layer.w", values)


def test_large_weights_are_not_mistaken_for_infinite_ones() -> None:
    """Their sum overflows, they do not."""
    check_finite("w", np.full((4, 32), 3e38, np.float32))


def test_a_block_with_an_infinite_scale_is_refused() -> None:
    """A damaged GGUF file is noticed even where its blocks are taken over unread."""

    class Damaged(MemoryTensors):
        def blocks(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
            raw = super().blocks(name, start, stop).copy()
            raw[0, 0, :2] = np.frombuffer(np.float16(np.inf).tobytes(), np.uint8)
            return raw

    tensors = Damaged({"w": np.ones((2, 32))}, {"w": "Q4_0"})
    with pytest.raises(ConversionFailed, match="`w`"):
        encode_rows(tensors, tensors.info("w"), INT4_SYMMETRIC, slice(0, 2))
