"""``fastslm.json``: what a converted model folder says of itself. Written by export, read by the engine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from fastslm.encoder_facts import EncoderFacts
from fastslm.errors import FileMissing, FormatError
from fastslm.fidelity import Fidelity

FORMAT_VERSION = 1
MANIFEST_NAME = "fastslm.json"
GRAPH_NAME = "model.onnx"
WEIGHTS_NAME = "model.onnx.data"
TOKENIZER_NAME = "tokenizer.json"
TEMPLATE_NAME = "chat_template.jinja"
GRAPHS = ("fastslm", "optimum")

TARGETS = ("native", "portable")

_MAPPINGS: dict[str, tuple[type, ...]] = {
    "special_tokens": (str,),
    "generation": (int, float),
    "source_files": (int,),
    "hashes": (str,),
}


@dataclass(frozen=True)
class ModelKind:
    """What decides how fast the bytes of a model are used; the words are those of ``ModelManifest``."""

    architecture: str
    precision: str
    target: str


@dataclass(frozen=True)
class ModelManifest:
    """Facts of one converted model.

    Attributes:
        name: canonical name it was pulled by.
        commit: commit or content hash of the source.
        architecture: Hugging Face ``model_type``.
        precision: as in ``ConvertOptions``, never ``auto``.
        context_length: most positions of prompt and answer together.
        vocab_size: width of the logits.
        num_layers, num_kv_heads, head_dim: shape of the KV cache, one pair of
            ``[batch, num_kv_heads, positions, head_dim]`` float32 per layer.
        attending_layers: layers with such a pair where not all have one, else 0.
        bos_token_id, eos_token_ids, add_bos, special_tokens: see ``formats.source.ModelSource``.
        generation: sampling defaults of the repository.
        source_files: relative path to size in bytes.
        hashes: file name in this folder to SHA-256.
        streamed_bytes: weights that are read for every token of an answer, 0 when it is not known.
        target: ``native`` (our operators) or ``portable`` (those of ONNX Runtime).
        packed_layout: version of the layout of packed weights, 0 when there are none.
        encoder: how an encoder is used, None for a model that generates text.
        quality: how close it is to its floats, None when that was not measured.
        calibrated_on: SHA-256 of the text whose activations guided the quantisation; empty for none.
        graph: ``fastslm`` for one of ours, ``optimum`` for one that others exported.
        fastslm_version: what wrote it.
        created: UTC time, ISO 8601.
    """

    name: str
    commit: str
    architecture: str
    precision: str
    context_length: int
    vocab_size: int
    num_layers: int
    num_kv_heads: int
    head_dim: int
    bos_token_id: int | None
    eos_token_ids: tuple[int, ...]
    add_bos: bool
    special_tokens: Mapping[str, str] = field(default_factory=dict)
    generation: Mapping[str, float] = field(default_factory=dict)
    source_files: Mapping[str, int] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)
    streamed_bytes: int = 0
    target: str = "portable"
    packed_layout: int = 0
    encoder: EncoderFacts | None = None
    quality: Fidelity | None = None
    calibrated_on: str = ""
    attending_layers: int = 0
    graph: str = "fastslm"
    fastslm_version: str = ""
    created: str = ""
    format_version: int = FORMAT_VERSION

    @property
    def kind(self) -> ModelKind:
        """What it has in common with other models."""
        return ModelKind(self.architecture, self.precision, self.target)

    @property
    def kv_layers(self) -> int:
        """Layers with keys and values."""
        return self.attending_layers or self.num_layers

    def write(self, folder: Path) -> None:
        """Write ``fastslm.json`` into a folder that is not yet visible to anybody."""
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"
        (folder / MANIFEST_NAME).write_text(text, encoding="utf-8")

    @staticmethod
    def read(folder: Path) -> ModelManifest:
        """Read and check ``fastslm.json``.

        Raises:
            FileMissing: the folder has none.
            FormatError: it is not JSON, of another version, or a field is missing or of the wrong type.
        """
        path = folder / MANIFEST_NAME
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise FileMissing(
                f"`{folder}` is not a converted model: it has no {MANIFEST_NAME}", name=str(path)
            ) from None
        except (OSError, ValueError, RecursionError) as error:
            raise FormatError(f"`{path}` cannot be read: {error}", subject=str(path)) from error
        return _checked(data, path)


def _checked(data: Any, path: Path) -> ModelManifest:
    found = data.get("format_version") if isinstance(data, dict) else None
    if found != FORMAT_VERSION:
        message = f"`{path}` has format version `{found}`, expected {FORMAT_VERSION}"
        raise FormatError(message, subject=str(path), expected=FORMAT_VERSION, found=found)
    values = {f.name: data[f.name] for f in fields(ModelManifest) if f.name in data}
    try:
        _check_types(values)
        if values.get("encoder") is not None:
            values["encoder"] = EncoderFacts.from_json(values["encoder"])
        if values.get("quality") is not None:
            values["quality"] = Fidelity.from_json(values["quality"])
        return ModelManifest(**{**values, "eos_token_ids": tuple(values["eos_token_ids"])})
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"`{path}` lacks or misspells a field: {error}", subject=str(path)) from error


def _check_types(values: Mapping[str, Any]) -> None:
    """Raise ValueError naming the first field that cannot be what it says."""
    for key in ("context_length", "vocab_size", "num_layers", "num_kv_heads", "head_dim"):
        if type(values[key]) is not int or values[key] < 1:
            raise ValueError(f"`{key}` is `{values[key]}`, expected a whole number from 1")
    for key in ("streamed_bytes", "packed_layout", "attending_layers"):
        number = values.get(key, 0)
        if type(number) is not int or number < 0:
            raise ValueError(f"`{key}` is `{number}`, expected a whole number")
    if values.get("target", "portable") not in TARGETS:
        raise ValueError(f"`target` is `{values['target']}`, expected {' or '.join(TARGETS)}")
    ends, bos = values["eos_token_ids"], values["bos_token_id"]
    if not isinstance(ends, list) or not all(_is_token(i, values) for i in ends):
        raise ValueError(f"`eos_token_ids` is `{ends}`, expected a list of token ids")
    if bos is not None and not _is_token(bos, values):
        raise ValueError(f"`bos_token_id` is `{bos}`, expected a token id or null")
    if not isinstance(values["add_bos"], bool):
        raise ValueError(f"`add_bos` is `{values['add_bos']}`, expected true or false")
    for key in ("name", "commit", "architecture", "precision", "calibrated_on", "fastslm_version", "created"):
        if not isinstance(values.get(key, ""), str):
            raise ValueError(f"`{key}` is `{values[key]}`, expected a string")
    if values.get("graph", "fastslm") not in GRAPHS:
        raise ValueError(f"`graph` is `{values['graph']}`, expected {' or '.join(GRAPHS)}")
    for key, kinds in _MAPPINGS.items():
        _check_mapping(key, values.get(key, {}), kinds)
    for name in values.get("hashes", {}):
        if name != Path(name).name or not name:
            raise ValueError(f"`hashes` names `{name}`, expected a file of this folder")


def _is_token(value: Any, values: Mapping[str, Any]) -> bool:
    return type(value) is int and 0 <= value < values["vocab_size"]


def _check_mapping(key: str, value: Any, kinds: tuple[type, ...]) -> None:
    if not isinstance(value, dict) or not all(type(item) in kinds for item in value.values()):
        expected = " or ".join(kind.__name__ for kind in kinds)
        raise ValueError(f"`{key}` is `{value}`, expected names with values of type {expected}")
