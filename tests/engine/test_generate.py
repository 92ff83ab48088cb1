"""The generation loop alone, on a session that follows a script."""

import pytest
from tests.support.scripted_session import ScriptedSession
from tests.support.tiny_tokenizers import tokenizer_json

from fastslm.engine.generate import GenerationOptions, chunks, generate
from fastslm.engine.sampler import SamplingOptions
from fastslm.errors import ContextTooLong, GenerationFailed, UsageError
from fastslm.text.detok import StreamDecoder
from fastslm.text.tokenizer import Tokenizer

GREEDY = SamplingOptions(temperature=0)
PROMPT = [5, 6, 7, 8]
END = 1


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer(tokenizer_json("byte_level"))


def answer(tokenizer, session, prompt=PROMPT, cache=None, **options):
    options = GenerationOptions(sampling=GREEDY, stop_ids=frozenset({END}), **options)
    cache = session.new_cache() if cache is None else cache
    return list(generate(session, cache, prompt, StreamDecoder(tokenizer), options))


def script(tokenizer, text, **options):
    return ScriptedSession([*tokenizer.encode(text), END], prompt_tokens=len(PROMPT), **options)


def text_of(steps):
    return "".join(step.text for step in steps)


def test_text_streams_token_by_token_until_the_end_token(tokenizer):
    ids = tokenizer.encode("the dog 🙂 naïve")
    steps = answer(tokenizer, script(tokenizer, "the dog 🙂 naïve"))
    assert text_of(steps) == "the dog 🙂 naïve"
    assert [step.token_id for step in steps] == [*ids, END]
    assert [step.finish_reason for step in steps] == [None] * len(ids) + ["stop"]


def test_the_end_token_flushes_half_a_character(tokenizer):
    ids = tokenizer.encode("x🙂")[:-1]
    steps = answer(tokenizer, ScriptedSession([*ids, END], prompt_tokens=4))
    assert text_of(steps) == "x\N{REPLACEMENT CHARACTER}"


def test_special_tokens_inside_an_answer_are_not_shown(tokenizer):
    ids = [*tokenizer.encode("the"), 0, *tokenizer.encode(" dog"), END]
    assert text_of(answer(tokenizer, ScriptedSession(ids, prompt_tokens=4))) == "the dog"


def test_a_stop_string_over_several_tokens_ends_the_answer_before_it(tokenizer):
    session = script(tokenizer, "the dog</stop> and the fox")
    steps = answer(tokenizer, session, stop=("</stop>",))
    assert text_of(steps) == "the dog"
    assert steps[-1].finish_reason == "stop"
    assert steps[-1].token_id != END


def test_a_stop_string_that_is_the_whole_answer_leaves_no_text(tokenizer):
    steps = answer(tokenizer, script(tokenizer, "END"), stop=("END",))
    assert (text_of(steps), steps[-1].finish_reason) == ("", "stop")


def test_text_held_back_for_a_stop_string_appears_when_the_answer_ends_otherwise(tokenizer):
    assert text_of(answer(tokenizer, script(tokenizer, "the </st"), stop=("</stop>",))) == "the </st"
    steps = answer(tokenizer, script(tokenizer, "the </stop>"), stop=("</stop>",), max_tokens=4)
    assert text_of(steps).startswith("the ")
    assert "</stop>".startswith(text_of(steps)[4:])
    assert steps[-1].finish_reason == "length"


def test_max_tokens_ends_with_length_and_exactly_that_many(tokenizer):
    steps = answer(tokenizer, script(tokenizer, "the quick brown fox"), max_tokens=3)
    assert len(steps) == 3
    assert steps[-1].finish_reason == "length"
    assert steps[-1].timings.completion_tokens == 3


def test_the_context_limits_the_answer_and_is_used_to_the_last_position(tokenizer):
    session = ScriptedSession([], prompt_tokens=4, context_length=10)
    cache = session.new_cache()
    steps = answer(tokenizer, session, cache=cache, max_tokens=100)
    assert len(steps) == 6
    assert steps[-1].finish_reason == "length"
    assert len(cache) == 9  # the last token needs no place: nothing follows it


