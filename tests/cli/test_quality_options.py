"""What the command line says of a model's quality, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.float_model import float_model
from support.golden import ROOT

Run = Callable[..., Any]


@pytest.mark.parametrize("command", ["pull", "convert"])
def test_a_model_out_of_bounds_is_exit_code_1(fastslm: Run, tmp_path: Path, command: str) -> None:
    """One sentence with the figures; with --force the model is there, and `show` warns of it."""
    spoiled = str(float_model(tmp_path / "spoiled", spoiled=True))
    refused = fastslm(command, spoiled, "--precision", "int4", "--quiet")
    assert (refused.code, refused.out) == (1, "")
    assert "too far from its floats: KL divergence" in refused.err
    assert fastslm(command, spoiled, "--precision", "int4", "--quiet", "--force").code == 0
    shown = fastslm("show", spoiled, "--precision", "int4")
    assert "out of bounds" in shown.out


def test_figures_and_calibration_are_shown(fastslm: Run, tmp_path: Path) -> None:
    """As text and as JSON."""
    sound = str(float_model(tmp_path / "sound"))
    text = str(ROOT / "evaluation.txt")
    made = fastslm("convert", sound, "--precision", "int4", "--quality", "always", "--calibrate", text, "--json")
    quality = json.loads(made.out)["quality"]
    assert quality["within"] is True
    assert quality["kl_divergence"] > 0
    shown = fastslm("show", sound, "--precision", "int4").out
    assert f"KL divergence {quality['kl_divergence']:.4f}" in shown
    assert "int4, calibrated" in shown


def test_a_text_that_is_not_there_is_exit_code_3(fastslm: Run, tmp_path: Path) -> None:
    """Before anything is converted."""
    sound = str(float_model(tmp_path / "sound"))
    refused = fastslm("pull", sound, "--calibrate", str(tmp_path / "none.txt"))
    assert refused.code == 3
    assert "there is no text file" in refused.err
