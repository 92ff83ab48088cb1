"""Whether and how a model will be converted, from its configuration alone: nothing large is fetched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fastslm.config import Settings
from fastslm.errors import FileMissing, FormatError, OfflineMode, UnsupportedModel
from fastslm.store.manifest import MANIFEST_NAME, ModelManifest

if TYPE_CHECKING:
    from fastslm.hub import Fetched, ModelRef

CONFIG = "config.json"
TOKENIZER = "tokenizer.json"

Backend = Literal["native", "onnx", "optimum", ""]


@dataclass(frozen=True)
class Verdict:
    """The answer for one model.

    Attributes:
        name: what was asked for.
        convertible: whether ``convert`` will take it.
        backend: ``native`` for our own graphs, ``onnx`` for a ready-made one, ``optimum`` for Optimum's exporter, which
            has to be asked for, empty when there is none.
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
    settings = settings or Settings.from_environment()
    ref = _meant(name, settings)
    try:
        known = _from_hub(ref, settings) if ref.kind == "hub" and not ref.file else _at_hand(ref, settings)
        return replace(known, name=ref.name)
    except (UnsupportedModel, FormatError) as error:
        return Verdict(ref.name, convertible=False, reason=error.message)


def _meant(name: str, settings: Settings) -> ModelRef:
    """What ``run`` would take: what is on this machine under this name comes before the hub."""
    from fastslm.hub import ModelRef
    from fastslm.naming import reference
    from fastslm.store.registry import Registry

    ref = reference(name, settings)
    if ref.kind != "hub" or ref.revision or ref.file:
        return ref
    entry = Registry(settings.registry_file).find(ref.name)
    place = Path((entry.snapshot or entry.folder) if entry else "")
    return ModelRef("local", ref.name, path=place) if entry and place.exists() else ref


def judge(config: Mapping[str, Any]) -> Verdict:
    """The verdict on one configuration."""
    from fastslm.export.families import family_of
    from fastslm.export.hparams import Hparams

    known = Verdict("", convertible=False, architecture=str(config.get("model_type") or "")[:100])
    try:
        family = family_of(Hparams(config))
        shape = family.read_shape(Hparams(config), frozenset())
    except UnsupportedModel as error:
        return _by_optimum(known, error.message)
    except FormatError as error:
        return replace(known, reason=error.message)
    known = replace(known, context_length=shape.context_length, num_layers=shape.num_layers)
    return replace(known, convertible=True, backend="native", family=family.models)


def _by_optimum(known: Verdict, reason: str) -> Verdict:
    """The verdict on a model that we do not write ourselves."""
    from fastslm.export.optimum import missing

    absent = missing()
    if absent:
        return replace(known, reason=f"{reason}; the backend `optimum` needs `{absent}`, of the extra `export`")
    return replace(known, convertible=True, backend="optimum", reason=reason)


def _at_hand(ref: ModelRef, settings: Settings) -> Verdict:
    """The verdict on a local folder or GGUF file, or on one that was fetched before."""
    from fastslm.formats import has_weights, open_model
    from fastslm.hub import fetch_model

    try:
        fetched = fetch_model(ref, replace(settings, offline=True))
    except OfflineMode:
        message = f"`{ref.name}` is not on this machine, and a GGUF file says what it is only when it is here"
        raise FileMissing(message, what="model", name=ref.name) from None
    if (fetched.path / MANIFEST_NAME).is_file():
        manifest = ModelManifest.read(fetched.path)
        known = Verdict("", convertible=True, backend="native", architecture=manifest.architecture)
        return replace(known, context_length=manifest.context_length, num_layers=manifest.num_layers)
    config = fetched.path / CONFIG
    known = judge(_read_config(config) if config.is_file() else open_model(fetched.path).config)
    if config.is_file() and not has_weights(fetched.path) and any(fetched.path.rglob("*.onnx")):
        return replace(known, convertible=True, backend="onnx", reason="")
    return known


def _from_hub(ref: ModelRef, settings: Settings) -> Verdict:
    """The verdict on a configuration, and a look at the listing: are weights and tokenizer there in a form we read?"""
    from fastslm.hub import Wishes, fetch_model, plan_model

    fetched: Fetched = fetch_model(ref, settings, Wishes(include=(CONFIG,)))
    known = judge(_read_config(fetched.path / CONFIG))
    if fetched.from_cache:
        return known
    paths = {file.path for file in plan_model(ref, settings).files}
    if any(path.endswith(".onnx") for path in paths):
        known = replace(known, convertible=True, backend="onnx", reason="")
    gguf = any(path.lower().endswith(".gguf") for path in paths)
    if known.convertible and not gguf and not any(path.rpartition("/")[2] == TOKENIZER for path in paths):
        raise UnsupportedModel(f"`{ref.name}` has no `{TOKENIZER}`", feature=TOKENIZER)
    return known


def _read_config(path: Path) -> Mapping[str, Any]:
    from fastslm.formats import checked_json
    from fastslm.formats.model_folder import readable_config

    return readable_config(checked_json.read_object(path))
