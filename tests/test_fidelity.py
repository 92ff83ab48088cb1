"""Figures of a model's quality survive the way to the disk and back, and damaged ones are refused by name."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest

from fastslm.fidelity import Fidelity

DECODER = Fidelity(True, 314, 0.0042, 18.8, 18.69, 0.95)
ENCODER = Fidelity(False, 583, least_cosine=0.9)


@pytest.mark.parametrize("figures", [DECODER, ENCODER])
def test_they_survive_json(figures: Fidelity) -> None:
    assert Fidelity.from_json(json.loads(json.dumps(asdict(figures)))) == figures


@pytest.mark.parametrize(
    "damage",
    [
        {"within": "yes"},
        {"within": None},
        {"tokens": -1},
        {"tokens": True},
        {"perplexity": "low"},
        {"same_best": True},
        {"kl_divergence": float("nan")},
        {"least_cosine": float("inf")},
        {"float_perplexity": [1]},
    ],
    ids=str,
)
def test_damage_is_named(damage: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"quality.{next(iter(damage))}"):
        Fidelity.from_json({**asdict(DECODER), **damage})
    with pytest.raises(ValueError, match="expected an object"):
        Fidelity.from_json([1])


def test_a_line_for_people() -> None:
    assert DECODER.summary == "KL divergence 0.0042, perplexity 18.80 (floats 18.69), 95% equal best tokens"
    assert ENCODER.summary == "cosine at least 0.9000, out of bounds"
