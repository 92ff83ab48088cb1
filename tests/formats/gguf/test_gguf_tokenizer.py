"""A tokenizer.json from GGUF metadata gives the same ids as the tokenizer that the metadata came from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.reference import sentencepiece
from tests.support.tiny_files import TinyLlama, tiny_tokens, write_llama_gguf
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from fastslm.errors import FormatError
from fastslm.formats import open_model
from fastslm.formats.gguf.pretokenizers import pretokenizer
from fastslm.formats.gguf.sentencepiece import merges_from_scores
from fastslm.formats.source import ModelSource

GOLDEN = Path(__file__).parents[2] / "golden" / "demo_tokens.json"

CORPUS = [
    "don't stop 123 4567, it's 3.14!",
    "Hello World\n\n  the end\t tab",
    "你好 世界 naïve 1 22 333",
    "x**2 + HTTP's",
] * 3
TEXTS = st.text(alphabet="abdehlnorst'sTWED 0123456789\n\t\r.,!?-_你好é世¼Ⅷ🙂\u00a0", max_size=30)

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace("{1,3}", "")
BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
GPT2 = pre_tokenizers.ByteLevel(add_prefix_space=False)


def split(pattern: str) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), BYTES])


ORIGINALS = {
    "gpt-2": GPT2,
    "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), GPT2]),
    "llama-bpe": split(LLAMA3),
    "qwen2": split(QWEN2),
}
"""The cutting rules as those models' own tokenizer.json files write them."""


def trained(pre: str) -> Tokenizer:
    """A small tokenizer that cuts text by the rule of one model family."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=pre == "llama-bpe"))
    tokenizer.pre_tokenizer = ORIGINALS[pre]
    tokenizer.decoder = decoders.ByteLevel()
    if pre == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=["<|im_start|>", "<|im_end|>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def through_gguf(path: Path, original: Tokenizer, pre: str) -> ModelSource:
    """Write the tokenizer's parts as GGUF metadata and open the file."""
    model = json.loads(original.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    merges = [" ".join(merge) for merge in model["merges"]]
    extra = {
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3, 3] + [1] * (len(tokens) - 2),
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 1,
    }
    write_llama_gguf(path, TinyLlama(layers=1, vocab=len(tokens)), extra=extra)
    return open_model(path)


@pytest.fixture(scope="module", params=ORIGINALS)
def pair(request, tmp_path_factory) -> tuple[Tokenizer, Tokenizer]:
    original = trained(request.param)
    source = through_gguf(tmp_path_factory.mktemp("gguf") / "x.gguf", original, request.param)
    return original, Tokenizer.from_str(source.tokenizer_json)


@settings(deadline=None, max_examples=150)
@given(text=TEXTS)
def test_byte_level_tokenizers_survive_the_way_through_gguf(pair, text):
    """Digits, contractions, runs of spaces and newlines are where pre-tokenizers differ."""
    original, ours = pair
    ids = original.encode(text, add_special_tokens=False).ids
    assert ours.encode(text, add_special_tokens=False).ids == ids
    assert ours.decode(ids, skip_special_tokens=False) == original.decode(ids, skip_special_tokens=False)


def test_control_tokens_in_the_text_are_recognised(pair):
    _, ours = pair
    ids = ours.encode("<|im_start|>stop<|im_end|>", add_special_tokens=False).ids
    assert (ids[0], ids[-1]) == (0, 1)
    assert ours.decode(ids) == "stop"


def test_a_rule_that_begins_texts_with_bos_says_so_unless_the_file_does(tmp_path):
    def add_bos(**extra: object) -> bool:
        write_llama_gguf(tmp_path / "x.gguf", extra=extra)
        return open_model(tmp_path / "x.gguf").add_bos

    assert add_bos(**{"tokenizer.ggml.pre": "smollm"}) is False
    assert add_bos(**{"tokenizer.ggml.pre": "llama-bpe"}) is True
    assert add_bos(**{"tokenizer.ggml.pre": "llama-bpe", "tokenizer.ggml.add_bos_token": False}) is False
    assert add_bos(**{"tokenizer.ggml.pre": "smollm", "tokenizer.ggml.add_bos_token": True}) is True


