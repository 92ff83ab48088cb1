"""``Model``: what a library user holds, on a real graph with random weights."""

import gc
import threading

import numpy as np
import pytest
from tests.support.tiny_graph import CONTEXT, build_model

from fastslm.engine.model import Model
from fastslm.engine.request import default_sampling
from fastslm.engine.sampler import SamplingOptions
from fastslm.errors import ContextTooLong, FileMissing, FormatError, GenerationFailed, UsageError
from fastslm.text.tokenizer import Tokenizer

HELLO = [{"role": "user", "content": "Hello, who are you?"}]
PROMPT = "the quick brown fox"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return build_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def model(folder):
    with Model.open(folder, threads=1) as model:
        yield model


def greedy(model, prompt=PROMPT, **request):
    return model.generate(prompt, temperature=0, max_tokens=24, **request).token_ids


def test_an_answer_with_all_its_facts(model):
    result = model.chat(HELLO, temperature=0, max_tokens=20)
    assert result.finish_reason in {"stop", "length"}
    assert result.usage.prompt_tokens == len(model.tokenize(model.prompt(HELLO)))
    assert result.usage.completion_tokens == len(result.token_ids) <= 20
    assert result.usage.total_tokens == result.usage.prompt_tokens + result.usage.completion_tokens
    assert result.timings.first_token_s > 0
    text = [id_ for id_ in result.token_ids if id_ not in (0, 1, 2)]
    assert result.text == model.detokenize(text)


def test_the_stream_is_the_answer_in_pieces(model):
    steps = list(model.chat_stream(HELLO, temperature=0, max_tokens=20))
    result = model.chat(HELLO, temperature=0, max_tokens=20)
    assert "".join(step.text for step in steps) == result.text
    assert tuple(step.token_id for step in steps) == result.token_ids
    assert [step.finish_reason is None for step in steps] == [True] * (len(steps) - 1) + [False]


def test_greedy_answers_do_not_depend_on_what_was_asked_before(folder):
    with Model.open(folder, threads=1) as fresh:
        expected = greedy(fresh)
    with Model.open(folder, threads=1) as model:
        assert greedy(model) == expected  # chunked
        assert greedy(model) == expected  # all but the end cached
        greedy(model, PROMPT + " jumps over")
        assert greedy(model) == expected  # cut back
        model.chat(HELLO, temperature=0, max_tokens=5)
        assert greedy(model) == expected  # replaced
        assert greedy(model, model.tokenize(PROMPT)) == expected  # given as ids


def test_a_conversation_computes_only_what_is_new(model):
    first = model.chat(HELLO, temperature=0, max_tokens=10)
    talk = [*HELLO, {"role": "assistant", "content": first.text}, {"role": "user", "content": "And then?"}]
    second = model.chat(talk, temperature=0, max_tokens=10)
    assert second.timings.cached_tokens >= first.usage.prompt_tokens - 2
    assert second.timings.cached_tokens < second.usage.prompt_tokens


def test_closing_a_stream_early_leaves_the_model_usable_and_unchanged(model):
    expected = greedy(model)
    for taken in (0, 1, 5):
        stream = model.stream("another prompt", temperature=0, max_tokens=24)
        for _ in range(taken):
            next(stream)
        stream.close()
        assert greedy(model) == expected


