"""Texts and conversations become what transformers makes of them: a model notices a single other space."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fastslm.errors import FormatError, UsageError
from fastslm.text.chat import ChatTemplate
from fastslm.text.tokenizer import Tokenizer

TEXTS = Path(__file__).parent.parent / "golden" / "texts"
IDS: dict[str, Any] = json.loads((TEXTS / "ids.json").read_text(encoding="utf-8"))
CHATS: dict[str, Any] = json.loads((TEXTS / "chats.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("kind", IDS["ids"])
def test_awkward_texts_have_the_same_token_ids(kind: str) -> None:
    """Spaces, control characters, joined emoji, special tokens in the text and what only looks like them."""
    tokenizer = Tokenizer.open(TEXTS / f"{kind}.json")
    assert [tokenizer.encode(text) for text in IDS["texts"]] == IDS["ids"][kind]


@pytest.mark.parametrize("name", CHATS["templates"])
@pytest.mark.parametrize("chat", CHATS["chats"])
def test_conversations_are_rendered_alike(name: str, chat: str) -> None:
    """Templates in the manners of the families that are converted; a refusal stays a refusal."""
    template = ChatTemplate(CHATS["templates"][name], CHATS["special"])
    options = dict(CHATS["chats"][chat])
    messages, expected = options.pop("messages"), CHATS["rendered"][name][chat]
    if expected is None:
        with pytest.raises((UsageError, FormatError)):
            template.render(messages, **options)
    else:
        assert template.render(messages, **options) == expected