def test_special_tokens_ends_and_template_are_found(tmp_path):
    """Files name one end token; chat models stop at several."""
    write_llama_gguf(tmp_path / "x.gguf")
    source = open_model(tmp_path / "x.gguf")
    assert source.special_tokens == {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}
    assert (source.bos_token_id, source.eos_token_ids) == (1, (2, 0))
    assert source.chat_template == "{{ messages[0]['content'] }}"
    write_llama_gguf(tmp_path / "x.gguf", without=["tokenizer.chat_template"])
    assert open_model(tmp_path / "x.gguf").chat_template is None


def test_user_defined_tokens_are_found_in_text_but_not_hidden_in_answers(tmp_path):
    tokens = [*tiny_tokens(), "<think>"]
    extra = {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": [3] * 3 + [1] * (len(tokens) - 4) + [4]}
    write_llama_gguf(tmp_path / "x.gguf", TinyLlama(vocab=len(tokens)), extra=extra)
    tokenizer = Tokenizer.from_str(open_model(tmp_path / "x.gguf").tokenizer_json)
    ids = tokenizer.encode("hell<think>", add_special_tokens=False).ids
    assert ids == [len(tokens) - 2, len(tokens) - 1]
    assert tokenizer.decode(ids) == "hell<think>"


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"tokenizer.ggml.tokens": ["a", "b", "a"]}, "tokens 0 and 2 are the same text `a`"),
        ({"tokenizer.ggml.tokens": 5}, "`tokenizer.ggml.tokens`, expected a list of strings"),
        ({"tokenizer.ggml.token_type": [1, 2]}, "`tokenizer.ggml.token_type` has `2` entries, expected 262 numbers"),
        ({"tokenizer.ggml.scores": [float("nan")] * 262}, "holds values that are not finite"),
        ({"tokenizer.ggml.model": "llama"}, "lacks the metadata key `tokenizer.ggml.scores`"),
        ({"tokenizer.ggml.add_bos_token": 1}, "`tokenizer.ggml.add_bos_token` is `1`, expected a boolean"),
        ({"tokenizer.ggml.pre": True}, "`tokenizer.ggml.pre` is `True`, expected a string"),
    ],
)
def test_lists_that_do_not_fit_together_are_refused(tmp_path, extra, message):
    write_llama_gguf(tmp_path / "x.gguf", extra=extra)
    with pytest.raises(FormatError, match=message.replace(".", r"\.")):
        open_model(tmp_path / "x.gguf")


def test_merges_that_lead_nowhere_and_empty_tokens_do_no_harm(tmp_path):
    """Padded vocabularies have empty tokens; the tokenizers library refuses merges of unknown tokens."""
    extra = {"tokenizer.ggml.merges": ["h e", "zz top", "nospace", "l l", "he ll", "he zz"]}
    extra["tokenizer.ggml.tokens"] = [*tiny_tokens()[:-1], ""]
    write_llama_gguf(tmp_path / "x.gguf", extra=extra)
    tokenizer = Tokenizer.from_str(open_model(tmp_path / "x.gguf").tokenizer_json)
    assert [tokenizer.id_to_token(i) for i in tokenizer.encode("hell").ids] == ["he", "ll"]


PIECES = [
    "▁",
    "a",
    "b",
    "c",
    "e",
    "h",
    "l",
    "o",
    "t",
    "he",
    "▁t",
    "▁the",
    "the",
    "th",
    "ll",
    "lo",
    "llo",
    "hello",
    "hell",
]
PIECES += ["▁h", "▁he", "ab", "abc", "bc", "▁▁", "▁▁▁▁"]
SCORES = {piece: -float(i * 7 % 31) - i / 100 for i, piece in enumerate(PIECES)}


