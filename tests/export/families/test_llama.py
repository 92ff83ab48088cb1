"""The slow twin of the Llama block is right itself: later kernels are held against it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastslm.formats import open_model
from reference import llama as twin
from support.golden import LLAMA_VARIANTS, golden_model


@pytest.mark.parametrize("variant", LLAMA_VARIANTS)
def test_the_slow_twin_agrees_with_transformers(variant: str, tmp_path: Path) -> None:
    """In every option that it knows."""
    golden = golden_model(variant, tmp_path)
    tensors = open_model(golden.folder).tensors
    weights = {name: tensors.read(name) for name in tensors}
    ids = golden.prompts[0].tolist()
    np.testing.assert_allclose(twin.logits(golden.config, weights, ids), golden.logits[0], atol=1e-4)
