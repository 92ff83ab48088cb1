"""Rotary frequencies of every scaling, against the slow twin and by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastslm.errors import FormatError, UnsupportedModel
from fastslm.export.hparams import Hparams
from fastslm.export.rope import inverse_frequencies, rotary_tables
from reference import rope as twin

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"rope_theta": 500000.0},
        {"rope_theta": 100000, "rope_scaling": {"rope_type": "linear", "factor": 4.0}},
        {"rope_theta": 500000.0, "rope_scaling": LLAMA3},
    ],
)
def test_frequencies_agree_with_the_twin(config: dict[str, Any]) -> None:
    """The twin walks one pair at a time."""
    found = inverse_frequencies(Hparams(config), 64)
    np.testing.assert_allclose(found, [twin.frequency(config, i, 64) for i in range(32)], rtol=1e-12)


def test_older_and_newer_spellings_mean_the_same() -> None:
    """transformers 5 moved everything into one object; older files say `type`."""
    older = {"rope_theta": 1e6, "rope_scaling": {"type": "linear", "factor": 2.0}}
    newer = {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e6}}
    found = [inverse_frequencies(Hparams(config), 16) for config in (older, newer)]
    np.testing.assert_array_equal(*found)


def test_gguf_divisors_divide() -> None:
    """GGUF carries llama3's scaling as numbers."""
    plain = inverse_frequencies(Hparams({}), 8)
    found = inverse_frequencies(Hparams({"rope_freq_factors": [1.0, 2.0, 4.0, 8.0]}), 8)
    np.testing.assert_allclose(found, plain / [1, 2, 4, 8])


def test_tables_hold_cosine_and_sine() -> None:
    """Position zero does not turn; a far position keeps its precision."""
    cosines, sines = rotary_tables(np.array([1.0, 0.01]), 30001)
    assert cosines.shape == sines.shape == (30001, 2)
    assert cosines.dtype == np.float32
    np.testing.assert_array_equal(cosines[0], 1)
    np.testing.assert_allclose(sines[30000], [np.sin(30000.0), np.sin(300.0)], atol=1e-7)


@pytest.mark.parametrize("kind", ["yarn", "dynamic", "longrope", "", 3])
def test_an_unknown_scaling_is_named(kind: object) -> None:
    """Guessing would give a model that forgets what it read."""
    with pytest.raises(UnsupportedModel, match=f"`rope_type` is `{kind}`, expected default or linear or llama3"):
        inverse_frequencies(Hparams({"rope_scaling": {"rope_type": kind}}), 8)


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
    ],
)
def test_values_without_meaning_are_refused(config: dict[str, Any], word: str) -> None:
    """The key is in the message."""
    with pytest.raises(FormatError, match=f"`{word}`"):
        inverse_frequencies(Hparams(config), 8)


def test_turning_part_of_a_head_is_not_supported() -> None:
    """Phi and GLM do it; their blocks are not Llama's anyway."""
    with pytest.raises(UnsupportedModel, match="partial_rotary_factor"):
        inverse_frequencies(Hparams({"partial_rotary_factor": 0.5}), 8)
