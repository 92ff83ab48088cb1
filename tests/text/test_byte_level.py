"""Our byte-level encoding gives the ids of the library, or is not used."""

import functools
import json
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.tiny_tokenizers import CORPUS, KINDS
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, trainers

from fastslm.formats.gguf.pretokenizers import _RULES
from fastslm.text import byte_level
from fastslm.text.byte_level import ByteLevelEncoder
from fastslm.text.split_rules import NotUnderstoodError, parsed

GOLDEN = Path(__file__).parent.parent / "golden"
TEXTS = json.loads((GOLDEN / "texts" / "ids.json").read_text(encoding="utf-8"))["texts"]
RULES = {names.split()[0]: rule.to_json() for rule, names in _RULES}
LAST = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
RULES |= {
    "ByteLevel": LAST,
    "Digits": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, LAST]},
    "runs of digits": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": False}, LAST]},
    "no rule": LAST | {"use_regex": False},
}
SCRIPTS = [
    "it's we'll THEY'VE don't 12345 67 1,234.5 x = 1  # y\n\n    return\r\n\t\tif CamelCase HTTPServer",
    "你好世界这是一个测试。日本語のテキスト、カタカナ。 한국어 텍스트 각 Русский текст naïve café ÄÖÜ",
    "🙂🙃 ไทย हिन्दी क्षि العربية ٣٤٥ ²½ Ⅷ e\u0301 e\u0327\u0301 ﬆ ſ ʼn \u00a0\u3000\u2028\u0085",
]
PARTS = [
    *"aſtsK'’ \n\r\t12²½٣Ⅷ一日の각éǅʰЖß🙂!?/-_=[{|<~`$+.,",
    "  ",
    "\r\n",
    "re",
    "LL",
    "ve",
    "日本語",
    "日本",
    "e\u0301",
]
PARTS += [
    "\u0301",
    "\u0323",
    "\u0327",
    "\u1100",
    "\u1161",
    "\u11a8",
    "\u00a0",
    "\u3000",
    "\u2028",
    "\u0085",
    "\x00",
    "\x7f",
]
PARTS += [
    "👩\u200d👧",
    "\U0001f1e9",
    "\ufffd",
    "\ue000",
    "\u0378",
    "\U0001e030",
    "\U000323af",
    "\U0010ffff",
    "\ufb1d",
    "क्षि",
]
PARTS += ["<|a|>", "<|ab|>", "<|ab", "<s>", "<think>", "the quick", "CamelCase", "HTTPServer", " and", "    ", "\t\t"]
LONG = st.tuples(st.sampled_from(PARTS), st.sampled_from([1, 2, 3, 40, 300])).map(lambda part: part[0] * part[1])
AWKWARD = st.lists(LONG, max_size=30).map("".join)
ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)


def new_tokenizer(pre_tokenizer: dict, *, normalizer: str | None = None, ignore_merges: bool = False) -> Tokenizer:
    """Trained on a few lines in many scripts; with tokens that hide in words and overlap each other."""
    tokenizer = Tokenizer(models.BPE())
    spec = json.loads(tokenizer.to_str()) | {"pre_tokenizer": pre_tokenizer}
    tokenizer = Tokenizer.from_str(json.dumps(spec))
    tokenizer.normalizer = normalizers.NFC() if normalizer else None
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=["<|a|>", "<|ab|>", "<s>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([*CORPUS, *SCRIPTS] * 3, trainer)
    late = [AddedToken(content, normalized=True, special=False) for content in ("    ", "\t\t", "e\u0301", " and")]
    early = [AddedToken(content, normalized=False) for content in ("<think>", "日本", "日本語")]
    tokenizer.add_tokens([*late, *early])
    if ignore_merges:
        spec = json.loads(tokenizer.to_str())
        merges = spec["model"]["merges"]
        spec["model"] |= {"ignore_merges": True, "merges": [pair for i, pair in enumerate(merges) if i % 3]}
        tokenizer = Tokenizer.from_str(json.dumps(spec))
    return tokenizer


@functools.cache
def both(name: str) -> tuple[ByteLevelEncoder, Tokenizer]:
    """Ours and theirs, with every rule; each second normalises, each third prefers whole words."""
    place = list(RULES).index(name)
    tokenizer = new_tokenizer(RULES[name], normalizer="NFC" if place % 2 else None, ignore_merges=place % 3 == 0)
    return ByteLevelEncoder(tokenizer), tokenizer


@pytest.mark.parametrize("name", RULES)
@settings(max_examples=60, deadline=None)
@given(text=st.one_of(AWKWARD, AWKWARD, ANY))
def test_the_ids_are_those_of_the_library(name, text):
    """Runs of spaces, digits, joined emoji, marks that combine, unassigned characters, added tokens in words."""
    ours, theirs = both(name)
    assert ours.encode(text) == theirs.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("name", RULES)
def test_texts_that_others_stumbled_over(name):
    ours, theirs = both(name)
    for text in [*TEXTS, *CORPUS, *SCRIPTS, "".join(PARTS), "a" * 50_000, "naïve " * 20_000, "\n " * 30_000]:
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("path", [GOLDEN / "texts" / "byte_level.json", GOLDEN / "llama" / "tokenizer.json"], ids=str)
def test_golden_tokenizers_are_understood(path):
    theirs = Tokenizer.from_file(str(path))
    ours = ByteLevelEncoder(theirs)
    for text in [*TEXTS, *SCRIPTS]:
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"byte_level"}))
def test_tokenizers_of_other_kinds_are_refused(kind):
    with pytest.raises(NotUnderstoodError):
        ByteLevelEncoder(KINDS[kind]())


