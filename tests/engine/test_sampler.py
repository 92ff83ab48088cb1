"""Sampling options and samplers: clear refusals, reproducible draws, no numba where it is not needed."""

import math
import subprocess
import sys

import numpy as np
import pytest
from tests.reference import sampling as slow

from fastslm.engine.sampler import GreedySampler, KernelSampler, SamplingOptions, make_sampler
from fastslm.errors import GenerationFailed, UsageError
from fastslm.kernels.sampling import Filters


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("temperature", -0.1, "from 0 to 100"),
        ("temperature", math.nan, "from 0 to 100"),
        ("temperature", "hot", "from 0 to 100"),
        ("temperature", True, "from 0 to 100"),
        ("top_k", -1, "a whole number from 0"),
        ("top_k", 2.5, "a whole number from 0"),
        ("top_p", 0, "above 0 and at most 1"),
        ("top_p", 1.01, "above 0 and at most 1"),
        ("min_p", 1.5, "from 0 to 1"),
        ("repetition_penalty", 0.0, "from 0.01 to 100"),
        ("presence_penalty", math.inf, "from -100 to 100"),
        ("frequency_penalty", None, "from -100 to 100"),
        ("repeat_last_n", -1, "a whole number from 0"),
        ("seed", 1.5, "a whole number"),
    ],
)
def test_values_without_a_meaning_are_refused_by_name(name, value, expected):
    with pytest.raises(UsageError) as caught:
        SamplingOptions(**{name: value})
    assert caught.value.message == f"`{name}` is `{value}`, expected {expected}"
    assert caught.value.name == name


def draw(options, count=60, width=200, prompt=()):
    sampler = make_sampler(options, width)
    sampler.observe(prompt)
    tokens = []
    for step in range(count):
        logits = np.random.default_rng(step).normal(0, 2, width).astype(np.float32)
        tokens.append(sampler.pick(logits))
        sampler.observe(tokens[-1:])
    return tokens


def test_the_same_seed_gives_the_same_answer_and_another_seed_another():
    first = draw(SamplingOptions(temperature=1.0, seed=7))
    assert draw(SamplingOptions(temperature=1.0, seed=7)) == first
    assert draw(SamplingOptions(temperature=1.0, seed=8)) != first
    assert draw(SamplingOptions(temperature=1.0, seed=-1)) != first
    assert draw(SamplingOptions(temperature=1.0)) != draw(SamplingOptions(temperature=1.0))


def test_temperature_zero_takes_the_best_token_whatever_the_filters():
    logits = [np.random.default_rng(step).normal(0, 2, 200).astype(np.float32) for step in range(60)]
    assert draw(SamplingOptions(temperature=0, top_k=3, min_p=0.5)) == [int(np.argmax(row)) for row in logits]
    assert isinstance(make_sampler(SamplingOptions(temperature=0), 10), GreedySampler)
    assert isinstance(make_sampler(SamplingOptions(temperature=0, presence_penalty=1), 10), KernelSampler)
    off = SamplingOptions(temperature=0, presence_penalty=1, repeat_last_n=0)
    assert isinstance(make_sampler(off, 10), GreedySampler)


def test_greedy_with_penalties_is_the_best_of_the_lowered_logits():
    """A frequency penalty looks at prompt and answer, within its window of recent tokens."""
    options = SamplingOptions(temperature=0, repetition_penalty=1.3, frequency_penalty=0.7, repeat_last_n=6)
    filters = Filters(1.0, 0, 1.0, 0.0, 1.3, 0.0, 0.7)
    prompt = [4, 9, 4, 1, 1, 30, 2, 2]
    history, expected = list(prompt), []
    for step in range(60):
        logits = np.random.default_rng(step).normal(0, 2, 40).astype(np.float32)
        expected.append(int(np.argmax(slow.penalized(logits, history[-6:], filters))))
        history.append(expected[-1])
    assert draw(options, width=40, prompt=prompt) == expected
    assert expected != draw(SamplingOptions(temperature=0), width=40)


@pytest.mark.parametrize("options", [SamplingOptions(temperature=0), SamplingOptions(temperature=0.7, seed=1)])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logits_that_are_not_numbers_end_the_generation_with_a_sentence(options, bad):
    logits = np.zeros(100, np.float32)
    logits[[3, 50]] = bad
    with pytest.raises(GenerationFailed, match="the model gave 2 logits of 100 that are NaN or infinite"):
        make_sampler(options, 100).pick(logits)


@pytest.mark.parametrize("options", [SamplingOptions(temperature=0), SamplingOptions(temperature=0.7, seed=1)])
def test_a_token_ruled_out_is_fine_while_another_is_left(options):
    logits = np.full(100, -np.inf, np.float32)
    with pytest.raises(GenerationFailed, match="100 logits of 100"):
        make_sampler(options, 100).pick(logits.copy())
    logits[42] = -5.0
    assert make_sampler(options, 100).pick(logits) == 42


def test_a_greedy_answer_does_not_wait_for_numba():
    code = (
        "import sys, numpy as np\n"
        "from fastslm.engine.sampler import SamplingOptions, make_sampler\n"
        "make_sampler(SamplingOptions(temperature=0), 9).pick(np.arange(9, dtype=np.float32))\n"
        "print('numba' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"


def test_a_failure_to_load_the_kernels_reaches_the_caller(monkeypatch):
    def fail():
        raise ImportError("numba is damaged")

    monkeypatch.setattr("fastslm.engine.sampler.load_kernels", fail)
    sampler = make_sampler(SamplingOptions(seed=1), 10)
    with pytest.raises(ImportError, match="numba is damaged"):
        sampler.pick(np.zeros(10, np.float32))