def test_the_same_seed_gives_the_same_text(model):
    options = {"temperature": 1.5, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "max_tokens": 24}
    texts = [model.generate(PROMPT, seed=seed, **options).text for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_stop_strings_and_stop_reason(model):
    text = model.generate(PROMPT, temperature=0, max_tokens=24).text
    word = text[4:7]
    result = model.generate(PROMPT, temperature=0, max_tokens=24, stop=word)
    assert result.text == text[: text.index(word)]
    assert result.finish_reason == "stop"
    assert model.generate(PROMPT, temperature=0, max_tokens=24, stop=["no such", word]).text == result.text


def test_cancelling_from_outside(model):
    calls = []
    result = model.generate(PROMPT, temperature=0, cancelled=lambda: len(calls) > 3 or calls.append(1))
    assert result.finish_reason == "cancelled"
    assert 0 < len(result.token_ids) < 6


def test_a_prompt_beyond_the_context_names_both_numbers(model):
    with pytest.raises(ContextTooLong, match=f"has 500 tokens, expected fewer than the context length of {CONTEXT}"):
        model.generate([5] * 500)
    assert model.generate([5] * (CONTEXT - 3), temperature=0).finish_reason in {"length", "stop"}


def test_a_smaller_context_can_be_chosen(folder):
    with Model.open(folder, threads=1, context_length=16) as model:
        assert model.context_length == 16
        with pytest.raises(ContextTooLong, match="context length of 16"):
            model.generate([5] * 16)
    for wrong in (0, 1, CONTEXT + 1, "x", 8.5, True):
        with pytest.raises(UsageError, match=f"`context_length` is `{wrong}`, expected 2 to {CONTEXT}"):
            Model.open(folder, context_length=wrong)
    for wrong in (-1, 1025, "x", 1.5, True, None):
        with pytest.raises(UsageError, match=f"`threads` is `{wrong}`, expected 0 to 1024"):
            Model.open(folder, threads=wrong)


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ({"temprature": 1}, "there is no option `temprature`"),
        ({"temperature": -1}, "`temperature` is `-1`"),
        ({"max_tokens": 0}, "`max_tokens` is `0`"),
        ({"stop": [""]}, "a stop string is empty"),
        ({"stop": 5}, "`stop` is `5`, expected a text or a list of texts"),
        ({"stop": [5]}, r"`stop` is `\[5\]`, expected a text or a list of texts"),
        ({"stop": b"ab"}, "`stop` is `b'ab'`, expected a text or a list of texts"),
        ({"cancelled": 5}, "`cancelled` is `5`, expected a function"),
    ],
)
def test_wrong_options_are_refused_and_the_model_lives_on(model, request_, sentence):
    with pytest.raises(UsageError, match=sentence):
        model.generate(PROMPT, **request_)
    assert greedy(model)


@pytest.mark.parametrize("prompt", [None, 5, ["a"], [1.5], b"abc", [True]])
def test_a_prompt_that_is_neither_text_nor_token_ids_is_refused(model, prompt):
    with pytest.raises(UsageError, match=r"`prompt` is `.*`, expected text or token ids: a list of whole numbers"):
        model.generate(prompt)


@pytest.mark.parametrize("wrong", ["x", 0, -5, 1.5, True])
def test_a_count_of_tokens_that_means_nothing_is_refused(model, wrong):
    with pytest.raises(UsageError, match=f"`tokens` is `{wrong}`, expected a whole number from 2"):
        model.perplexity("the quick brown fox", wrong)


def test_none_means_the_default(model):
    assert greedy(model) == greedy(model, top_p=None, stop=None, seed=None)


@pytest.mark.parametrize("ids", [[-1], [10**6], [5, 2**40]])
def test_token_ids_outside_the_vocabulary_are_refused(model, ids):
    with pytest.raises(UsageError, match=f"token id `{ids[-1]}` is not in the vocabulary of"):
        model.generate(ids)


def test_plain_prompts_get_a_bos_token_only_where_the_model_wants_one(tmp_path):
    with Model.open(build_model(tmp_path / "m", add_bos=True), threads=1) as model:
        plain = len(model.tokenize(PROMPT))
        assert model.generate(PROMPT, max_tokens=1).usage.prompt_tokens == plain + 1
        assert model.generate("<s>" + PROMPT, max_tokens=1).usage.prompt_tokens == plain + 1
        assert model.generate("", max_tokens=1).usage.prompt_tokens == 1
        assert model.tokenize(PROMPT)[0] != 2


def test_a_base_model_continues_prompts_but_does_not_chat(tmp_path):
    with Model.open(build_model(tmp_path / "m", template=None), threads=1) as model:
        assert not model.has_chat_template
        with pytest.raises(UsageError, match="`tiny` has no chat template and cannot chat, it continues plain prompts"):
            model.chat(HELLO)
        assert greedy(model)


def test_the_template_s_refusal_reaches_the_user(model):
    with pytest.raises(UsageError, match="unknown role wizard"):
        model.chat([{"role": "wizard", "content": "x"}])


def test_damaged_weights_end_in_a_sentence(tmp_path):
    with Model.open(build_model(tmp_path / "m", broken=True), threads=1) as model:
        for temperature in (0, 1):
            with pytest.raises(GenerationFailed, match="NaN or infinite"):
                model.generate(PROMPT, temperature=temperature)