@pytest.mark.parametrize("length", [10, 11, 500])
def test_a_prompt_that_leaves_no_room_is_refused_with_both_numbers(tokenizer, length):
    session = ScriptedSession([], prompt_tokens=4, context_length=10)
    with pytest.raises(ContextTooLong, match=f"has {length} tokens, expected fewer than the context length of 10") as e:
        answer(tokenizer, session, prompt=[5] * length)
    assert (e.value.needed, e.value.available) == (length + 1, 10)
    assert session.steps == []
    assert len(answer(tokenizer, session, prompt=[5] * 9)) == 1


def test_an_empty_prompt_is_refused(tokenizer):
    with pytest.raises(UsageError, match="the prompt has no tokens"):
        answer(tokenizer, ScriptedSession([], prompt_tokens=0), prompt=[])


@pytest.mark.parametrize("options", [{"max_tokens": 0}, {"max_tokens": -5}, {"max_tokens": 1.5}, {"chunk_tokens": 0}])
def test_lengths_below_one_are_refused(options):
    with pytest.raises(UsageError, match="expected a whole number from 1"):
        GenerationOptions(**options)


@pytest.mark.parametrize(
    ("length", "size", "expected"),
    [(8, 4, [4, 4]), (9, 4, [4, 5]), (10, 4, [4, 4, 2]), (3, 4, [3]), (1, 4, [1]), (3, 1, [1, 2])],
)
def test_a_prompt_is_cut_into_chunks_that_do_not_leave_one_token_alone(length, size, expected):
    assert [stop - start for start, stop in chunks(0, length, size)] == expected


def test_what_the_cache_holds_of_the_prompt_is_not_computed_again(tokenizer):
    session = script(tokenizer, "the dog")
    cache = session.new_cache()
    first = answer(tokenizer, session, cache=cache)
    session.steps.clear()
    again = answer(tokenizer, session, cache=cache)
    assert session.steps[0] == 2  # two tokens at least, see `chunks`
    assert again[-1].timings.cached_tokens == 2
    assert [step.token_id for step in again] == [step.token_id for step in first]
    session.steps.clear()
    answer(tokenizer, session, prompt=[5, 6, 99, 98, 97], cache=cache)
    assert session.steps[0] == 3


def test_cancelling_ends_the_answer_between_tokens_and_between_chunks(tokenizer):
    calls = iter([False, False, False, True])
    steps = answer(tokenizer, script(tokenizer, "the quick brown fox"), cancelled=lambda: next(calls))
    assert [step.finish_reason for step in steps] == [None, None, "cancelled"]
    session = ScriptedSession([], prompt_tokens=40)
    calls = iter([False, True])
    steps = answer(tokenizer, session, prompt=[5] * 40, chunk_tokens=10, cancelled=lambda: next(calls))
    assert [(step.text, step.token_id, step.finish_reason) for step in steps] == [("", None, "cancelled")]
    assert session.steps == [10]


def test_after_a_failure_the_cache_can_be_used_again(tokenizer):
    error = GenerationFailed("out of memory")
    session = script(tokenizer, "the quick brown fox", fail_at=6, error=error)
    cache = session.new_cache()
    with pytest.raises(GenerationFailed, match="out of memory"):
        answer(tokenizer, session, cache=cache)
    session.fail_at = None
    assert text_of(answer(tokenizer, session, cache=cache)) == "the quick brown fox"


def test_timings_count_what_happened(tokenizer):
    steps = answer(tokenizer, script(tokenizer, "the dog"))
    timings = steps[-1].timings
    assert timings.prompt_tokens == 4
    assert timings.completion_tokens == len(steps)
    assert timings.usage.total_tokens == 4 + len(steps)
    assert 0 < timings.first_token_s <= timings.total_s
    assert timings.prefill_tokens_per_s > 0
    assert timings.decode_tokens_per_s > 0
    assert steps[0].timings.completion_tokens == 1
    assert steps[0].timings.decode_tokens_per_s == 0
