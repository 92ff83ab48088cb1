"""Rotary position embedding: from a configuration to the inverse frequencies and their cosine and sine tables.

Su et al., "RoFormer" (2021); the scalings are those of Hugging Face's ``modeling_rope_utils`` named ``linear`` and
``llama3``, and the per-frequency divisors of GGUF's ``rope_freqs`` tensor.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from fastslm.errors import FormatError
from fastslm.export.hparams import Hparams, unsupported

DEFAULT_THETA = 10000.0
FREQ_FACTORS = "rope_freq_factors"
"""Key under which the GGUF reader hands over the divisors, one per pair of head dimensions."""

Doubles = npt.NDArray[np.float64]


def inverse_frequencies(config: Hparams, head_dim: int) -> Doubles:
    """Angle per position of each pair of dimensions: float64 [head_dim / 2].

    Raises:
        FormatError: a parameter is missing or has no meaning.
        UnsupportedModel: a scaling that we do not know.
    """
    config.demand("partial_rotary_factor", 1, default=1)
    scaling = _scaling(config)
    theta = scaling.number("rope_theta", config.number("rope_theta", DEFAULT_THETA))
    plain = theta ** -(np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    return _scaled(plain, scaling) / _factors(config, head_dim // 2)


def rotary_tables(frequencies: Doubles, positions: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Cosines and sines of position times frequency: two float32 [positions, frequencies]."""
    angles = np.arange(positions, dtype=np.float64)[:, None] * frequencies
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def _scaling(config: Hparams) -> Hparams:
    """``rope_scaling`` of older configurations, ``rope_parameters`` of newer ones."""
    newer = config.section("rope_parameters")
    return newer if newer.values else config.section("rope_scaling")


def _scaled(plain: Doubles, scaling: Hparams) -> Doubles:
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind == "default":
        return plain
    if kind == "linear":
        return plain / scaling.number("factor")
    if kind == "llama3":
        return _llama3(plain, scaling)
    raise unsupported("rope_type", kind, "default", "linear", "llama3")


def _llama3(plain: Doubles, scaling: Hparams) -> Doubles:
    """Long waves are stretched by ``factor``, short ones kept, those between are mixed."""
    factor, low, high = (scaling.number(key) for key in ("factor", "low_freq_factor", "high_freq_factor"))
    if high <= low:
        raise FormatError(f"`high_freq_factor` is `{high}`, expected more than {low}", subject="high_freq_factor")
    turns = scaling.count("original_max_position_embeddings") * plain / (2 * math.pi)
    kept = np.clip((turns - low) / (high - low), 0, 1)
    return kept * plain + (1 - kept) * plain / factor


def _factors(config: Hparams, count: int) -> Doubles:
    given = config.get(FREQ_FACTORS)
    if given is None:
        return np.ones(count)
    factors = np.asarray(given, np.float64)
    if factors.shape != (count,) or not np.isfinite(factors).all() or (factors <= 0).any():
        message = f"`{FREQ_FACTORS}` has shape `{list(factors.shape)}`, expected {count} finite numbers above 0"
        raise FormatError(message, subject=FREQ_FACTORS)
    return factors
