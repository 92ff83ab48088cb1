"""Whether and how a model will be converted, from its configuration alone: nothing large is fetched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fastslm.config import Settings
from fastslm.errors import FileMissing, FormatError, OfflineMode, UnsupportedModel

if TYPE_CHECKING:
    from fastslm.hub import Fetched, ModelRef

CONFIG = "config.json"
TOKENIZER = "tokenizer.json"

Backend = Literal["native", ""]


@dataclass(frozen=True)
class Verdict:
    """The answer for one model.

    Attributes:
        name: what was asked for.
        convertible: whether ``convert`` will take it.
        backend: ``native`` for our own graphs, empty when there is none.
        architecture: ``model_type`` of the configuration, empty when it is not known.
        family: what people call the models of this architecture.
        context_length, num_layers: of the model as it was trained, 0 when not known.
        reason: why not, or empty.
    """

    name: str
    convertible: bool
    backend: Backend = ""
    architecture: str = ""
    family: str = ""
    context_length: int = 0
    num_layers: int = 0
    reason: str = ""


def can_convert(name: str, *, settings: Settings | None = None) -> Verdict:
    """Look at a model's configuration, on this machine or on the hub, where only ``config.json`` is fetched.

    Args:
        name: as in ``pull``.

    Raises:
        FastSLMError: nothing could be found out: there is no such model, or nobody answers.
    """
    from fastslm.hub import parse

    settings = settings or Settings.from_environment()
    ref = parse(name, endpoint=settings.endpoint)
    try:
        config = _from_hub(ref, settings) if ref.kind == "hub" and not ref.file else _at_hand(ref, settings)
        return replace(judge(config), name=ref.name)
    except (UnsupportedModel, FormatError) as error:
        return Verdict(ref.name, convertible=False, reason=error.message)


def judge(config: Mapping[str, Any]) -> Verdict:
    """The verdict on one configuration."""
    from fastslm.export.families import family_of
    from fastslm.export.hparams import Hparams

    known = Verdict("", convertible=False, architecture=str(config.get("model_type") or "")[:100])
    try:
        family = family_of(Hparams(config))
        shape = family.read_shape(Hparams(config), frozenset())
    except (UnsupportedModel, FormatError) as error:
        return replace(known, reason=error.message)
    known = replace(known, context_length=shape.context_length, num_layers=shape.num_layers)
    return replace(known, convertible=True, backend="native", family=family.models)


def _at_hand(ref: ModelRef, settings: Settings) -> Mapping[str, Any]:
    """The configuration of a local folder or GGUF file, or of one that was fetched before."""
    from fastslm.formats import open_model
    from fastslm.hub import fetch_model

    try:
        fetched = fetch_model(ref, replace(settings, offline=True))
    except OfflineMode:
        message = f"`{ref.name}` is not on this machine, and a GGUF file says what it is only when it is here"
        raise FileMissing(message, what="model", name=ref.name) from None
    config = fetched.path / CONFIG
    return _read_config(config) if config.is_file() else open_model(fetched.path).config


def _from_hub(ref: ModelRef, settings: Settings) -> Mapping[str, Any]:
    """The configuration, and a look at the listing: are weights and tokenizer there in a form that we read?"""
    from fastslm.hub import Wishes, fetch_model, plan_model

    fetched: Fetched = fetch_model(ref, settings, Wishes(include=(CONFIG,)))
    config = _read_config(fetched.path / CONFIG)
    if fetched.from_cache or not judge(config).convertible:
        return config
    paths = {file.path for file in plan_model(ref, settings).files}
    if TOKENIZER not in paths and not any(path.lower().endswith(".gguf") for path in paths):
        raise UnsupportedModel(f"`{ref.name}` has no `{TOKENIZER}`", feature=TOKENIZER)
    return config


def _read_config(path: Path) -> Mapping[str, Any]:
    from fastslm.formats import checked_json
    from fastslm.formats.model_folder import readable_config

    return readable_config(checked_json.read_object(path))
