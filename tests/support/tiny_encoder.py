"""A tiny encoder as a repository would have it: random BERT, a word tokenizer that marks texts and pairs."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from fastslm.export.convert import convert
from fastslm.export.options import ConvertOptions
from fastslm.formats import open_model
from support.golden_encoders import golden_encoder

SPECIAL = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
PLAIN = ["the", "a", "cat", "dog", "sat", "ran", "on", "in", "mat", "park", "paris", "is", "of", "france", "capital"]
WORDS = [*SPECIAL, *PLAIN, "query"]


@functools.cache
def word_tokenizer() -> str:
    """Content of a ``tokenizer.json``: a token for each known word, ``[CLS] … [SEP]``, ``[CLS] … [SEP] … [SEP]``."""
    tokenizer = Tokenizer(models.WordLevel({word: id_ for id_, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
    )
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer.to_str()


def encoder_source(folder: Path, variant: str = "bert", *, files: dict[str, Any] | None = None) -> Path:
    """A folder with weights, configuration, tokenizer, and other JSON files by their path."""
    golden_encoder(variant, folder)
    (folder / "tokenizer.json").write_text(word_tokenizer(), encoding="utf-8")
    special = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(special), encoding="utf-8")
    for path, content in (files or {}).items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(json.dumps(content), encoding="utf-8")
    return folder


def converted_encoder(folder: Path, variant: str = "bert", *, files: dict[str, Any] | None = None) -> Path:
    """The same, converted to floats."""
    source = encoder_source(folder / "source", variant, files=files)
    target = folder / "target"
    target.mkdir()
    convert(open_model(source), target, ConvertOptions(f"tiny/{variant}", "0" * 12, "fp32"))
    return target
