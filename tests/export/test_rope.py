"""Rotary frequencies of every scaling, against the slow twin and by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from fastslm.errors import FormatError, UnsupportedModel
from fastslm.export.hparams import Hparams
from fastslm.export.rope import Rope, read_rope
from reference import rope as twin

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
FACTORS = [1 + i / 8 for i in range(32)]
LONGROPE = {"rope_type": "longrope", "short_factor": FACTORS, "long_factor": [2 * each for each in FACTORS]}
LENGTHS = {"max_position_embeddings": 131072, "original_max_position_embeddings": 4096}


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"rope_theta": 500000.0},
        {"rope_theta": 100000, "rope_scaling": {"rope_type": "linear", "factor": 4.0}},
        {"rope_theta": 100000, "rope_scaling": {"rope_type": "dynamic", "factor": 4.0}},
        {"rope_theta": 500000.0, "rope_scaling": LLAMA3},
        {"rope_theta": 1e6, "rope_scaling": YARN, "max_position_embeddings": 131072},
        {"rope_scaling": YARN | {"beta_fast": 16, "beta_slow": 2}, "max_position_embeddings": 131072},
        {"rope_scaling": YARN | {"attention_factor": 0.7}, "max_position_embeddings": 131072},
        {"rope_scaling": LONGROPE, **LENGTHS},
    ],
)
@pytest.mark.parametrize("is_long", [False, True])
def test_frequencies_agree_with_the_twin(config: dict[str, Any], is_long: bool) -> None:
    """The twin walks one pair at a time; the tables are what the graph reads."""
    rope = read_rope(Hparams(config), 64)
    positions = 4097 if is_long else 4096
    angles = 4095 * np.array([twin.frequency(config, i, 64, is_long=is_long) for i in range(32)])
    cosines, sines = rope.tables(positions)
    np.testing.assert_allclose(cosines[4095], twin.scale(config) * np.cos(angles), atol=1e-7, rtol=1e-6)
    np.testing.assert_allclose(sines[4095], twin.scale(config) * np.sin(angles), atol=1e-7, rtol=1e-6)


def test_longrope_changes_with_the_length_of_the_conversion() -> None:
    """Never within one text: what a KV cache holds was turned with the same frequencies."""
    rope = read_rope(Hparams({"rope_scaling": LONGROPE, **LENGTHS}), 64)
    short, long = (rope.tables(positions)[0] for positions in (4096, 4097))
    assert (short[1] != long[1]).any()
    np.testing.assert_array_equal(rope.tables(8000)[0][:4097], long)


def test_yarn_weighs_its_scale_like_deepseek() -> None:
    """Two weights of the logarithm, one above and one below the line."""
    scaling = YARN | {"mscale": 1.0, "mscale_all_dim": 0.5}
    expected = (0.1 * math.log(4) + 1) / (0.05 * math.log(4) + 1)
    assert read_rope(Hparams({"rope_scaling": scaling, **LENGTHS}), 64).scale == pytest.approx(expected)


def test_older_and_newer_spellings_mean_the_same() -> None:
    """transformers 5 moved everything into one object; older files say `type`, and `su` for longrope."""
    older = {"rope_theta": 1e6, "rope_scaling": {"type": "linear", "factor": 2.0}}
    newer = {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e6}}
    assert read_rope(Hparams(older), 16) == read_rope(Hparams(newer), 16)
    named = {**LONGROPE, "rope_type": "su"}
    assert read_rope(Hparams({"rope_scaling": named, **LENGTHS}), 64).short_context == 4096


def test_gguf_divisors_divide() -> None:
    """GGUF carries llama3's scaling as numbers."""
    plain = read_rope(Hparams({}), 8).frequencies
    found = read_rope(Hparams({"rope_freq_factors": [1.0, 2.0, 4.0, 8.0]}), 8).frequencies
    np.testing.assert_allclose(found, np.array(plain) / [1, 2, 4, 8])


def test_tables_hold_cosine_and_sine() -> None:
    """Position zero does not turn; a far position keeps its precision."""
    cosines, sines = Rope((1.0, 0.01)).tables(30001)
    assert cosines.shape == sines.shape == (30001, 2)
    assert cosines.dtype == np.float32
    np.testing.assert_array_equal(cosines[0], 1)
    np.testing.assert_allclose(sines[30000], [np.sin(30000.0), np.sin(300.0)], atol=1e-7)


@pytest.mark.parametrize("kind", ["ntk", "mrope", "", 3])
def test_an_unknown_scaling_is_named(kind: object) -> None:
    """Guessing would give a model that forgets what it read."""
    with pytest.raises(UnsupportedModel, match=f"`rope_type` is `{kind}`, expected default or linear or dynamic"):
        read_rope(Hparams({"rope_scaling": {"rope_type": kind}}), 8)


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ({"rope_theta": -1}, "rope_theta"),
        ({"rope_theta": "big"}, "rope_theta"),
        ({"rope_scaling": [1]}, "rope_scaling"),
        ({"rope_scaling": {"rope_type": "linear"}}, "factor"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 0}}, "factor"),
        ({"rope_scaling": LLAMA3 | {"high_freq_factor": 1.0}}, "high_freq_factor"),
        ({"rope_freq_factors": [1.0, 2.0]}, "rope_freq_factors"),
        ({"rope_freq_factors": [1.0, 2.0, 0.0, 1.0]}, "rope_freq_factors"),
        ({"rope_scaling": YARN}, "max_position_embeddings"),
        ({"rope_scaling": YARN, "rope_theta": 1.0, **LENGTHS}, "rope_theta"),
        ({"rope_scaling": YARN | {"beta_fast": 0}, **LENGTHS}, "beta_fast"),
        ({"rope_scaling": YARN | {"mscale": "a", "mscale_all_dim": 1}, **LENGTHS}, "mscale"),
        ({"rope_scaling": LONGROPE, **LENGTHS}, "short_factor"),
        ({"rope_scaling": {"rope_type": "longrope"}, **LENGTHS}, "short_factor"),
        ({"rope_scaling": {"rope_type": "longrope", "short_factor": ["x"] * 4}, **LENGTHS}, "short_factor"),
        ({"rope_scaling": {"rope_type": "longrope", "short_factor": {}}, **LENGTHS}, "short_factor"),
    ],
)
def test_values_without_meaning_are_refused(config: dict[str, Any], word: str) -> None:
    """The key is in the message."""
    with pytest.raises(FormatError, match=f"`{word}`"):
        read_rope(Hparams(config), 8)
