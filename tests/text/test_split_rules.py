"""Rules for cutting text: what is understood cuts as the library does, all else is refused."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from tokenizers.pre_tokenizers import ByteLevel, Digits, Split

from fastslm.formats.gguf.pretokenizers import _RULES
from fastslm.kernels import splitting
from fastslm.text import split_rules
from fastslm.text.byte_level import ByteLevelEncoder
from fastslm.text.split_rules import NUMERIC, Alternative, NotUnderstoodError, RuleTables, levels_of, parsed

LETTERS = "abc1 Ċ'"  # as byte-level vocabularies spell them; the last but one is a line feed
TEXT = st.text("abc1 \n'", max_size=60)


def telling_tokenizer() -> Tokenizer:
    """All strings of one, two and four of a few letters are tokens: nearly every border shows in the ids."""
    letters = LETTERS.replace(" ", "Ġ")
    twos = ["".join(pair) for pair in itertools.product(letters, repeat=2)]
    fours = [("".join(pair)) for pair in itertools.product(twos, repeat=2)]
    vocab = {token: id_ for id_, token in enumerate([*letters, *twos, *fours])}
    merges = [(two[0], two[1]) for two in twos] + [(four[:2], four[2:]) for four in fours]
    return Tokenizer(models.BPE(vocab, merges))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return telling_tokenizer()


ONE = st.sampled_from(["a", "b", "[ab]", "[^a]", r"\s", r"\S", r"\p{L}", r"\p{N}", r"[^\s\p{L}]", r"\n", "'", r"[\n']"])
COUNT = st.sampled_from(["", "", "", "?", "*", "+", "{2}", "{1,2}", "{1,}", "{0,3}"])
STEPS = st.lists(st.tuples(ONE, COUNT).map("".join), max_size=3).map("".join)
AHEAD = st.sampled_from(["", "", "", r"(?!\S)", "(?!a)"])
SURE = st.tuples(ONE, st.sampled_from(["", "+", "{2}"])).map("".join)
ENDING = st.sampled_from(["", "", "", "(?:a|bc)?", "(?i:'s|'t|'re|'ve|'m|'ll|'d)?", "(?:'a)?"])
SEQUENCE = st.builds(lambda *parts: "".join(parts), STEPS, AHEAD, SURE, STEPS, ENDING)
PATTERN = st.lists(SEQUENCE, min_size=1, max_size=4).map("|".join)


@settings(max_examples=200, deadline=None)
@given(patterns=st.lists(PATTERN, min_size=1, max_size=3), texts=st.lists(TEXT, min_size=1, max_size=6))
def test_any_expression_that_is_understood_cuts_as_in_the_library(tokenizer, patterns, texts):
    """Alternatives in order, greedy, with backtracking, one rule after the other."""
    splits = [Split(Regex(pattern), "isolated") for pattern in patterns]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*splits, ByteLevel(add_prefix_space=False, use_regex=False)])
    kernel = ByteLevelEncoder(tokenizer)
    for text in texts:
        assert kernel.encode(text) == tokenizer.encode(text).ids, (patterns, text)


@pytest.mark.parametrize("rule", [rule for rule, _ in _RULES], ids=[names.split()[0] for _, names in _RULES])
def test_every_rule_that_gguf_files_name_is_understood(rule):
    levels = levels_of(rule.to_json())
    assert len(levels) == len(rule.patterns)
    assert all(levels)


REFUSED = r"""
a| a* a?? a++ a?+ (a) (?=a)b (?<!a)b ^a a$ \bab \Aa \Xa \ha a.b (?:a|b)*c (?:a|b)?c a*(?:a|b) (?i:st) (?i:a) (?:a a)
[a[b]] []a] [^]a] [[:alpha:]] a{2,1} a{0} a{,2} a{2}{3} (?!ab)c (?:a(?:b)?)?c a(?:b*)? a(?#x) (?x:a) { \
"""


@pytest.mark.parametrize("pattern", ["", *REFUSED.split()])
def test_what_is_not_understood_is_refused(pattern):
    with pytest.raises(NotUnderstoodError):
        parsed(pattern)


@pytest.mark.parametrize(
    "state",
    [
        None,
        {"type": "Whitespace"},
        {"type": "ByteLevel", "add_prefix_space": True, "use_regex": True},
        {"type": "Digits", "individual_digits": True},
        {"type": "Sequence", "pretokenizers": []},
        {"type": "Split", "pattern": {"String": " "}, "behavior": "Isolated", "invert": False},
        {"type": "Split", "pattern": {"Regex": "a"}, "behavior": "Removed", "invert": False},
        {"type": "Split", "pattern": {"Regex": "a"}, "behavior": "Isolated", "invert": True},
        {"type": "Split", "pattern": {"Regex": "a"}, "behavior": "Isolated", "invert": False},
    ],
)
def test_other_pre_tokenizers_are_refused(state):
    last = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
    with pytest.raises(NotUnderstoodError):
        levels_of(state)
    assert levels_of({"type": "Sequence", "pretokenizers": [last]}) == []
    with pytest.raises(NotUnderstoodError):
        levels_of({"type": "Sequence", "pretokenizers": [last, last]})


def test_groups_become_alternatives_and_optional_ones_endings():
    assert parsed("'(?:a|b+)c") == [Alternative([("'", 1, 1), ("a", 1, 1), ("c", 1, 1)]), *parsed("'b+c")]
    assert parsed("a+(?:b|c)?") == [Alternative([("a", 1, 1 << 30)], [[("b", 1, 1)], [("c", 1, 1)]])]


def test_the_kernel_has_room_for_what_is_understood():
    assert split_rules.MOST_STEPS == splitting.MOST_STEPS
    assert 1 << split_rules.MOST_SETS == splitting.KNOWN


def test_too_many_sets_of_characters_are_refused():
    with pytest.raises(NotUnderstoodError):
        RuleTables([parsed("".join(f"[{chr(0x4E00 + i)}]" for i in range(16)) + "|" + "a" * 17)])
    with pytest.raises(NotUnderstoodError):
        RuleTables([[*itertools.chain(*(parsed(chr(0x4E00 + i)) for i in range(40)))]])


def test_the_library_says_which_characters_a_class_holds():
    tables = RuleTables([[Alternative([(NUMERIC, 1, 1), (r"\p{L}", 1, 1), ("(?i:s)", 1, 1)])]])
    assert tables.kinds("a1²sSſ一a").tolist()[:-1] == [2, 1, 1, 6, 6, 6, 2]


@settings(max_examples=150, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40))
def test_numbers_are_those_of_the_library(text):
    characters = "".join(dict.fromkeys(text))
    kinds = RuleTables([[Alternative([(NUMERIC, 1, 1)])]]).kinds(characters)
    pieces = Digits(individual_digits=False)
    assert [bool(kind) for kind in kinds] == [len(pieces.pre_tokenize_str(f"a{c}")) == 2 for c in characters]
