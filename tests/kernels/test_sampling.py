"""The sampling kernels against their slow definition, compiled and as plain Python."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tests.reference import sampling as slow

from fastslm.kernels import sampling
from fastslm.kernels.sampling import (
    BLOCK,
    NO_TOKEN,
    Filters,
    bounds,
    mass,
    new_scratch,
    penalize,
    sample,
    scan,
    uniform,
)

NEUTRAL = Filters(1.0, 0, 1.0, 0.0, 1.0, 0.0, 0.0)
NOBODY = np.zeros(0, np.int64)


widths = st.integers(1, 3 * BLOCK + 50)
filters_strategy = st.builds(
    Filters,
    temperature=st.floats(0.1, 3.0),
    top_k=st.integers(0, 450),
    top_p=st.one_of(st.just(1.0), st.floats(0.01, 0.999)),
    min_p=st.one_of(st.just(0.0), st.floats(0.001, 1.0)),
    repetition_penalty=st.floats(0.5, 2.0),
    presence_penalty=st.floats(-2.0, 2.0),
    frequency_penalty=st.floats(-2.0, 2.0),
)


@st.composite
def logit_arrays(draw):
    """Rows that are smooth, full of ties, flat, or with tokens forbidden by minus infinity."""
    width = draw(widths)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = rng.normal(0, draw(st.sampled_from([0.0, 0.1, 1.0, 5.0, 30.0])), width)
    if draw(st.booleans()):
        values = np.round(values)
    row = values.astype(np.float32)
    if draw(st.booleans()):
        row[rng.random(width) < 0.3] = -np.inf
        row[rng.integers(width)] = 1.0
    return row


def kept_ids(logits, filters, *, compiled=True):
    """Every token that could be drawn: its key reaches the floor, and what is above it weighs less than the limit."""
    choose = bounds if compiled else bounds.py_func
    scratch = new_scratch(len(logits), 0)
    best = logits[scan(logits, scratch.maxima)]
    floor, limit = choose(logits, best, filters, scratch)
    keys = [sampling._key(int(bits), token) for token, bits in enumerate(logits.view(np.int32))]
    weigh = mass if compiled else mass.py_func
    one = np.float32(1)
    return {t for t, key in enumerate(keys) if key >= floor and weigh(logits, key + 1, best, one, scratch) < limit}


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])  # on a busy machine
@given(logit_arrays(), filters_strategy)
def test_exactly_the_tokens_of_the_definition_can_be_drawn(logits, filters):
    ranked = slow.ranked(logits)[: filters.top_k or None]
    reached = slow.reached_mass(logits, ranked)
    assume(np.all(np.abs(reached[:-1] - filters.top_p) > 1e-6))  # which side of a rounding error is nobody's business
    assert kept_ids(logits, filters) == set(slow.candidates(logits, filters).tolist())


@pytest.mark.parametrize("row", [[0, 0], [1e-40, 0, -1e-40, -0.0], [2e-38, 1e-40, 0, -2e-38]])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_subnormal_logits_are_zeros(row: list[float], k: int) -> None:
    """So that it makes no difference whether the processor takes them for zeros, as some libraries have it do."""
    logits = np.array(row, np.float32)
    flushed = np.where(np.abs(logits) < np.finfo(np.float32).tiny, np.float32(0), logits)
    filters = NEUTRAL._replace(top_k=k)
    wanted = (
        set(np.argsort(-flushed, kind="stable")[: min(k, len(row))].tolist()) if k < len(row) else set(range(len(row)))
    )
    assert kept_ids(logits, filters) == wanted == kept_ids(flushed, filters)


@settings(max_examples=15, deadline=None)
@given(logit_arrays(), filters_strategy)
def test_without_the_compiler_the_result_is_the_same(logits, filters):
    reached = slow.reached_mass(logits, slow.ranked(logits)[: filters.top_k or None])
    assume(np.all(np.abs(reached[:-1] - filters.top_p) > 1e-6))
    assert kept_ids(logits, filters, compiled=False) == kept_ids(logits, filters)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-80, 0, width=32), min_size=1, max_size=300), st.floats(0.1, 3))
def test_the_mass_of_tokens_is_that_of_the_exponential(differences, rate):
    """The weights come from a polynomial in float32, the sums of a block too."""
    logits = np.array([0.0, *differences], np.float32)
    scratch = new_scratch(len(logits), 0)
    scan(logits, scratch.maxima)
    total = mass(logits, sampling.EVERY, np.float32(0), np.float32(rate), scratch)
    slowly = np.exp(np.maximum(logits.astype(np.float64) * np.float32(rate), -87)).sum()
    assert total == pytest.approx(slowly, rel=2e-6)
    assert total == pytest.approx(scratch.masses.sum())


def test_the_whole_module_runs_without_numba_s_compiler(tmp_path):
    """Every helper as plain Python, with numpy's overflow warnings as errors, draws the same tokens."""
    script = (
        "import warnings; warnings.simplefilter('error')\n"
        "import numpy as np\n"
        "from fastslm.kernels.sampling import Filters, new_scratch, sample\n"
        "logits = np.random.default_rng(1).normal(0, 2, 300).astype(np.float32)\n"
        "for f in (Filters(0.8, 40, 0.9, 0.02, 1.1, 0.2, 0.1), Filters(1.5, 0, 0.95, 0.0, 1.0, 0.0, 0.0)):\n"
        "    s = new_scratch(300, 7)\n"
        "    print([int(sample(logits.copy(), np.arange(9), f, s)) for _ in range(40)])\n"
    )
    outputs = []
    for disabled in ("0", "1"):
        env = {**os.environ, "NUMBA_DISABLE_JIT": disabled, "PYTHONPATH": os.pathsep.join(sys.path)}
        run = [sys.executable, "-c", script]
        outputs.append(subprocess.run(run, env=env, capture_output=True, text=True, timeout=100, check=True).stdout)
    assert outputs[0] == outputs[1]
    assert outputs[0].count("\n") == 2


