"""Rotary position embedding: from a configuration to the inverse frequencies and their cosine and sine tables.

Su et al., "RoFormer" (2021). The scalings are those of Hugging Face's ``modeling_rope_utils``: ``linear``; ``dynamic``,
which up to the context length of the configuration is no scaling at all; ``llama3``; ``yarn`` (Peng et al. 2023);
``longrope`` (Ding et al. 2024); and the per-frequency divisors of GGUF's ``rope_freqs`` tensor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from fastslm.errors import FormatError
from fastslm.export.hparams import Hparams, unsupported

DEFAULT_THETA = 10000.0
FREQ_FACTORS = "rope_freq_factors"
"""Key under which the GGUF reader hands over the divisors, one per pair of head dimensions."""

KINDS = ("default", "linear", "dynamic", "llama3", "yarn", "longrope")

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Rope:
    """How positions turn a head.

    Attributes:
        frequencies: angle per position, one for each pair of turned dimensions.
        scale: factor on cosines and sines.
        long_frequencies: those of a model converted for more than ``short_context`` positions; empty for the same.

    One conversion uses one set of frequencies for every length, so that what is in a KV cache stays right when the text
    grows; transformers changes over when a text gets longer than ``short_context``.
    """

    frequencies: tuple[float, ...]
    scale: float = 1.0
    long_frequencies: tuple[float, ...] = ()
    short_context: int = 0

    def tables(self, positions: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Cosines and sines of position times frequency: two float32 [positions, frequencies]."""
        is_long = bool(self.long_frequencies) and positions > self.short_context
        chosen = np.array(self.long_frequencies if is_long else self.frequencies)
        angles = np.arange(positions, dtype=np.float64)[:, None] * chosen
        return (self.scale * np.cos(angles)).astype(np.float32), (self.scale * np.sin(angles)).astype(np.float32)


def read_rope(config: Hparams, turned: int) -> Rope:
    """The rotation of the first ``turned`` dimensions of a head.

    Raises:
        FormatError: a parameter is missing or has no meaning.
        UnsupportedModel: a scaling that we do not know.
    """
    scaling = rope_section(config)
    theta = scaling.number("rope_theta", config.number("rope_theta", DEFAULT_THETA))
    plain = theta ** -(np.arange(0, turned, 2, dtype=np.float64) / turned)
    rope = _scaled(plain, theta, config, scaling)
    given = config.get(FREQ_FACTORS)
    if given is None:
        return rope
    return replace(rope, frequencies=_tuple(np.array(rope.frequencies) / _divisors(given, FREQ_FACTORS, turned // 2)))


def rope_section(config: Hparams) -> Hparams:
    """``rope_scaling`` of older configurations, ``rope_parameters`` of newer ones."""
    newer = config.section("rope_parameters")
    return newer if newer.values else config.section("rope_scaling")


def _scaled(plain: Doubles, theta: float, config: Hparams, scaling: Hparams) -> Rope:
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind in ("default", "dynamic"):
        return Rope(_tuple(plain))
    if kind == "linear":
        return Rope(_tuple(plain / scaling.number("factor")))
    if kind == "llama3":
        return Rope(_tuple(_llama3(plain, scaling)))
    if kind == "yarn":
        return _yarn(plain, theta, config, scaling)
    if kind in ("longrope", "su"):
        return _longrope(plain, config, scaling)
    raise unsupported("rope_type", kind, *KINDS)


def _llama3(plain: Doubles, scaling: Hparams) -> Doubles:
    """Long waves are stretched by ``factor``, short ones kept, those between are mixed."""
    factor, low, high = (scaling.number(key) for key in ("factor", "low_freq_factor", "high_freq_factor"))
    if high <= low:
        raise FormatError(f"`high_freq_factor` is `{high}`, expected more than {low}", subject="high_freq_factor")
    turns = scaling.count("original_max_position_embeddings") * plain / (2 * math.pi)
    kept = np.clip((turns - low) / (high - low), 0, 1)
    return kept * plain + (1 - kept) * plain / factor


def _yarn(plain: Doubles, theta: float, config: Hparams, scaling: Hparams) -> Rope:
    """Frequencies that turn often are kept, those that turn seldom stretched by ``factor``, with a ramp between."""
    original, factor = _lengths(config, scaling)
    turns = [scaling.number(key, default) for key, default in (("beta_fast", 32.0), ("beta_slow", 1.0))]
    if theta <= 1:
        raise FormatError(f"`rope_theta` is `{theta}`, expected more than 1", subject="rope_theta")
    low, high = (len(plain) * math.log(original / (each * 2 * math.pi)) / math.log(theta) for each in turns)
    if scaling.flag("truncate", default=True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, 2 * len(plain) - 1)
    ramp = np.clip((np.arange(len(plain)) - low) / (high - low or 0.001), 0, 1)
    return Rope(_tuple(ramp * plain / factor + (1 - ramp) * plain), _yarn_scale(factor, scaling))


def _yarn_scale(factor: float, scaling: Hparams) -> float:
    if scaling.get("attention_factor") is not None:
        return scaling.number("attention_factor")
    wanted, everywhere = scaling.get("mscale"), scaling.get("mscale_all_dim")
    if wanted and everywhere:
        return _mscale(factor, scaling.number("mscale")) / _mscale(factor, scaling.number("mscale_all_dim"))
    return _mscale(factor, 1.0)


def _mscale(factor: float, weight: float) -> float:
    return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0


def _longrope(plain: Doubles, config: Hparams, scaling: Hparams) -> Rope:
    """Every frequency has a divisor of its own, one set for short texts and one for long ones."""
    original, factor = _lengths(config, scaling)
    short, long = (_divisors(scaling.get(key), key, len(plain)) for key in ("short_factor", "long_factor"))
    usual = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 and original > 1 else 1.0
    return Rope(_tuple(plain / short), scaling.number("attention_factor", usual), _tuple(plain / long), original)


def _lengths(config: Hparams, scaling: Hparams) -> tuple[int, float]:
    """The context length of the first training, and how much longer the context is now."""
    most = config.count("max_position_embeddings")
    key = "original_max_position_embeddings"
    original = scaling.count(key, config.count(key, most))
    return original, scaling.number("factor", most / original)


def _divisors(given: object, subject: str, count: int) -> Doubles:
    try:
        factors = np.asarray(given, np.float64)
    except (TypeError, ValueError):
        raise FormatError(f"`{subject}` is no list of numbers, expected {count}", subject=subject) from None
    if factors.shape != (count,) or not np.isfinite(factors).all() or (factors <= 0).any():
        message = f"`{subject}` has shape `{list(factors.shape)}`, expected {count} finite numbers above 0"
        raise FormatError(message, subject=subject)
    return factors


def _tuple(values: Doubles) -> tuple[float, ...]:
    return tuple(values.tolist())