def test_a_folder_that_lacks_a_file_says_which(tmp_path):
    with pytest.raises(FileMissing, match="not a converted model"):
        Model.open(tmp_path / "nothing")
    folder = build_model(tmp_path / "m")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(FileMissing, match="no tokenizer"):
        Model.open(folder)
    folder = build_model(tmp_path / "n", template="{% if %}")
    with pytest.raises(FormatError, match="not valid Jinja"):
        Model.open(folder)


def test_threads_take_turns(model):
    expected = greedy(model)
    results, errors = [], []

    def work():
        try:
            results.append(greedy(model))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not errors
    assert results == [expected] * 6


def test_a_second_answer_inside_an_open_one_is_an_error_not_a_deadlock(model):
    stream = model.stream(PROMPT, temperature=0)
    next(stream)
    with pytest.raises(UsageError, match="another answer of this model is still being read"):
        model.generate(PROMPT)
    stream.close()
    assert greedy(model)


def test_a_closed_model_says_so(folder):
    model = Model.open(folder, threads=1)
    model.close()
    model.close()
    for use in (lambda: model.generate(PROMPT), lambda: model.perplexity("the dog"), lambda: model.context_length):
        with pytest.raises(UsageError, match="the model is closed"):
            use()


def test_an_error_while_an_answer_is_read_is_the_one_that_the_caller_sees(folder):
    """Leaving the `with` block in the middle of an answer ends the answer and closes the model."""
    with pytest.raises(KeyError), Model.open(folder, threads=1) as model:  # noqa: PT012
        stream = model.stream(PROMPT, temperature=0)
        next(stream)
        raise KeyError
    assert list(stream) == []
    with pytest.raises(UsageError, match="the model is closed"):
        model.generate(PROMPT)


def test_a_dropped_answer_is_over_at_once(model):
    """Nothing but the caller keeps an answer alive, so that the next one need not wait for the garbage collector."""
    gc.disable()
    try:
        next(model.stream(PROMPT, temperature=0))
        assert greedy(model)
    finally:
        gc.enable()


def test_a_model_cannot_be_closed_by_the_answer_that_it_gives(model):
    with pytest.raises(UsageError, match="another answer of this model is still being read"):
        model.generate(PROMPT, cancelled=model.close)
    assert greedy(model)


def test_stock_operators_keep_float32(folder):
    """Another format is refused by name, whether it exists or not; nothing is loaded in silence as something else."""
    with Model.open(folder, kv_cache="f32") as model:
        assert model.kv_cache == "f32"
    with pytest.raises(UsageError, match="`kv_cache` is `f16`, expected f32"):
        Model.open(folder, kv_cache="f16")
    with pytest.raises(UsageError, match="`kv_cache` is `q4`, expected f32, f16, int16, int8"):
        Model.open(folder, kv_cache="q4")


def test_perplexity_of_a_text(model):
    text = "the quick brown fox jumps over the lazy dog"
    every = model.perplexity(text)
    assert every.tokens == len(model.tokenize(text))
    assert model.perplexity(text, 5).tokens == 5
    assert np.isfinite(every.perplexity)
    assert model.perplexity(text * 10_000, 20) == model.perplexity(model.tokenize(text * 4)[:20])
    assert greedy(model) == greedy(model)


def test_perplexity_of_the_start_of_a_long_text_reads_only_the_start(model, monkeypatch):
    """The first 64 tokens of a file of 100 MB are there at once."""
    seen = []
    encode = Tokenizer.encode
    monkeypatch.setattr(Tokenizer, "encode", lambda self, text: seen.append(len(text)) or encode(self, text))
    assert model.perplexity("the quick brown fox " * 100_000, 64).tokens == 64
    assert sum(seen) < 10_000


def test_tokens_and_text(model):
    ids = model.tokenize("<|im_start|>the dog 🙂")
    assert ids[0] == 0
    assert model.detokenize(ids) == "<|im_start|>the dog 🙂"


def test_the_repository_s_sampling_defaults_win_over_ours_and_nonsense_is_passed_over(tmp_path):
    assert default_sampling({}) == SamplingOptions()
    theirs = {"temperature": 0.6, "top_k": 20.0, "top_p": 7.0, "max_length": 4096, "do_sample": True}
    assert default_sampling(theirs) == SamplingOptions(temperature=0.6, top_k=20)
    folder = build_model(tmp_path / "m", generation={"temperature": 0.0})
    with Model.open(folder, threads=1) as model:
        assert greedy(model) == model.generate(PROMPT, max_tokens=24).token_ids
