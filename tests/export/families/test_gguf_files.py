"""A GGUF file of a family gives what its folder gives: names, row orders, norms and metadata are translated back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fastslm.export.convert import convert
from fastslm.export.families import FAMILIES
from fastslm.export.options import ConvertOptions
from fastslm.formats import open_model
from fastslm.formats.gguf.names import ARCHITECTURES, MIXTURES
from support.decoder import all_logits
from support.family_gguf import ARCHITECTURES as WRITTEN
from support.family_gguf import UNSAID, write_family_gguf
from support.golden import golden_model


def logits(source: Path, target: Path, prompt: np.ndarray, precision: str) -> np.ndarray:
    target.mkdir()
    convert(open_model(source), target, ConvertOptions("tiny", "0" * 12, precision))
    return all_logits(target, prompt)


def folder_logits(variant: str, tmp_path: Path) -> tuple[np.ndarray, np.ndarray]:
    """A prompt and what the folder's conversion says; the folder was held against transformers elsewhere."""
    golden = golden_model(variant, tmp_path / "folder")
    config = {**golden.config, **UNSAID.get(variant, {})}
    (golden.folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return golden.prompts[0], logits(golden.folder, tmp_path / "expected", golden.prompts[0], "fp32")


def test_every_architecture_is_written_here() -> None:
    """What the README's table lists is tested."""
    assert set(WRITTEN.values()) == {*ARCHITECTURES, *MIXTURES}
    assert {arch.model_type for arch in [*ARCHITECTURES.values(), *MIXTURES.values()]} <= set(FAMILIES)


@pytest.mark.parametrize("variant", WRITTEN)
def test_a_gguf_file_gives_what_the_folder_gives(variant: str, tmp_path: Path) -> None:
    """Whoever has the one need not fetch the other."""
    prompt, expected = folder_logits(variant, tmp_path)
    found = logits(write_family_gguf(variant, tmp_path), tmp_path / "found", prompt, "fp32")
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("variant", WRITTEN)
def test_blocks_travel_with_their_rows(variant: str, tmp_path: Path) -> None:
    """Q8_0 blocks are imported as they are, also where rows are reordered or a tensor is split."""
    prompt, expected = folder_logits(variant, tmp_path)
    found = logits(write_family_gguf(variant, tmp_path, "Q8_0"), tmp_path / "found", prompt, "exact")
    assert np.sqrt(((found - expected) ** 2).mean()) < 0.06 * expected.std()
