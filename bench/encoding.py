"""Text and tokenizers for the case ``encode``: a megabyte of text at hand, and rules of splitting as models have them.

The demo model brings its own tokenizer. The two others are trained on the standard library of this Python, to as many
tokens as its words give: the rule of Llama 3, whole words before merges; that of Qwen2, normalised.
"""

from __future__ import annotations

import json
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from fastslm.config import Settings
from fastslm.formats import open_model
from fastslm.formats.gguf.pretokenizers import pretokenizer
from fastslm.hub import fetch_model
from fastslm.hub.refs import parse
from fastslm.text.byte_level import ByteLevelEncoder

CHARACTERS = 1_000_000
CHARACTERS_PER_FILE = 20_000
TRAINED = {"llama3": 128_000, "qwen2": 151_643}
"""Tokens that are asked for."""


def prepare(folder: Path) -> list[Path]:
    """Write ``text.txt`` and the tokenizers; compile the kernels, so that no measured process does."""
    from tokenizers import Tokenizer

    folder.mkdir()
    (folder / "text.txt").write_text(_text(), encoding="utf-8")
    found = [folder / f"{name}.json" for name in ("demo", *TRAINED)]
    source = open_model(fetch_model(parse("demo"), Settings.from_environment()).path)
    found[0].write_text(source.tokenizer_json, encoding="utf-8")
    for path in found[1:]:
        path.write_text(_trained(path.stem), encoding="utf-8")
    for path in found:
        ByteLevelEncoder(Tokenizer.from_file(str(path)))
    return found


def _sources() -> Iterator[str]:
    for path in sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py")):
        if "site-packages" not in path.parts:
            yield path.read_text(encoding="utf-8", errors="ignore")


def _text() -> str:
    """Our own pages, then the beginnings of source files."""
    pages = [path.read_text(encoding="utf-8") for path in sorted(Path(__file__).parent.parent.glob("**/*.md"))]
    return "".join([*pages, *(source[:CHARACTERS_PER_FILE] for source in _sources())])[:CHARACTERS]


def _trained(name: str) -> str:
    """The ``tokenizer.json`` of one rule."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    rule, tokenizer = pretokenizer(name), Tokenizer(models.BPE())
    parts = {"pre_tokenizer": rule.to_json(), "normalizer": {"type": rule.normalizer} if rule.normalizer else None}
    tokenizer = Tokenizer.from_str(json.dumps(json.loads(tokenizer.to_str()) | parts))
    trainer = trainers.BpeTrainer(
        vocab_size=TRAINED[name],
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_sources(), trainer)
    content = json.loads(tokenizer.to_str())
    content["model"]["ignore_merges"] = rule.ignore_merges
    return json.dumps(content)
