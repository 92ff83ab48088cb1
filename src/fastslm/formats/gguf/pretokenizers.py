"""How text is cut into words before byte-pair merging, by the name that GGUF gives the rule.

The expressions are those of each model's own ``tokenizer.json``; which names share one follows llama.cpp's
``tokenizer.ggml.pre``. Expressions apply one after the other, each to the pieces that the one before left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastslm.errors import UnsupportedModel
from fastslm.formats.checked_json import quoted

_ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_LETTERS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_REST_SLASH = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CAPITAL = rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+"
_SHOUTED = rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*"

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = rf"{_ENDINGS}|{_LETTERS}|\p{{N}}{{1,3}}|{_REST}"
_QWEN2 = rf"{_ENDINGS}|{_LETTERS}|\p{{N}}|{_REST}"
_TEKKEN = rf"{_CAPITAL}|{_SHOUTED}|\p{{N}}|{_REST_SLASH}"
_GPT4O = rf"{_CAPITAL}{_ENDINGS}?|{_SHOUTED}{_ENDINGS}?|\p{{N}}{{1,3}}|{_REST_SLASH}"
_PUNCTUATION = r"[\p{P}\$\+<=>\^~\|`]+"
_DEEPSEEK3 = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class PreTokenizer:
    """One rule.

    Attributes:
        patterns: expressions whose matches become pieces of their own.
        ignore_merges: a piece that is in the vocabulary as a whole is not merged again.
        add_bos: plain prompts begin with the bos token unless the file says otherwise.
        normalizer: Unicode normalisation before everything, or None.
    """

    patterns: tuple[str, ...]
    ignore_merges: bool = False
    add_bos: bool = False
    normalizer: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The ``pre_tokenizer`` of a tokenizer.json."""
        split = {"type": "Split", "behavior": "Isolated", "invert": False}
        steps: list[dict[str, Any]] = [{**split, "pattern": {"Regex": pattern}} for pattern in self.patterns]
        steps.append({"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False})
        return {"type": "Sequence", "pretokenizers": steps}


_SINGLE_DIGITS = PreTokenizer((r"\p{N}", _GPT2))
_PLAIN_GPT2 = PreTokenizer((_GPT2,))
_DEFAULT = PreTokenizer((r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", "[0-9][0-9][0-9]"))

_RULES: tuple[tuple[PreTokenizer, str], ...] = (
    (_DEFAULT, "default"),
    (_PLAIN_GPT2, "gpt-2 phi-2 gigachat a.x-4.0 mellum exaone4 mpt olmo jais trillion granite-docling"),
    (_SINGLE_DIGITS, "smollm starcoder refact command-r codeshell exaone minerva-7b mellum2"),
    (
        PreTokenizer((_LLAMA3,), ignore_merges=True, add_bos=True),
        "llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral lfm2",
    ),
    (PreTokenizer((_LLAMA3,)), "dbrx smaug-bpe glm4 chatglm-bpe"),
    (PreTokenizer((_QWEN2,), normalizer="NFC"), "qwen2 deepseek-r1-qwen megrez"),
    (PreTokenizer((_QWEN2,)), "stablelm2 hunyuan"),
    (PreTokenizer((_TEKKEN,), ignore_merges=True, add_bos=True), "tekken"),
    (PreTokenizer((_GPT4O,)), "gpt-4o llama4 kanana2"),
    (PreTokenizer((r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", _DEEPSEEK3)), "deepseek-v3 hunyuan-dense"),
    (PreTokenizer((r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", r"\p{N}")), "deepseek-coder"),
    (PreTokenizer((_PUNCTUATION, _GPT2, "[0-9][0-9][0-9]")), "falcon"),
)


def pretokenizer(name: str) -> PreTokenizer:
    """Look up a rule. Raises UnsupportedModel naming the unknown one."""
    for rule, names in _RULES:
        if name in names.split():
            return rule
    raise UnsupportedModel(
        f"pre-tokenizer {quoted(name)} is not known, so text cannot be cut as the model expects", feature=name
    )
