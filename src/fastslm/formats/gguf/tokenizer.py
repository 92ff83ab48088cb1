"""A complete ``tokenizer.json`` from GGUF metadata: byte-level BPE (``gpt2``) and SentencePiece BPE (``llama``)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastslm.errors import FormatError, UnsupportedModel
from fastslm.formats.checked_json import quoted, shorten
from fastslm.formats.gguf.metadata import Metadata
from fastslm.formats.gguf.pretokenizers import pretokenizer
from fastslm.formats.gguf.sentencepiece import sentencepiece_parts

NORMAL, UNKNOWN, CONTROL, USER_DEFINED = 1, 2, 3, 4

_END_TEXTS = frozenset(
    {"<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<end_of_turn>", "<|endoftext|>", "</s>", "<|eom_id|>"}
    | {"<EOT>", "[EOT]", "[EOS]", "<|end_of_text|>", "<end_of_utterance>", "<eos>", "<｜end▁of▁sentence｜>"}
)
"""Control tokens that end a turn whatever the metadata says; files often name only one of several."""

_ROLES = {
    "bos": "bos_token",
    "eos": "eos_token",
    "unknown": "unk_token",
    "padding": "pad_token",
    "seperator": "sep_token",
}


@dataclass(frozen=True)
class Vocabulary:
    """Tokens by id, with their types and scores (zeros when the file has none)."""

    tokens: list[str]
    types: list[int]
    scores: list[float]

    def ids(self, *kinds: int) -> list[int]:
        """Ids of the tokens of these types."""
        return [i for i, kind in enumerate(self.types) if kind in kinds]


@dataclass(frozen=True)
class GgufTokenizer:
    """What the metadata says about text; the fields are those of ``formats.source.ModelSource``."""

    tokenizer_json: str
    chat_template: str | None
    special_tokens: dict[str, str]
    bos_token_id: int | None
    eos_token_ids: tuple[int, ...]
    add_bos: bool


def build_tokenizer(data: Metadata, vocab_size: int) -> GgufTokenizer:
    """Read vocabulary, merges, special tokens and chat template; ``vocab_size`` is the rows of the embedding.

    Raises:
        FormatError: a key is missing, or the lists do not fit together.
        UnsupportedModel: the tokenizer is of another kind, or its pre-tokenizer is not known.
    """
    kind = data.text("tokenizer.ggml.model")
    if kind not in ("gpt2", "llama"):
        raise UnsupportedModel(f"tokenizer {quoted(kind)} is not supported, expected `gpt2` or `llama`", feature=kind)
    vocabulary = _vocabulary(data, vocab_size)
    parts, add_bos = _byte_level(data, vocabulary) if kind == "gpt2" else _sentencepiece(data, vocabulary)
    roles = _roles(data, len(vocabulary.tokens), spm=kind == "llama")
    bos = roles.get("bos_token")
    return GgufTokenizer(
        tokenizer_json=_to_json(parts, vocabulary),
        chat_template=data.text("tokenizer.chat_template", "") or None,
        special_tokens={role: vocabulary.tokens[i] for role, i in roles.items()},
        bos_token_id=bos,
        eos_token_ids=_ends(data, vocabulary, roles),
        add_bos=bos is not None and data.flag("tokenizer.ggml.add_bos_token", default=add_bos),
    )


def _vocabulary(data: Metadata, vocab_size: int) -> Vocabulary:
    tokens = strings(data, "tokenizer.ggml.tokens")
    if not 1 <= len(tokens) <= vocab_size:
        message = f"`{data.subject}` has {len(tokens)} tokens, expected 1 to {vocab_size}, the rows of the embedding"
        raise FormatError(message, subject=data.subject, expected=vocab_size, found=len(tokens))
    tokens = [token or f"[EMPTY_{i}]" for i, token in enumerate(tokens)]
    if len(set(tokens)) != len(tokens):
        seen: dict[str, int] = {}
        first, second = next((seen[t], i) for i, t in enumerate(tokens) if seen.setdefault(t, i) != i)
        message = f"`{data.subject}`: tokens {first} and {second} are the same text {quoted(tokens[first])}"
        raise FormatError(message, subject=data.subject, found=tokens[first])
    types = _numbers(data, "tokenizer.ggml.token_type", len(tokens), NORMAL)
    scores = _numbers(data, "tokenizer.ggml.scores", len(tokens), 0.0)
    return Vocabulary(tokens, [int(t) for t in types], scores)


def _numbers(data: Metadata, key: str, count: int, default: float) -> list[float]:
    if not data.has(key):
        return [default] * count
    values = data.header.metadata[key]
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "iuf" or len(values) < count:
        found = len(values) if isinstance(values, np.ndarray | list) else values
        message = f"`{data.subject}`: `{key}` has {shorten(found)} entries, expected {count} numbers"
        raise FormatError(message, subject=data.subject, expected=count, found=found)
    if not np.isfinite(values[:count]).all():
        raise FormatError(f"`{data.subject}`: `{key}` holds values that are not finite", subject=data.subject)
    return list(values[:count].tolist())


def strings(data: Metadata, key: str) -> list[str]:
    """A list of strings. Raises FormatError when it is missing or something else."""
    values = data.header.metadata.get(key)
    if not isinstance(values, list):
        message = f"`{data.subject}` lacks the metadata key `{key}`, expected a list of strings"
        raise FormatError(message, subject=data.subject, expected=key)
    return values


def _byte_level(data: Metadata, vocabulary: Vocabulary) -> tuple[dict[str, Any], bool]:
    """Parts of a byte-level BPE tokenizer, and whether its rule begins texts with bos."""
    rule = pretokenizer(data.text("tokenizer.ggml.pre", "default"))
    ids = {token: i for i, token in enumerate(vocabulary.tokens)}
    merges = _usable(strings(data, "tokenizer.ggml.merges"), ids)
    model: dict[str, Any] = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None}
    model |= {"end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False}
    model |= {"ignore_merges": rule.ignore_merges, "vocab": ids, "merges": merges}
    parts = {
        "normalizer": {"type": rule.normalizer} if rule.normalizer else None,
        "pre_tokenizer": rule.to_json(),
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": model,
    }
    return parts, rule.add_bos


def _usable(merges: Sequence[str], ids: dict[str, int]) -> list[list[str]]:
    """Merges as pairs; those that lead out of the vocabulary can never be used and are left out."""
    pairs = []
    for merge in merges:
        at = merge.find(" ", 1)
        left, right = merge[:at], merge[at + 1 :]
        if at > 0 and left in ids and right in ids and left + right in ids:
            pairs.append([left, right])
    return pairs


def _sentencepiece(data: Metadata, vocabulary: Vocabulary) -> tuple[dict[str, Any], bool]:
    if not data.has("tokenizer.ggml.scores"):
        message = f"`{data.subject}` lacks the metadata key `tokenizer.ggml.scores`"
        raise FormatError(message, subject=data.subject, expected="tokenizer.ggml.scores")
    normal = [(vocabulary.tokens[i], vocabulary.scores[i]) for i in vocabulary.ids(NORMAL)]
    ids = {token: i for i, token in enumerate(vocabulary.tokens)}
    unknown = next((vocabulary.tokens[i] for i in vocabulary.ids(UNKNOWN)), None)
    prefix = data.flag("tokenizer.ggml.add_space_prefix", default=True)
    return sentencepiece_parts(ids, normal, unknown, space_prefix=prefix), True


def _roles(data: Metadata, count: int, *, spm: bool) -> dict[str, int]:
    """Role to token id; SentencePiece files that name none mean 1 and 2, as llama.cpp takes them."""
    found = {"bos_token": 1, "eos_token": 2} if spm and count > 2 else {}
    for key, role in _ROLES.items():
        name = f"tokenizer.ggml.{key}_token_id"
        value = data.header.metadata.get(name)
        if value is None:
            continue
        if type(value) is not int or not 0 <= value < count:
            message = f"`{data.subject}`: `{name}` is {shorten(value)}, expected a token id below {count}"
            raise FormatError(message, subject=data.subject, expected=count, found=value)
        found[role] = value
    return found


def _ends(data: Metadata, vocabulary: Vocabulary, roles: dict[str, int]) -> tuple[int, ...]:
    """Every token that ends a generation, the file's own eos first."""
    ends = [roles["eos_token"]] if "eos_token" in roles else []
    for key in ("tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"):
        value = data.header.metadata.get(key)
        if type(value) is int and 0 <= value < len(vocabulary.tokens):
            ends.append(value)
    ends += [i for i in vocabulary.ids(CONTROL) if vocabulary.tokens[i] in _END_TEXTS]
    return tuple(dict.fromkeys(ends))


def _to_json(parts: dict[str, Any], vocabulary: Vocabulary) -> str:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [
        {"id": i, "content": vocabulary.tokens[i], **flags, "special": vocabulary.types[i] != USER_DEFINED}
        for i in vocabulary.ids(UNKNOWN, CONTROL, USER_DEFINED)
    ]
    content = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "post_processor": None}
    return json.dumps({**content, **parts}, ensure_ascii=False)
