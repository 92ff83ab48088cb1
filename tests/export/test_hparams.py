"""Configurations come from strangers."""

from __future__ import annotations

import math

import pytest

from fastslm.errors import FormatError, UnsupportedModel
from fastslm.export.hparams import Hparams


@pytest.mark.parametrize("bad", [0, -1, 1.5, "4", True, [4], 2**31, 10**30])
def test_a_count_is_a_whole_number_above_zero(bad: object) -> None:
    """A layer count of a billion or of "4" is a damaged file."""
    with pytest.raises(FormatError, match="`n` is"):
        Hparams({"n": bad}).count("n")


@pytest.mark.parametrize("bad", [0, -0.5, math.nan, math.inf, "1e-5", True, None])
def test_a_number_is_finite_and_above_zero(bad: object) -> None:
    """JSON as Python reads it knows NaN."""
    with pytest.raises(FormatError, match="`n`"):
        Hparams({"n": bad}).number("n")


def test_good_values_pass() -> None:
    """And null counts as missing, as Hugging Face writes it."""
    config = Hparams({"n": 3, "x": 1e-5, "yes": True, "nothing": None, "inner": {"n": 4}})
    assert config.count("n") == 3
    assert config.number("x") == 1e-5
    assert config.number("n") == 3.0
    assert config.flag("yes") is True
    assert config.flag("nothing") is False
    assert config.count("nothing", 7) == 7
    assert config.section("inner").count("n") == 4
    assert config.section("nothing").get("n") is None


def test_what_is_missing_is_named() -> None:
    """Without a default there is no guess."""
    with pytest.raises(FormatError, match="has no `hidden_size`"):
        Hparams({}).count("hidden_size")


def test_flags_and_sections_are_checked() -> None:
    """A string is not a switch, a number is not an object."""
    with pytest.raises(FormatError, match="true or false"):
        Hparams({"yes": "true"}).flag("yes")
    with pytest.raises(FormatError, match="an object"):
        Hparams({"inner": 3}).section("inner")


def test_a_demand_names_key_value_and_choice() -> None:
    """The user learns what the model wants and what there is."""
    with pytest.raises(UnsupportedModel, match="`hidden_act` is `gelu`, expected silu") as caught:
        Hparams({"hidden_act": "gelu"}).demand("hidden_act", "silu")
    assert caught.value.feature == "hidden_act=gelu"
    Hparams({}).demand("hidden_act", "silu", default="silu")
