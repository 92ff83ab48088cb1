"""Memory grows with the context, and the longest context is the last that fits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fastslm.engine.generate import GenerationOptions
from fastslm.export.footprint import Footprint
from fastslm.plan.memory import CHUNK_TOKENS, longest_context, memory_need
from fastslm.store.manifest import ModelKind

SIZES = st.integers(0, 10**11)


@st.composite
def footprints(draw: st.DrawFn) -> Footprint:
    heap, mapped, passing = draw(SIZES), draw(SIZES), draw(st.integers(0, 10**9))
    context, kv, row = draw(st.integers(1, 131072)), draw(st.integers(0, 10**6)), draw(st.integers(0, 10**6))
    return Footprint(ModelKind("llama", "int4", "native"), context, 16, heap, heap, heap, mapped, passing, kv, row)


@given(footprints(), st.integers(1, 131072), st.integers(1, 131072))
def test_a_longer_context_never_takes_less(footprint: Footprint, one: int, other: int) -> None:
    """So that a model that fits also fits with less to remember."""
    short, long = sorted((one, other))
    assert memory_need(footprint, short, 0).peak_bytes <= memory_need(footprint, long, 0).peak_bytes


@given(footprints(), st.integers(0, 3 * 10**11))
def test_the_longest_context_fits_and_the_next_does_not(footprint: Footprint, available: int) -> None:
    """It is found by halving, and is what counting up would find."""
    found = longest_context(footprint, 1000, available)
    assert 0 <= found <= footprint.context_length
    if found:
        assert memory_need(footprint, found, 1000).peak_bytes <= available
    if found < footprint.context_length:
        assert memory_need(footprint, found + 1, 1000).peak_bytes > available


def test_a_prompt_is_computed_in_the_chunks_that_the_engine_uses() -> None:
    """The estimate of intermediate results rests on it."""
    assert GenerationOptions().chunk_tokens == CHUNK_TOKENS
