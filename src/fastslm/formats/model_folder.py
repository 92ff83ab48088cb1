"""A folder in the layout of Hugging Face (config.json, tokenizer.json, safetensors) as a ModelSource."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

from fastslm.encoder_facts import EncoderFacts
from fastslm.errors import FileMissing, FormatError
from fastslm.formats import checked_json, stacked
from fastslm.formats.folder_text import FolderText, read_text_files
from fastslm.formats.mapping import ModelFile, Opener
from fastslm.formats.pickled.tensors import has_pickled, open_pickled
from fastslm.formats.prequantized.settings import plain, read_settings
from fastslm.formats.prequantized.tensors import PrequantizedTensors
from fastslm.formats.safetensors import open_safetensors
from fastslm.formats.sentence import read_encoder_facts
from fastslm.formats.source import ModelSource, TensorSource

_SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")


@dataclass(frozen=True)
class ReadTexts:
    """What a folder says beside its weights; see ``ModelSource``."""

    config: Mapping[str, Any]
    tokenizer_json: str
    chat_template: str | None
    special_tokens: Mapping[str, str]
    bos_token_id: int | None
    eos_token_ids: tuple[int, ...]
    add_bos: bool
    generation: Mapping[str, float]
    encoder_facts: Callable[[], EncoderFacts]


def read_texts(folder: Path) -> ReadTexts:
    """Configuration, tokenizer and what is set beside them, of a folder whose weights are nobody's business here.

    Raises:
        FileMissing: ``config.json`` or ``tokenizer.json`` is not there.
        FormatError: a file is damaged; the message names file, key, what was found and what was expected.
        UnsupportedModel: there is only a ``tokenizer.model``.
    """
    config = _read_config(folder)
    generation = _optional(folder / "generation_config.json")
    text = read_text_files(folder)
    pad = text.ids.get(text.special_tokens.get("pad_token", ""))
    return ReadTexts(
        config=classic_rope(plain(config)),
        tokenizer_json=text.tokenizer_json,
        chat_template=text.chat_template,
        special_tokens=text.special_tokens,
        bos_token_id=_bos(config, text, str(folder / "config.json")),
        eos_token_ids=_ends(folder, config, generation, text),
        add_bos=text.add_bos,
        generation=_sampling(generation, str(folder / "generation_config.json")),
        encoder_facts=partial(read_encoder_facts, folder, config, pad),
    )


def open_folder(folder: Path, opener: Opener = ModelFile) -> ModelSource:
    """Open a folder.

    Raises:
        FileMissing: ``config.json``, ``tokenizer.json`` or a weights file is not there.
        FormatError: a file is damaged; the message names file, key, what was found and what was expected.
        UnsupportedModel: the weights are packed in a way that we do not read, or there is only a ``tokenizer.model``.
    """
    texts = read_texts(folder)
    tensors, weights = _open_weights(folder, _read_config(folder), opener)
    facts = {field.name: getattr(texts, field.name) for field in fields(ReadTexts)}
    return ModelSource(tensors=tensors, files={**_small_files(folder), **weights}, **facts)


def outline_folder(folder: Path) -> tuple[dict[str, Any], TensorSource]:
    """Configuration and tensors without any text file. Raises as ``open_folder``."""
    config = _read_config(folder)
    return classic_rope(plain(config)), _open_weights(folder, config, ModelFile)[0]


def readable_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A ``config.json`` as a conversion sees it, without what only tells how its weights are packed.

    Raises:
        UnsupportedModel: they are packed in a way that we do not read.
    """
    read_settings(config)
    return classic_rope(plain(config))


def _open_weights(folder: Path, config: Mapping[str, Any], opener: Opener) -> tuple[TensorSource, dict[str, int]]:
    """Safetensors; pickled tensors where there are none. Packed modules are put together, stacks taken apart."""
    pickled = has_pickled(folder) and not any(folder.glob("*.safetensors"))
    tensors, files = open_pickled(folder) if pickled else open_safetensors(folder, opener)
    if config["model_type"] == stacked.MODEL_TYPE:
        return stacked.StackedExperts(tensors), files
    settings = read_settings(config)
    return (PrequantizedTensors(tensors, settings) if settings else tensors), files


def _read_config(folder: Path) -> dict[str, Any]:
    config = checked_json.read_object(folder / "config.json")
    if not checked_json.get(config, "model_type", str, str(folder / "config.json")):
        message = f"`{folder / 'config.json'}`: `model_type` is missing, expected a string"
        raise FormatError(message, subject="config.json", expected="model_type")
    read_settings(config)  # refuses what we do not read
    return config


def classic_rope(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with ``rope_theta`` and ``rope_scaling``, also when it was saved by transformers 5.

    Version 5 writes both into one object, ``rope_parameters``.
    """
    result = dict(config)
    rope = checked_json.get(result, "rope_parameters", dict, "config.json")
    if not rope or any(isinstance(value, dict) for value in rope.values()):
        return result
    if "rope_theta" in rope:
        result.setdefault("rope_theta", rope["rope_theta"])
    if "partial_rotary_factor" in rope:
        result.setdefault("partial_rotary_factor", rope["partial_rotary_factor"])
    scaling = {key: value for key, value in rope.items() if key not in ("rope_theta", "partial_rotary_factor")}
    if result.get("rope_scaling") is None:
        result["rope_scaling"] = None if scaling.get("rope_type", "default") == "default" else scaling
    return result


def token_ids(data: Mapping[str, Any], key: str, subject: str) -> tuple[int, ...]:
    """A token id or a list of them; empty when absent. Raises FormatError."""
    value = data.get(key)
    ids = [] if value is None else value if isinstance(value, list) else [value]
    if not all(type(item) is int and 0 <= item < 1 << 31 for item in ids):
        message = f"`{subject}`: `{key}` is {checked_json.shorten(value)}, expected a token id or a list of them"
        raise FormatError(message, subject=subject, expected="token ids", found=value)
    return tuple(ids)


def _optional(path: Path) -> dict[str, Any]:
    try:
        return checked_json.read_object(path)
    except FileMissing:
        return {}


def _bos(config: Mapping[str, Any], text: FolderText, subject: str) -> int | None:
    found = text.ids.get(text.special_tokens.get("bos_token", ""))
    if found is not None:
        return found
    named = token_ids(config, "bos_token_id", subject)
    return named[0] if named and named[0] in text.ids.values() else None


def _ends(folder: Path, config: Mapping[str, Any], generation: Mapping[str, Any], text: FolderText) -> tuple[int, ...]:
    """Tokens of the generation settings (else of the configuration), then the tokenizer's own eos.

    Numbers that stand for no token, as a configuration's default may, cannot end anything and are left out.
    """
    ends = token_ids(generation, "eos_token_id", str(folder / "generation_config.json"))
    ends = ends or token_ids(config, "eos_token_id", str(folder / "config.json"))
    own = text.ids.get(text.special_tokens.get("eos_token", ""))
    known = set(text.ids.values())
    return tuple(dict.fromkeys([*(end for end in ends if end in known), *([] if own is None else [own])]))


def _sampling(generation: Mapping[str, Any], subject: str) -> dict[str, float]:
    found = {key: checked_json.get(generation, key, float, subject) for key in _SAMPLING}
    return {key: value for key, value in found.items() if value is not None}


def _small_files(folder: Path) -> dict[str, int]:
    patterns = ("*.json", "*.jinja")
    return {path.name: path.stat().st_size for pattern in patterns for path in sorted(folder.glob(pattern))}