@settings(max_examples=100, deadline=None)
@given(logit_arrays(), st.lists(st.integers(-3, 500), max_size=80), filters_strategy)
def test_penalties_are_those_of_the_definition(logits, recent, filters):
    """Ids outside the vocabulary (an image token, a padded row) are ignored, and the counts are left clean."""
    changed, counts = logits.copy(), np.zeros(len(logits), np.int32)
    penalize(changed, np.array(recent, np.int64), filters, counts)
    np.testing.assert_allclose(changed, slow.penalized(logits, recent, filters), rtol=1e-5, atol=1e-5)
    assert not counts.any()


@pytest.mark.parametrize(
    "filters",
    [
        NEUTRAL,
        Filters(0.7, 12, 0.9, 0.02, 1.3, 0.4, 0.2),
        Filters(1.8, 0, 0.8, 0.0, 1.0, 0.0, 0.0),
        Filters(0.5, 0, 1.0, 0.1, 1.0, 0.0, 0.3),
    ],
)
def test_tokens_come_as_often_as_they_should(filters):
    """Chi-square over 20,000 draws; the seed is fixed, so this does not fail by chance."""
    logits = np.random.default_rng(5).normal(0, 1.5, 50).astype(np.float32)
    recent = np.array([3, 3, 7, 20, 49], np.int64)
    expected = slow.distribution(logits, recent, filters) * 20_000
    scratch = new_scratch(50, 11)
    drawn = np.bincount([sample(logits.copy(), recent, filters, scratch) for _ in range(20_000)], minlength=50)
    assert not drawn[expected == 0].any()
    often = expected >= 5
    chi_square = float(((drawn[often] - expected[often]) ** 2 / expected[often]).sum())
    freedom = max(int(often.sum()) - 1, 1)
    assert chi_square < freedom + 4 * math.sqrt(2 * freedom)


def test_the_generator_is_xoshiro128_plus_plus():
    """Words of the published C code for the state 1, 2, 3, 4."""
    state = np.array([1, 2, 3, 4], np.int64)
    words = [int(sampling._next_word(state)) for _ in range(5)]
    assert words == [641, 1573767, 3222811527, 3517856514, 836907274]


