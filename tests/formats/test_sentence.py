"""What a repository says of pooling, lengths and prompts is read as sentence-transformers reads it, or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fastslm.encoder_facts import EncoderFacts
from fastslm.errors import FormatError, UnsupportedModel
from fastslm.formats.sentence import read_encoder_facts

TRANSFORMER = {"path": "", "type": "sentence_transformers.models.Transformer"}
POOLING = {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}


def read(folder: Path, files: dict[str, Any], config: dict[str, Any] | None = None) -> EncoderFacts:
    for path, content in files.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(json.dumps(content), encoding="utf-8")
    return read_encoder_facts(folder, config or {}, None)


def test_a_plain_repository_gets_the_mean(tmp_path: Path) -> None:
    """Nothing says otherwise, and sentence-transformers does the same."""
    assert read(tmp_path, {}) == EncoderFacts()


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, ("cls",)),
        ({"pooling_mode_lasttoken": True}, ("lasttoken",)),
        ({"pooling_mode_max_tokens": True, "pooling_mode_mean_tokens": True}, ("max", "mean")),
        ({"pooling_mode_mean_sqrt_len_tokens": True}, ("mean_sqrt_len_tokens",)),
        ({"pooling_mode": "weightedmean", "embedding_dimension": 8}, ("weightedmean",)),
        ({}, ("mean",)),
    ],
)
def test_every_pooling_is_known(config: dict[str, Any], expected: tuple[str, ...], tmp_path: Path) -> None:
    """In the wording of older and newer releases."""
    files = {"modules.json": [TRANSFORMER, POOLING], "1_Pooling/config.json": config}
    assert read(tmp_path, files).pooling == expected


def test_prompts_lengths_and_case(tmp_path: Path) -> None:
    """Each from its own file."""
    files = {
        "config_sentence_transformers.json": {"prompts": {"query": "query: "}, "default_prompt_name": "query"},
        "sentence_bert_config.json": {"max_seq_length": 256, "do_lower_case": True},
    }
    facts = read(tmp_path, files)
    assert (facts.prompts, facts.default_prompt) == ({"query": "query: "}, "query")
    assert (facts.max_tokens, facts.lower_case) == (256, True)


@pytest.mark.parametrize(("limit", "expected"), [(512, 512), (1e30, 0), (10**30, 0), ("x", 0)])
def test_the_tokenizer_tells_the_length_where_nothing_else_does(limit: object, expected: int, tmp_path: Path) -> None:
    """10^30 is how transformers writes that there is none."""
    assert read(tmp_path, {"tokenizer_config.json": {"model_max_length": limit}}).max_tokens == expected


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"id2label": {"0": "LABEL_0"}}, True),
        ({"id2label": {"0": "a", "1": "b"}}, False),
        ({"id2label": {"0": "x"}, "sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"}, False),
        ({"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Sigmoid"}}, True),
    ],
)
def test_scores_of_one_label_lie_between_0_and_1(config: dict[str, Any], expected: bool, tmp_path: Path) -> None:
    """Unless the repository names another function."""
    assert read(tmp_path, {}, config).sigmoid is expected


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"modules.json": [TRANSFORMER, {"path": "2_Dense", "type": "x.Dense"}]}, "a step `'Dense'`, expected Trans"),
        ({"modules.json": [{**TRANSFORMER, "path": "0_T"}]}, "has its model in the folder `0_T`"),
        ({"modules.json": {"a": 1}}, "`modules` is object"),
        ({"modules.json": [3]}, "holds `3`, expected type and path"),
        ({"modules.json": [TRANSFORMER, {**POOLING, "path": "../x"}]}, r"places the pooling in `'\.\./x'`"),
        ({"1_Pooling/config.json": {"pooling_mode": "first"}}, "`pooling_mode` is `'first'`"),
        ({"1_Pooling/config.json": {"pooling_mode_cls_token": 1}}, "`pooling_mode_cls_token` is integer"),
        ({"sentence_bert_config.json": {"max_seq_length": -1}}, "`max_seq_length` is `-1`"),
        ({"config_sentence_transformers.json": {"prompts": {"a": 1}}}, "`prompts` is"),
        ({"config_sentence_transformers.json": {"default_prompt_name": "q"}}, "expected the name of a prompt"),
        (
            {
                "config_sentence_transformers.json": {"prompts": {"q": "q: "}},
                "1_Pooling/config.json": {"include_prompt": False},
            },
            "`include_prompt` is `False`",
        ),
    ],
)
def test_what_we_do_not_do_is_refused(files: dict[str, Any], reason: str, tmp_path: Path) -> None:
    """A wrong vector looks like a right one."""
    with pytest.raises((FormatError, UnsupportedModel), match=reason):
        read(tmp_path, files)