def sentencepiece_source(path: Path, **extra: object) -> ModelSource:
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *PIECES]
    metadata = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [2, 3, 3] + [6] * 256 + [1] * len(PIECES),
        "tokenizer.ggml.scores": [0.0] * 259 + [SCORES[piece] for piece in PIECES],
    }
    without = ["tokenizer.ggml.merges", "tokenizer.ggml.pre"]
    write_llama_gguf(path, TinyLlama(layers=1, vocab=len(tokens)), extra={**metadata, **extra}, without=without)
    return open_model(path)


@pytest.fixture(scope="module", params=[True, False])
def spm(request, tmp_path_factory) -> tuple[bool, Tokenizer]:
    path = tmp_path_factory.mktemp("spm") / "x.gguf"
    source = sentencepiece_source(path, **{"tokenizer.ggml.add_space_prefix": request.param})
    return request.param, Tokenizer.from_str(source.tokenizer_json)


@settings(deadline=None, max_examples=200)
@given(text=st.text(alphabet="abcehlot  é你🙂\n", max_size=24))
def test_sentencepiece_gives_what_joining_by_score_gives(spm, text):
    """The file holds scores and no merges; the twin in tests/reference joins by score."""
    prefix, tokenizer = spm
    encoding = tokenizer.encode(text, add_special_tokens=False)
    assert encoding.tokens == sentencepiece.encode(text, SCORES, space_prefix=prefix)
    assert tokenizer.decode(encoding.ids) == text


def test_sentencepiece_files_that_say_nothing_mean_llama_2(tmp_path):
    """Old files carry no ids for bos and eos and no flag; llama.cpp takes 1, 2 and yes."""
    source = sentencepiece_source(tmp_path / "x.gguf")
    assert (source.bos_token_id, source.eos_token_ids, source.add_bos) == (1, (2,), True)
    assert source.special_tokens == {"bos_token": "<s>", "eos_token": "</s>"}
    assert Tokenizer.from_str(source.tokenizer_json).encode("<s> the</s>").ids[0] == 1


def test_a_piece_that_would_take_forever_to_split_is_refused():
    with pytest.raises(FormatError, match="a piece of 1000000 characters, expected at most 1024"):
        merges_from_scores([("a", 0.0), ("a" * 1_000_000, -1.0)])


@pytest.mark.parametrize("name", ["default", "tekken", "gpt-4o", "deepseek-v3", "deepseek-coder", "falcon", "qwen2"])
def test_every_rule_keeps_the_whole_text(name):
    """An expression that the tokenizers library cannot compile, or that drops characters, shows here."""
    spec = {"version": "1.0", "added_tokens": [], "model": {"type": "WordLevel", "vocab": {"?": 0}, "unk_token": "?"}}
    tokenizer = Tokenizer.from_str(json.dumps({**spec, "pre_tokenizer": pretokenizer(name).to_json()}))
    text = "Hello, WORLD's 12345 + `x`  \n\n 你好。don't /path\t§ ½"
    pieces = tokenizer.pre_tokenizer.pre_tokenize_str(text)
    assert "".join(text[start:end] for _, (start, end) in pieces) == text
    assert len(pieces) > 8


@pytest.mark.demo
def test_the_demo_models_tokens_are_those_of_llama_cpp(demo_ready):
    """Awkward texts, with ids made by llama.cpp and committed."""
    folder = demo_ready.downloads_dir / "demo"
    tokenizer = Tokenizer.from_str(open_model(folder).tokenizer_json)
    for case in json.loads(GOLDEN.read_text(encoding="utf-8")):
        assert tokenizer.encode(case["text"], add_special_tokens=False).ids == case["ids"], case["text"]
        assert tokenizer.decode(case["ids"], skip_special_tokens=False) == case["text"]
