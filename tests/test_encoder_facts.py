"""What a manifest says of an encoder comes back as it was written, and damage is named."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from fastslm.encoder_facts import EncoderFacts


def test_facts_survive_the_manifest() -> None:
    """Through JSON and back."""
    facts = EncoderFacts("classify", ("cls", "max"), True, 128, True, {"query": "q: "}, "query", True, 1)
    assert EncoderFacts.from_json(json.loads(json.dumps(asdict(facts)))) == facts


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"task": "sing"}, "task"),
        ({"pooling": []}, "pooling"),
        ({"pooling": ["best"]}, "pooling"),
        ({"normalize": 1}, "normalize"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"pad_id": True}, "pad_id"),
        ({"prompts": {"a": 1}}, "prompts"),
        ({"default_prompt": None}, "default_prompt"),
    ],
)
def test_a_wrong_field_is_named(changes: dict[str, object], name: str) -> None:
    """So that a person finds it in the file."""
    with pytest.raises(ValueError, match=f"`encoder.{name}` is"):
        EncoderFacts.from_json({**asdict(EncoderFacts()), "pooling": ["mean"], **changes})
    with pytest.raises(ValueError, match="expected an object"):
        EncoderFacts.from_json([])