def edited(*places: tuple[str, ...], value: object) -> Tokenizer:
    spec = json.loads(new_tokenizer(LAST).to_str())
    for place in places:
        part = spec
        for key in place[:-1]:
            part = part[key]
        part[place[-1]] = value
    return Tokenizer.from_str(json.dumps(spec))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("normalizer",), {"type": "NFKC"}),
        (("normalizer",), {"type": "Sequence", "normalizers": [{"type": "NFC"}]}),
        (("pre_tokenizer",), None),
        (("pre_tokenizer", "add_prefix_space"), True),
        (("model", "dropout"), 0.1),
        (("model", "unk_token"), "<s>"),
        (("model", "byte_fallback"), True),
        (("model", "fuse_unk"), True),
        (("model", "end_of_word_suffix"), "x"),
        (("added_tokens", 0, "lstrip"), True),
        (("added_tokens", 0, "rstrip"), True),
        (("added_tokens", 0, "single_word"), True),
    ],
)
def test_what_is_not_understood_is_left_to_the_library(place, value):
    if place[-1] == "end_of_word_suffix":
        tokenizer = Tokenizer(models.BPE({"a": 0}, [], end_of_word_suffix=value))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        tokenizer = edited(place, value=value)
    with pytest.raises(NotUnderstoodError):
        ByteLevelEncoder(tokenizer)


def test_two_tokens_of_one_id_are_refused():
    tokenizer = Tokenizer(models.BPE({"a": 0, "b": 1, "c": 1}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    with pytest.raises(NotUnderstoodError):
        ByteLevelEncoder(tokenizer)


def test_other_ids_than_the_librarys_are_noticed_before_the_first_text(monkeypatch):
    """Should the library change what an expression means, nobody gets other ids: ours is refused."""
    tokenizer = new_tokenizer(RULES["llama3"])
    ByteLevelEncoder(tokenizer)
    monkeypatch.setattr(byte_level, "levels_of", lambda state: [parsed(r"\p{L}+|\p{N}+|\s+")])
    with pytest.raises(NotUnderstoodError):
        ByteLevelEncoder(tokenizer)


def test_bytes_that_the_vocabulary_lacks_give_no_token():
    """Some vocabularies were trained without control characters; the library passes over them."""
    tokenizer = Tokenizer(models.BPE({"a": 0, "b": 1, "ab": 2, "Ã": 3}, [("a", "b")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    assert ByteLevelEncoder(tokenizer).encode("axb\x00é ab") == [2, 3, 2]
    assert tokenizer.encode("axb\x00é ab").ids == [2, 3, 2]


def test_threads_may_meet_the_same_new_characters():
    """A server encodes the prompts of several users at once."""
    theirs = new_tokenizer(RULES["qwen2"], normalizer="NFC")
    ours = ByteLevelEncoder(theirs)
    texts = ["".join(map(chr, range(start, start + 9000))) for start in range(0x3400, 0x9000, 0x800)]
    found: dict[int, list[int]] = {}

    def work(number: int) -> None:
        found[number] = ours.encode(texts[number])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(texts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    expected = [theirs.encode(text, add_special_tokens=False).ids for text in texts]
    assert [found[number] for number in range(len(texts))] == expected
