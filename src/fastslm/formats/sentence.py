"""The files by which sentence-transformers says what an encoder is for: pooling, normalisation, lengths, prompts.

``modules.json`` lists the steps, ``*_Pooling/config.json`` tells how to pool, ``sentence_*_config.json`` and
``config_sentence_transformers.json`` hold lengths and prompts. A repository without them gets mean pooling over plain
texts, as sentence-transformers does it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastslm.encoder_facts import POOLINGS, EncoderFacts
from fastslm.errors import FileMissing, FormatError, UnsupportedModel
from fastslm.formats import checked_json

MODULES = "modules.json"
PROMPTS = "config_sentence_transformers.json"
SENTENCE = "sentence_bert_config.json"
POOLING = "1_Pooling/config.json"

_NO_LIMIT = 1_000_000
"""transformers writes 10^30 for a tokenizer without a limit."""

_SWITCHES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


def read_encoder_facts(folder: Path, config: Mapping[str, Any], pad_id: int | None) -> EncoderFacts:
    """Everything but the task, which the architecture decides.

    Args:
        folder: of the repository.
        config: its ``config.json``.
        pad_id: of the tokenizer, None when it does not tell.

    Raises:
        FormatError: a file is damaged.
        UnsupportedModel: a step that we do not do.
    """
    modules = _modules(folder)
    sentence = _first_object(folder, (SENTENCE, "sentence_roberta_config.json", "sentence_distilbert_config.json"))
    prompts, default = _prompts(folder)
    pooling = _pooling(folder, modules.get("Pooling", "1_Pooling"), has_prompts=bool(prompts))
    named = checked_json.get(config, "pad_token_id", int, "config.json")
    return EncoderFacts(
        pooling=pooling,
        normalize="Normalize" in modules,
        max_tokens=_max_tokens(folder, sentence),
        lower_case=checked_json.get(sentence, "do_lower_case", bool, SENTENCE) or False,
        prompts=prompts,
        default_prompt=default,
        sigmoid=_sigmoid(config),
        pad_id=max(0, pad_id if pad_id is not None else named or 0),
    )


def _object(path: Path) -> dict[str, Any]:
    try:
        return checked_json.read_object(path)
    except FileMissing:
        return {}


def _first_object(folder: Path, names: tuple[str, ...]) -> dict[str, Any]:
    return next((found for name in names if (found := _object(folder / name))), {})


def _modules(folder: Path) -> dict[str, str]:
    """Kind of each step to its folder; the kind is the last part of a class's name."""
    path = folder / MODULES
    if not path.is_file():
        return {}
    wrapped = checked_json.parse_object(b'{"modules":' + checked_json.read_text(path).encode() + b"}", str(path))
    found: dict[str, str] = {}
    for step in checked_json.get(wrapped, "modules", list, str(path)) or []:
        kind = step.get("type") if isinstance(step, dict) else None
        place = step.get("path") if isinstance(step, dict) else None
        if not isinstance(kind, str) or not isinstance(place, str):
            raise FormatError(f"`{path}` holds {checked_json.shorten(step)}, expected type and path", subject=str(path))
        found[kind.rpartition(".")[2]] = place
    unknown = sorted(set(found) - {"Transformer", "Pooling", "Normalize"})
    if unknown:
        message = f"`{MODULES}` has a step {checked_json.shorten(unknown[0])}, expected Transformer, Pooling, Normalize"
        raise UnsupportedModel(message, feature=unknown[0][:60])
    if found.get("Transformer"):
        message = f"`{MODULES}` has its model in the folder `{found['Transformer'][:60]}`, expected the top folder"
        raise UnsupportedModel(message, feature=MODULES)
    return found


def _pooling(folder: Path, place: str, *, has_prompts: bool) -> tuple[str, ...]:
    if place != Path(place).name or place in ("", ".", ".."):
        raise FormatError(f"`{MODULES}` places the pooling in {checked_json.shorten(place)}, expected a folder's name")
    subject = f"{place}/config.json"
    config = _object(folder / place / "config.json")
    if has_prompts and checked_json.get(config, "include_prompt", bool, subject) is False:
        message = f"`{subject}`: `include_prompt` is `False`, expected prompts that count"
        raise UnsupportedModel(message, feature="include_prompt")
    named = checked_json.get(config, "pooling_mode", str, subject)
    if named is not None and named not in POOLINGS:
        message = f"`{subject}`: `pooling_mode` is {checked_json.shorten(named)}, expected {', '.join(POOLINGS)}"
        raise UnsupportedModel(message, feature="pooling_mode")
    chosen = {word for key, word in _SWITCHES.items() if checked_json.get(config, key, bool, subject)}
    return tuple(word for word in POOLINGS if word in chosen) or ((named,) if named else ("mean",))


def _max_tokens(folder: Path, sentence: Mapping[str, Any]) -> int:
    found = checked_json.get(sentence, "max_seq_length", int, SENTENCE)
    if found is None:
        limit = _object(folder / "tokenizer_config.json").get("model_max_length")
        found = int(limit) if isinstance(limit, (int, float)) and 0 < limit < _NO_LIMIT else 0
    if found < 0:
        raise FormatError(f"`{SENTENCE}`: `max_seq_length` is `{found}`, expected at least 0", subject=SENTENCE)
    return found


def _prompts(folder: Path) -> tuple[dict[str, str], str]:
    data = _object(folder / PROMPTS)
    prompts = checked_json.get(data, "prompts", dict, PROMPTS) or {}
    if not all(isinstance(text, str) for text in prompts.values()):
        raise FormatError(f"`{PROMPTS}`: `prompts` is {checked_json.shorten(prompts)}, expected names and texts")
    default = checked_json.get(data, "default_prompt_name", str, PROMPTS) or ""
    if default and default not in prompts:
        message = (
            f"`{PROMPTS}`: `default_prompt_name` is {checked_json.shorten(default)}, expected the name of a prompt"
        )
        raise FormatError(message, subject=PROMPTS, found=default)
    return prompts, default


def _sigmoid(config: Mapping[str, Any]) -> bool:
    """What sentence-transformers does with the scores of a cross-encoder: one label is put between 0 and 1."""
    newer = config.get("sentence_transformers")
    named = newer.get("activation_fn") if isinstance(newer, dict) else None
    named = named or config.get("sbert_ce_default_activation_function")
    if isinstance(named, str):
        return named.endswith("Sigmoid")
    labels = config.get("id2label")
    return (len(labels) if isinstance(labels, dict) else config.get("num_labels", 2)) == 1