def test_uniform_numbers_stay_below_one_and_look_uniform():
    scratch = new_scratch(1, 2024)
    numbers = np.array([uniform(scratch.rng) for _ in range(20_000)])
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert abs(numbers.mean() - 0.5) < 0.01
    assert abs(numbers.var() - 1 / 12) < 0.01
    assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 0.03


def test_seeds_that_are_neighbours_give_unrelated_states():
    states = {tuple(new_scratch(1, seed).rng.tolist()) for seed in range(1000)}
    assert len(states) == 1000
    assert all(any(state) for state in states)


@pytest.mark.parametrize("bad", [math.nan, -math.nan, math.inf])
@pytest.mark.parametrize("place", [0, 63, 64, 299])
def test_logits_that_are_not_numbers_are_refused_wherever_they_are(bad, place):
    logits = np.random.default_rng(0).normal(0, 2, 300).astype(np.float32)
    logits[place] = bad
    for filters in (NEUTRAL, Filters(1.0, 40, 0.9, 0.1, 1.0, 0.0, 0.0)):
        assert sample(logits.copy(), NOBODY, filters, new_scratch(300, 0)) == NO_TOKEN


def test_when_every_token_is_forbidden_none_is_chosen():
    assert sample(np.full(70, -np.inf, np.float32), NOBODY, NEUTRAL, new_scratch(70, 0)) == NO_TOKEN


def test_a_forbidden_token_is_never_drawn():
    logits = np.full(70, -np.inf, np.float32)
    logits[[5, 66]] = -3.0
    scratch = new_scratch(70, 3)
    for filters in (NEUTRAL, NEUTRAL._replace(top_k=10), NEUTRAL._replace(top_p=0.99)):
        assert {sample(logits, NOBODY, filters, scratch) for _ in range(200)} == {5, 66}


@pytest.mark.parametrize("temperature", [1e-4, 1e-30, 1e-310])
def test_the_coldest_temperatures_leave_the_best_token_only(temperature):
    logits = np.random.default_rng(0).normal(0, 2, 300).astype(np.float32)
    scratch = new_scratch(300, 1)
    cold = NEUTRAL._replace(temperature=temperature)
    assert {sample(logits, NOBODY, cold, scratch) for _ in range(50)} == {int(np.argmax(logits))}


def test_ties_at_the_border_go_to_the_lower_id_and_zeros_are_equal():
    logits = np.zeros(200, np.float32)
    logits[:100] = -0.0
    assert kept_ids(logits, NEUTRAL._replace(top_k=3)) == {0, 1, 2}


def test_a_wide_flat_row_is_no_worst_case():
    """152,064 equal logits: the selection must not go quadratic."""
    width = 152_064
    scratch = new_scratch(width, 0)
    for logits in (np.zeros(width, np.float32), np.arange(width, dtype=np.float32) * 1e-6):
        scan(logits, scratch.maxima)
        for k in (1, 1000, 70_000, width):
            floor = sampling.kth_key(logits, k, scratch)
            total = mass(logits, floor, logits.max(), np.float32(0), scratch)  # at rate 0 a token weighs 1
            assert total == k
    drawn = {sample(np.zeros(width, np.float32), NOBODY, NEUTRAL._replace(top_p=0.5), scratch) for _ in range(100)}
    assert max(drawn) < 76_032
    assert len(drawn) > 90


@pytest.mark.parametrize("temperature", [0.2, 1.0, 4.0])
def test_what_top_p_refuses_does_not_change_the_odds_of_the_rest(temperature):
    """A wide row, most of which top-p refuses: drawn again and again until a token counts, at any temperature."""
    logits = np.random.default_rng(8).normal(0, 2, 3000).astype(np.float32)
    filters = Filters(temperature, 0, 0.3, 0.0, 1.0, 0.0, 0.0)
    expected = slow.distribution(logits, NOBODY, filters) * 20_000
    scratch = new_scratch(3000, 4)
    drawn = np.bincount([sample(logits, NOBODY, filters, scratch) for _ in range(20_000)], minlength=3000)
    assert not drawn[expected == 0].any()
    often = expected >= 5
    chi_square = float(((drawn[often] - expected[often]) ** 2 / expected[often]).sum())
    freedom = max(int(often.sum()) - 1, 1)
    assert chi_square < freedom + 4 * math.sqrt(2 * freedom)
