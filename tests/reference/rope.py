"""Rotary frequencies as the papers write them, one pair of dimensions after the other. Slow on purpose."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def frequency(config: Mapping[str, Any], i: int, size: int, *, is_long: bool = False) -> float:
    """Radians per position of pair ``i`` of ``size`` turned dimensions, with the scaling of the configuration."""
    theta = config.get("rope_theta", 10000.0)
    plain = theta ** (-2 * i / size)
    scaling = config.get("rope_scaling") or {"rope_type": "default"}
    kind = scaling["rope_type"]
    if kind in ("default", "dynamic"):  # dynamic scales what is longer than the context only
        return plain
    if kind == "linear":
        return plain / scaling["factor"]
    if kind == "longrope":
        return plain / scaling["long_factor" if is_long else "short_factor"][i]
    if kind == "yarn":
        return yarn(plain, theta, i, size, scaling)
    return llama3(plain, scaling)


def llama3(plain: float, scaling: Mapping[str, Any]) -> float:
    wavelength, original = 2 * math.pi / plain, scaling["original_max_position_embeddings"]
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    if wavelength < original / high:
        return plain
    if wavelength > original / low:
        return plain / scaling["factor"]
    mix = (original / wavelength - low) / (high - low)
    return (1 - mix) * plain / scaling["factor"] + mix * plain


def yarn(plain: float, theta: float, i: int, size: int, scaling: Mapping[str, Any]) -> float:
    """Pair ``i`` keeps its frequency below ``low``, is stretched above ``high``, and is mixed between."""

    def pair_that_turns(times: float) -> float:
        original = scaling["original_max_position_embeddings"]
        return size / 2 * math.log(original / (2 * math.pi * times)) / math.log(theta)

    low = max(math.floor(pair_that_turns(scaling.get("beta_fast", 32))), 0)
    high = min(math.ceil(pair_that_turns(scaling.get("beta_slow", 1))), size - 1)
    stretched = min(max((i - low) / max(high - low, 0.001), 0), 1)
    return stretched * plain / scaling["factor"] + (1 - stretched) * plain


def scale(config: Mapping[str, Any]) -> float:
    """Factor on cosines and sines."""
    scaling = config.get("rope_scaling") or {"rope_type": "default"}
    if scaling["rope_type"] == "yarn":
        return scaling.get("attention_factor", 0.1 * math.log(scaling["factor"]) + 1)
    if scaling["rope_type"] == "longrope":
        original = config["original_max_position_embeddings"]
        longer = config["max_position_embeddings"] / original
        return math.sqrt(1 + math.log(longer) / math.log(original)) if longer > 1 else 1.0
    return 1.0
