"""How close a quantised model is to the floats it was made from: the figures, and the wish to have them.

Measured by ``engine.quality``, kept in the manifest, shown by the faces.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

Quality = Literal["auto", "always", "never"]
"""When a conversion is compared with its floats: ``auto`` where that is cheap."""


@dataclass(frozen=True)
class Fidelity:
    """A converted model against the unquantised graph of the same weights, on a short text.

    Attributes:
        within: whether the figures are within the bounds of the precision.
        tokens: tokens of the text.
        kl_divergence: mean over the tokens of the Kullback-Leibler divergence from the floats, in nats; decoders only.
        perplexity, float_perplexity: of the converted model and of the floats on the text; decoders only.
        same_best: share of the positions at which both have the same most likely token; decoders only.
        least_cosine: smallest cosine of the vectors of a text under both; encoders only.
    """

    within: bool
    tokens: int
    kl_divergence: float | None = None
    perplexity: float | None = None
    float_perplexity: float | None = None
    same_best: float | None = None
    least_cosine: float | None = None

    @property
    def summary(self) -> str:
        """The figures in a line."""
        if self.least_cosine is not None:
            told = f"cosine at least {self.least_cosine:.4f}"
        else:
            shown = {f.name: getattr(self, f.name) or 0.0 for f in fields(self)}
            told = (
                f"KL divergence {shown['kl_divergence']:.4f}, perplexity {shown['perplexity']:.2f} "
                f"(floats {shown['float_perplexity']:.2f}), {shown['same_best']:.0%} equal best tokens"
            )
        return told if self.within else f"{told}, out of bounds"

    @staticmethod
    def from_json(data: Any) -> Fidelity:
        """Check what ``dataclasses.asdict`` wrote. Raises ValueError naming the first field that is wrong."""
        if not isinstance(data, dict):
            raise ValueError(f"`quality` is `{data}`, expected an object")
        checks: Mapping[str, Callable[[Any], bool]] = {
            "within": lambda value: isinstance(value, bool),
            "tokens": lambda value: type(value) is int and value >= 0,
        }
        for field in fields(Fidelity):
            value = data.get(field.name)
            if not checks.get(field.name, _is_figure)(value):
                raise ValueError(f"`quality.{field.name}` is `{value}`")
        known: dict[str, Any] = {field.name: data.get(field.name) for field in fields(Fidelity)}
        return Fidelity(**known)


def _is_figure(value: object) -> bool:
    return value is None or (type(value) in (int, float) and math.isfinite(float(str(value))))
