"""The text side of a Hugging Face folder: tokenizer, special tokens, chat template."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastslm.errors import FileMissing, FormatError, UnsupportedModel
from fastslm.formats import checked_json

_ROLES = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")
_ADDS_BOS = frozenset(
    {"LlamaTokenizer", "LlamaTokenizerFast", "CodeLlamaTokenizerFast", "GemmaTokenizer", "GemmaTokenizerFast"}
)
"""Classes of transformers that begin a text with bos themselves, whatever tokenizer.json says."""


@dataclass(frozen=True)
class FolderText:
    """Content of the tokenizer files; ``ids`` maps the text of special tokens to ids."""

    tokenizer_json: str
    chat_template: str | None
    special_tokens: dict[str, str]
    ids: dict[str, int]
    add_bos: bool


def read_text_files(folder: Path) -> FolderText:
    """Read tokenizer.json, tokenizer_config.json, special_tokens_map.json and the chat template.

    Raises:
        FileMissing: there is no tokenizer at all.
        FormatError: a file is damaged.
        UnsupportedModel: the tokenizer exists only as ``tokenizer.model`` or as ``vocab.json``.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        _refuse_other_tokenizers(folder)
    text = checked_json.read_text(path, checked_json.MAX_TOKENIZER_BYTES)
    tokenizer = checked_json.parse_object(text, str(path))
    config = _object_or_empty(folder / "tokenizer_config.json")
    special = _special_tokens(folder, config)
    ids = _ids(tokenizer, str(path), special.values())
    return FolderText(
        tokenizer_json=text,
        chat_template=chat_template(folder, config),
        special_tokens=special,
        ids=ids,
        add_bos=_add_bos(tokenizer, config, special.get("bos_token"), str(folder / "tokenizer_config.json")),
    )


def chat_template(folder: Path, config: Mapping[str, Any]) -> str | None:
    """Template of ``chat_template.jinja``, else ``chat_template.json``, else tokenizer_config.json.

    Of a list of named templates the one called ``default`` is taken. Raises FormatError.
    """
    jinja = folder / "chat_template.jinja"
    if jinja.is_file():
        return checked_json.read_text(jinja)
    holder, subject = _object_or_empty(folder / "chat_template.json"), str(folder / "chat_template.json")
    if holder.get("chat_template") is None:
        holder, subject = dict(config), str(folder / "tokenizer_config.json")
    found = holder.get("chat_template")
    if found is None or isinstance(found, str):
        return found
    if not isinstance(found, list) or not all(_is_named_template(item) for item in found):
        message = f"`{subject}`: `chat_template` is {checked_json.shorten(found)}, expected a string or named templates"
        raise FormatError(message, subject=subject, expected="string", found=checked_json.type_name(found))
    return next((str(item["template"]) for item in found if item["name"] == "default"), None)


def _is_named_template(item: object) -> bool:
    return isinstance(item, dict) and isinstance(item.get("name"), str) and isinstance(item.get("template"), str)


def _refuse_other_tokenizers(folder: Path) -> None:
    for name in ("tokenizer.model", "spiece.model", "vocab.json", "vocab.txt"):
        if (folder / name).is_file():
            message = f"`{folder}` has its tokenizer only as `{name}`, expected `tokenizer.json`"
            raise UnsupportedModel(message, feature=name)
    raise FileMissing(f"`{folder}` has no `tokenizer.json`", what="file", name="tokenizer.json")


def _object_or_empty(path: Path) -> dict[str, Any]:
    try:
        return checked_json.read_object(path)
    except FileMissing:
        return {}


def _special_tokens(folder: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """Role to text from both files; tokenizer_config.json wins. A token is a string or an object with ``content``."""
    found: dict[str, str] = {}
    mapped = folder / "special_tokens_map.json"
    for data, path in ((_object_or_empty(mapped), mapped), (config, folder / "tokenizer_config.json")):
        for role in _ROLES:
            value = data.get(role)
            text = value.get("content") if isinstance(value, dict) else value
            if text is None and value is None:
                continue
            if not isinstance(text, str):
                message = f"`{path}`: `{role}` is {checked_json.shorten(value)}, expected a token"
                raise FormatError(message, subject=str(path), expected="string", found=checked_json.type_name(value))
            found[role] = text
    return found


def _ids(tokenizer: Mapping[str, Any], subject: str, wanted: Any) -> dict[str, int]:
    """Ids of the added tokens and of the ``wanted`` texts."""
    ids: dict[str, int] = {}
    model = checked_json.get(tokenizer, "model", dict, subject) or {}
    vocabulary = model.get("vocab")
    if isinstance(vocabulary, dict):
        ids = {text: vocabulary[text] for text in wanted if type(vocabulary.get(text)) is int}
    for token in checked_json.get(tokenizer, "added_tokens", list, subject) or []:
        if not isinstance(token, dict) or type(token.get("id")) is not int or not isinstance(token.get("content"), str):
            message = f"`{subject}`: `added_tokens` holds {checked_json.shorten(token)}, expected id and content"
            raise FormatError(message, subject=subject)
        ids[token["content"]] = token["id"]
    return ids


def _add_bos(tokenizer: Mapping[str, Any], config: Mapping[str, Any], bos: str | None, subject: str) -> bool:
    """Whether transformers would begin a plain text with the bos token."""
    if bos is None:
        return False
    named = checked_json.get(config, "add_bos_token", bool, subject)
    if checked_json.get(config, "tokenizer_class", str, subject) in _ADDS_BOS:
        return named is not False
    return named is not False and _template_begins_with(tokenizer.get("post_processor"), bos)


def _template_begins_with(processor: Any, bos: str) -> bool:
    """Whether a post-processor (or one of a sequence) puts ``bos`` before a single text."""
    if not isinstance(processor, dict):
        return False
    steps = processor.get("processors")
    if isinstance(steps, list):
        return any(_template_begins_with(step, bos) for step in steps)
    single = processor.get("single")
    first = single[0] if isinstance(single, list) and single else None
    special = first.get("SpecialToken") if isinstance(first, dict) else None
    return isinstance(special, dict) and special.get("id") == bos
