"""What architectures other than llama write into a GGUF file, as configuration; the export tests hold their logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastslm.errors import FormatError
from fastslm.formats import open_model
from fastslm.formats.gguf.rows import InterleavedHeads, RowOrder, SortedHeads
from support.family_gguf import write_family_gguf
from support.golden import described, golden_model


def config_of(variant: str, folder: Path, **changes: Any) -> dict[str, Any]:
    changes = {key.replace("__", "."): value for key, value in changes.items()}
    return dict(open_model(write_family_gguf(variant, folder, changes=changes)).config)


@pytest.mark.parametrize(
    ("variant", "keys"),
    [
        ("gemma2", ("attn_logit_softcapping", "final_logit_softcapping", "sliding_window", "head_dim")),
        ("granite", ("attention_multiplier", "embedding_multiplier", "residual_multiplier", "logits_scaling")),
        ("olmo", ("clip_qkv", "hidden_size", "vocab_size")),
        ("phi4_mini", ("partial_rotary_factor", "original_max_position_embeddings")),
        ("stablelm", ("partial_rotary_factor", "use_qkv_bias", "num_key_value_heads")),
        ("gpt_neox_sequential", ("use_parallel_residual",)),
    ],
)
def test_values_of_a_family_are_found_again(variant: str, keys: tuple[str, ...], tmp_path: Path) -> None:
    """Under the names that transformers gives them."""
    found, expected = config_of(variant, tmp_path), described(variant)["config"]
    for key in keys:
        assert found[key] == pytest.approx(expected[key], rel=1e-6), key


def test_longrope_factors_are_read_from_their_tensors(tmp_path: Path) -> None:
    """And are no weights."""
    source = open_model(write_family_gguf("phi4_mini", tmp_path))
    scaling, expected = source.config["rope_scaling"], described("phi4_mini")["config"]["rope_scaling"]
    for key in ("short_factor", "long_factor"):
        np.testing.assert_allclose(scaling[key], expected[key], rtol=1e-6)
    assert not [name for name in source.tensors if "factor" in name]


def test_a_window_of_zero_is_none(tmp_path: Path) -> None:
    """Phi-4 writes it so."""
    assert "sliding_window" not in config_of("phi3", tmp_path, attention__sliding_window=0)


@pytest.mark.parametrize(("layers", "expected"), [(2, 16.0), (46, 8.0)])
def test_the_largest_gemma_scales_by_its_width(layers: int, expected: float, tmp_path: Path) -> None:
    """No file says so, but the number of layers gives it away."""
    assert config_of("gemma2", tmp_path, block_count=layers)["query_pre_attn_scalar"] == expected


@pytest.mark.parametrize(
    ("variant", "changes", "words"),
    [
        ("gemma2", {"attn_logit_softcapping": -1.0}, r"`gemma2\.attn_logit_softcapping` is `-1\.0`"),
        ("granite", {"logit_scale": "x"}, r"`granite\.logit_scale` is `'x'`, expected a finite number"),
        ("phi4_mini", {"rope__dimension_count": 6}, r"`rope_factors_\w+\.weight` is F32 \(4,\), expected F32 \(3,\)"),
        ("gpt2", {"attention__layer_norm_epsilon": 0.0}, r"`gpt2\.attention\.layer_norm_epsilon`"),
        (
            "gpt_neox",
            {"attention__key_length": 24, "attention__value_length": 24},
            "expected a multiple of the head size 144",
        ),
    ],
)
def test_values_that_cannot_be_are_refused(variant: str, changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    """By the file's own name for them."""
    with pytest.raises(FormatError, match=words):
        config_of(variant, tmp_path, **changes)


def test_norms_of_gemma_lose_the_one_that_was_added(tmp_path: Path) -> None:
    """The reader speaks Hugging Face's language; all other numbers stay as they are."""
    path, golden = write_family_gguf("gemma3", tmp_path), golden_model("gemma3", tmp_path / "folder")
    ours, theirs = open_model(path).tensors, open_model(golden.folder).tensors
    assert set(ours) == set(theirs)
    for name in theirs:
        np.testing.assert_allclose(ours.read(name), theirs.read(name), atol=1e-6)


@pytest.mark.parametrize("order", [InterleavedHeads(6), SortedHeads(4, 2), SortedHeads(1, 8)])
def test_orders_are_permutations_of_their_groups(order: RowOrder) -> None:
    """No row is lost."""
    places = order.places(np.arange(order.group_rows))
    np.testing.assert_array_equal(np.sort(places), np.arange(order.group_rows))
