"""Converted tiny models give the logits that transformers gives, however the tokens are fed: every family."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from fastslm.export.convert import convert
from fastslm.export.families import FAMILIES
from fastslm.export.hparams import Hparams
from fastslm.export.options import ConvertOptions, Target
from fastslm.formats import open_model
from fastslm.formats.model_folder import classic_rope
from fastslm.store.manifest import ModelManifest
from support.decoder import Decoder, all_logits
from support.golden import FAMILY_VARIANTS, VARIANTS, WINDOW_IS_WIDER, Golden, described, golden_model, has_window

FP32 = 1e-4

Converted = Callable[[str, str], tuple[Golden, Path]]
TARGETS = get_args(Target)


BEYOND_SHORT = {"phi3_long": 64}
"""Variants that are converted for more positions than their short factors are for."""


@pytest.fixture(scope="module", params=TARGETS)
def converted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Converted:
    """Converts a variant to a precision for a target, once for all tests."""
    done: dict[tuple[str, str], tuple[Golden, Path]] = {}

    def get(variant: str, precision: str) -> tuple[Golden, Path]:
        if request.param == "portable" and FAMILIES[described(variant)["config"]["model_type"]].native_only:
            pytest.skip("it needs our operators")
        if request.param == "portable" and WINDOW_IS_WIDER and has_window(variant):
            pytest.skip("this ONNX Runtime has wider windows than the model")
        if (variant, precision) not in done:
            golden = golden_model(variant, tmp_path_factory.mktemp("source"))
            target = tmp_path_factory.mktemp(precision)
            options = ConvertOptions("tiny", "0" * 12, precision, BEYOND_SHORT.get(variant), request.param)
            convert(open_model(golden.folder), target, options)
            done[variant, precision] = golden, target
        return done[variant, precision]

    return get


def test_every_family_has_a_golden_model() -> None:
    """What the README's table lists is tested against transformers."""
    assert {described(variant)["config"]["model_type"] for variant in VARIANTS} == set(FAMILIES)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_whole_prompt_gives_the_logits_of_transformers(variant: str, converted: Converted) -> None:
    """Every option that we claim to support is computed, not skipped."""
    golden, folder = converted(variant, "fp32")
    for prompt, expected in zip(golden.prompts, golden.logits, strict=True):
        np.testing.assert_allclose(all_logits(folder, prompt), expected, atol=FP32)


@pytest.mark.parametrize("variant", VARIANTS)
def test_token_by_token_equals_all_at_once(variant: str, converted: Converted) -> None:
    """An answer is generated one token at a time from the cache."""
    golden, folder = converted(variant, "fp32")
    decoder = Decoder(folder)
    rows = [decoder.step(token.reshape(1, 1), [0])[0] for token in golden.prompts[0]]
    np.testing.assert_allclose(rows, golden.logits[0], atol=FP32)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("chunk", [2, 7])
def test_chunks_equal_all_at_once(variant: str, chunk: int, converted: Converted) -> None:
    """A long prompt, or the next turn of a chat, is fed in pieces on top of what the cache holds."""
    golden, folder = converted(variant, "fp32")
    decoder, prompt = Decoder(folder), golden.prompts[0]
    pieces = [prompt[start : start + chunk] for start in range(0, len(prompt), chunk)]
    rows = [decoder.step(piece[None], list(range(len(piece)))) for piece in pieces]
    np.testing.assert_allclose(np.concatenate(rows), golden.logits[0], atol=FP32)


@pytest.mark.parametrize("variant", VARIANTS)
def test_two_prompts_of_different_length_share_a_batch(variant: str, converted: Converted) -> None:
    """The padding of the shorter prompt changes nothing, neither in the prompt nor in the steps after it."""
    golden, folder = converted(variant, "fp32")
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


@pytest.mark.parametrize("variant", VARIANTS)
def test_our_operators_give_the_same_bits_however_tokens_are_fed(variant: str, converted: Converted) -> None:
    """A greedy answer does not depend on what was cached, nor on the pieces in which a prompt came."""
    golden, folder = converted(variant, "int8")
    if ModelManifest.read(folder).target == "portable":
        pytest.skip("ONNX Runtime adds in another order for one row than for several")
    prompt, decoder = golden.prompts[0], Decoder(folder)
    pieces = [prompt[:1], prompt[1:2], prompt[2:9], prompt[9:]]
    rows = [decoder.step(piece[None], list(range(len(piece)))) for piece in pieces]
    assert np.concatenate(rows).tobytes() == all_logits(folder, prompt).tobytes()


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_come_for_the_rows_asked_for_and_no_others(variant: str, converted: Converted) -> None:
    """A prompt of a thousand tokens must not pay for a thousand heads, and a chunk in the middle for none."""
    golden, folder = converted(variant, "fp32")
    prompt, expected = golden.prompts[0], golden.logits[0]
    found = Decoder(folder).step(prompt[None], [4, 0, 4])
    np.testing.assert_allclose(found, expected[[4, 0, 4]], atol=FP32)
    decoder = Decoder(folder)
    assert decoder.step(prompt[None, :9], []).shape == (0, expected.shape[1])
    np.testing.assert_allclose(decoder.step(prompt[None, 9:], [len(prompt) - 10]), expected[-1:], atol=FP32)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("precision", "bound"), [("int8", 0.065), ("int4", 0.5)])
def test_quantised_models_stay_close(variant: str, precision: str, bound: float, converted: Converted) -> None:
    """Root mean square error of the logits, as a part of their spread. Random weights suffer more than trained ones."""
    golden, folder = converted(variant, precision)
    prompt, expected = golden.prompts[0], golden.logits[0]
    error = all_logits(folder, prompt) - expected
    assert np.sqrt((error**2).mean()) < bound * expected.std()


@pytest.mark.parametrize("variant", FAMILY_VARIANTS)
def test_both_generations_of_configurations_mean_the_same(variant: str, tmp_path: Path) -> None:
    """transformers 5 writes rotary parameters, layer types and names of values otherwise than version 4."""
    tensors = frozenset(open_model(golden_model(variant, tmp_path).folder).tensors)
    shapes = []
    for wording in ("config", "newer"):
        config = Hparams(classic_rope(described(variant)[wording]))
        shapes.append(FAMILIES[config.get("model_type")].read_shape(config, tensors))
    assert shapes[0] == shapes[1]
