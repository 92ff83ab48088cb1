"""What makes one vector, or one score, of the vectors that an encoder gives for the tokens of a text.

Read from a repository by ``formats``, kept in the manifest by ``export``, applied by ``engine``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

Task = Literal["embed", "classify"]

POOLINGS = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
"""Ways to pool, in the order in which sentence-transformers joins several of them."""


@dataclass(frozen=True)
class EncoderFacts:
    """How texts go into an encoder and what comes out.

    Attributes:
        task: ``embed``, a vector for each text, or ``classify``, scores for a text or a pair of texts.
        pooling: words of ``POOLINGS``; the results of several are joined.
        normalize: vectors get length 1.
        max_tokens: longer texts are cut, special tokens included; 0 for as many as the model takes.
        lower_case: texts are put in lower case first.
        prompts: name to what is put before a text, such as ``query: ``.
        default_prompt: name of the prompt of texts for which none was asked; empty for none.
        sigmoid: scores are put between 0 and 1.
        pad_id: token that fills a batch; it is masked.
    """

    task: Task = "embed"
    pooling: tuple[str, ...] = ("mean",)
    normalize: bool = False
    max_tokens: int = 0
    lower_case: bool = False
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str = ""
    sigmoid: bool = False
    pad_id: int = 0

    @staticmethod
    def from_json(data: Any) -> EncoderFacts:
        """Check what ``dataclasses.asdict`` wrote. Raises ValueError naming the first field that is wrong."""
        if not isinstance(data, dict):
            raise ValueError(f"`encoder` is `{data}`, expected an object")
        known = {each.name: data[each.name] for each in fields(EncoderFacts) if each.name in data}
        checks: Mapping[str, Callable[[Any], object]] = {
            "task": lambda value: value in ("embed", "classify"),
            "pooling": lambda value: isinstance(value, list) and value and set(value) <= set(POOLINGS),
            "max_tokens": _is_count,
            "pad_id": _is_count,
            "prompts": lambda value: isinstance(value, dict) and all(isinstance(text, str) for text in value.values()),
            "default_prompt": lambda value: isinstance(value, str),
        }
        for name, value in known.items():
            if not checks.get(name, _is_flag)(value):
                raise ValueError(f"`encoder.{name}` is `{value}`")
        return EncoderFacts(**{**known, "pooling": tuple(known.get("pooling", ("mean",)))})


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0
