"""The real demo model from end to end, against llama.cpp's answers in ``golden/demo_reference.json``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fastslm
from fastslm.config import Settings

pytestmark = [pytest.mark.demo, pytest.mark.xdist_group("demo"), pytest.mark.timeout(600)]

GOLDEN = Path(__file__).parent / "golden"
REFERENCE = json.loads((GOLDEN / "demo_reference.json").read_text(encoding="utf-8"))
NEAR_TIE = 0.05
"""Two tokens whose logits are closer than this may change places."""
NOISE = 3 * REFERENCE["gap_noise"]
"""How far two logits move against each other when llama.cpp itself merely runs with another KV cache type (three
standard deviations): it and we round activations to 8 bits, which amplifies the smallest difference in arithmetic."""


@pytest.fixture(scope="module")
def model(demo_ready: Settings) -> Iterator[fastslm.Model]:
    """With a cache of float32, as the others have it that it is compared with."""
    with fastslm.load("demo", kv_cache="f32", settings=demo_ready) as model:
        yield model


@pytest.mark.parametrize("case", REFERENCE["cases"], ids=lambda c: c["question"][:30])
def test_greedy_answers_are_those_of_llama_cpp(model: fastslm.Model, case: dict[str, Any]) -> None:
    """Same prompt tokens, same answer, or another one only from where llama.cpp is not sure of its own either."""
    bound = NEAR_TIE if case is REFERENCE["cases"][0] else NOISE
    messages = [{"role": "user", "content": case["question"]}]
    assert model.tokenize(model.prompt(messages)) == case["prompt_ids"]
    ids = list(model.chat(messages, temperature=0, max_tokens=len(case["ids"])).token_ids)
    differing = [i for i, (ours, theirs) in enumerate(zip(ids, case["ids"], strict=False)) if ours != theirs]
    if differing:
        step = differing[0]
        best, second = case["top_logits"][step]
        assert ids[step] == case["seconds"][step], f"token {step} is none of the two best"
        assert best - second <= bound, f"token {step} differs and is no near tie"
    else:
        assert ids == case["ids"]


def test_perplexity_is_that_of_llama_cpp(model: fastslm.Model) -> None:
    """Within one percent on the same tokens."""
    expected = REFERENCE["perplexity"]
    text = (GOLDEN / "evaluation.txt").read_text(encoding="utf-8")
    report = model.perplexity(text, expected["tokens"])
    assert report.tokens == expected["tokens"]
    assert report.perplexity == pytest.approx(expected["value"], rel=0.01)


def test_our_operators_predict_as_well_as_the_stock_ones(
    demo_ready: Settings, model: fastslm.Model, tmp_path: Path
) -> None:
    """On more than 2,000 tokens their perplexity is within 0.3 % of that of ONNX Runtime's own operators."""
    text = "".join((GOLDEN / f"{name}.txt").read_text(encoding="utf-8") for name in ("evaluation", "evaluation_more"))
    folder = fastslm.convert("demo", target="portable", output=tmp_path / "portable", settings=demo_ready)
    with fastslm.load(folder, settings=demo_ready) as stock:
        expected = stock.perplexity(text)
    assert model.manifest.target == "native"
    assert expected.tokens > 2000
    assert model.perplexity(text).perplexity == pytest.approx(expected.perplexity, rel=0.003)


def test_the_usual_cache_moves_perplexity_no_more_than_rounding_does(
    demo_ready: Settings, model: fastslm.Model
) -> None:
    """int16 moves near ties, as every change of arithmetic does: activations of 8 bits amplify the smallest one."""
    text = (GOLDEN / "evaluation.txt").read_text(encoding="utf-8")
    with fastslm.load("demo", settings=demo_ready) as usual:
        assert (usual.kv_cache, model.kv_cache) == ("int16", "f32")
        assert usual.perplexity(text).perplexity == pytest.approx(model.perplexity(text).perplexity, rel=0.003)


def test_pieces_join_to_the_whole_text(model: fastslm.Model) -> None:
    """Emoji and CJK arrive in pieces of half characters and still join."""
    for text in ("naïve café", "日本語のテキスト", "👩‍👩‍👧 family", "a\n\n\tb", "<|im_start|>user\n"):
        ids = model.tokenize(text)
        assert model.detokenize(ids) == text


def test_a_sampled_answer_repeats_with_its_seed(model: fastslm.Model) -> None:
    """The Numba kernels on a real vocabulary."""
    messages = [{"role": "user", "content": "Tell me a joke."}]
    request = {"temperature": 0.9, "top_p": 0.9, "top_k": 50, "min_p": 0.02, "repetition_penalty": 1.1}
    first = model.chat(messages, seed=3, max_tokens=24, **request)
    assert first.text == model.chat(messages, seed=3, max_tokens=24, **request).text
    assert first.usage.completion_tokens <= 24


def test_a_conversation_computes_only_what_is_new(model: fastslm.Model) -> None:
    """The second turn finds the first in the KV cache, and the answer is as good as without it."""
    messages = [{"role": "user", "content": "What is the capital of France, and why is it famous?"}]
    answer = model.chat(messages, temperature=0, max_tokens=64)
    more = [*messages, {"role": "assistant", "content": answer.text}, {"role": "user", "content": "And of Spain?"}]
    cached = model.chat(more, temperature=0, max_tokens=24)
    assert cached.timings.cached_tokens >= answer.usage.prompt_tokens
    model.chat([{"role": "user", "content": "Something else."}], temperature=0, max_tokens=2)
    fresh = model.chat(more, temperature=0, max_tokens=24)
    assert fresh.timings.cached_tokens < cached.timings.cached_tokens
    assert "Madrid" in cached.text
    assert "Madrid" in fresh.text


@pytest.mark.parametrize(("precision", "most"), [("int8", 1.01), ("int4", 1.10)])
def test_other_precisions_stay_close(
    demo_ready: Settings, model: fastslm.Model, precision: fastslm.api.Precision, most: float
) -> None:
    """Quantising the (already 4-bit) weights again costs little; int4 has its rounding on top of the source's."""
    text = (GOLDEN / "evaluation.txt").read_text(encoding="utf-8")
    base = model.perplexity(text, 512).perplexity
    with fastslm.load("demo", precision=precision, settings=demo_ready) as other:
        assert other.perplexity(text, 512).perplexity <= base * most
