"""Converted tiny models give the logits that transformers gives, however the tokens are fed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastslm.export.convert import convert
from fastslm.export.options import ConvertOptions
from fastslm.formats import open_model
from reference import llama as twin
from support.decoder import Decoder, all_logits
from support.golden import COMPUTED, VARIANTS, Golden, golden_model

FP32 = 1e-4


def converted(variant: str, tmp_path: Path, precision: str = "fp32") -> tuple[Golden, Path]:
    golden = golden_model(variant, tmp_path / "source")
    target = tmp_path / precision
    target.mkdir()
    convert(open_model(golden.folder), target, ConvertOptions("tiny", "0" * 12, precision))
    return golden, target


@pytest.mark.parametrize("variant", COMPUTED)
def test_a_whole_prompt_gives_the_logits_of_transformers(variant: str, tmp_path: Path) -> None:
    """Every option that we claim to support is computed, not skipped."""
    golden, folder = converted(variant, tmp_path)
    for prompt, expected in zip(golden.prompts, golden.logits, strict=True):
        np.testing.assert_allclose(all_logits(folder, prompt), expected, atol=FP32)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_slow_twin_agrees_with_transformers(variant: str, tmp_path: Path) -> None:
    """The twin is the definition that later kernels are held against, so it must be right itself."""
    golden = golden_model(variant, tmp_path)
    tensors = open_model(golden.folder).tensors
    weights = {name: tensors.read(name) for name in tensors}
    ids = golden.prompts[0].tolist()
    np.testing.assert_allclose(twin.logits(golden.config, weights, ids), golden.logits[0], atol=FP32)


@pytest.mark.parametrize("variant", COMPUTED)
def test_token_by_token_equals_all_at_once(variant: str, tmp_path: Path) -> None:
    """An answer is generated one token at a time from the cache."""
    golden, folder = converted(variant, tmp_path)
    decoder = Decoder(folder)
    rows = [decoder.step(token.reshape(1, 1), [0])[0] for token in golden.prompts[0]]
    np.testing.assert_allclose(rows, golden.logits[0], atol=FP32)


@pytest.mark.parametrize("variant", COMPUTED)
@pytest.mark.parametrize("chunk", [2, 7])
def test_chunks_equal_all_at_once(variant: str, chunk: int, tmp_path: Path) -> None:
    """A long prompt, or the next turn of a chat, is fed in pieces on top of what the cache holds."""
    golden, folder = converted(variant, tmp_path)
    decoder, prompt = Decoder(folder), golden.prompts[0]
    pieces = [prompt[start : start + chunk] for start in range(0, len(prompt), chunk)]
    rows = [decoder.step(piece[None], list(range(len(piece)))) for piece in pieces]
    np.testing.assert_allclose(np.concatenate(rows), golden.logits[0], atol=FP32)


@pytest.mark.parametrize("variant", COMPUTED)
def test_two_prompts_of_different_length_share_a_batch(variant: str, tmp_path: Path) -> None:
    """The padding of the shorter prompt changes nothing, neither in the prompt nor in the steps after it."""
    golden, folder = converted(variant, tmp_path)
    lengths = [len(prompt) - 2 for prompt in golden.prompts]
    width = max(lengths)
    ids = np.zeros((2, width), np.int64)
    for row, prompt in enumerate(golden.prompts):
        ids[row, : lengths[row]] = prompt[: lengths[row]]
    decoder = Decoder(folder, batch=2)
    steps = [decoder.step(ids, [lengths[0] - 1, width + lengths[1] - 1], lengths)]
    for extra in range(2):
        tokens = np.array([[prompt[length + extra]] for prompt, length in zip(golden.prompts, lengths, strict=True)])
        steps.append(decoder.step(tokens, [0, 1]))
    for row, length in enumerate(lengths):
        found = np.array([step[row] for step in steps])
        np.testing.assert_allclose(found, golden.logits[row][length - 1 : length + 2], atol=FP32)


def test_logits_come_for_the_rows_asked_for_and_no_others(tmp_path: Path) -> None:
    """A prompt of a thousand tokens must not pay for a thousand heads, and a chunk in the middle for none."""
    golden, folder = converted("untied", tmp_path)
    prompt, expected = golden.prompts[0], golden.logits[0]
    found = Decoder(folder).step(prompt[None], [4, 0, 4])
    np.testing.assert_allclose(found, expected[[4, 0, 4]], atol=FP32)
    decoder = Decoder(folder)
    assert decoder.step(prompt[None, :9], []).shape == (0, expected.shape[1])
    np.testing.assert_allclose(decoder.step(prompt[None, 9:], [len(prompt) - 10]), expected[-1:], atol=FP32)


@pytest.mark.parametrize("variant", COMPUTED)
@pytest.mark.parametrize(("precision", "bound"), [("int8", 0.06), ("int4", 0.4)])
def test_quantised_models_stay_close(variant: str, precision: str, bound: float, tmp_path: Path) -> None:
    """Root mean square error of the logits, as a part of their spread. Random weights suffer more than trained ones."""
    golden, folder = converted(variant, tmp_path, precision)
    for prompt, expected in zip(golden.prompts, golden.logits, strict=True):
        error = all_logits(folder, prompt) - expected
        assert np.sqrt((error**2).mean()) < bound * expected.std()
