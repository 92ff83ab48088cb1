"""``fastslm.json``: what a converted model folder says of itself. Written by export, read by the engine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from fastslm.errors import FileMissing, FormatError

FORMAT_VERSION = 1
MANIFEST_NAME = "fastslm.json"
GRAPH_NAME = "model.onnx"
WEIGHTS_NAME = "model.onnx.data"
TOKENIZER_NAME = "tokenizer.json"
TEMPLATE_NAME = "chat_template.jinja"


@dataclass(frozen=True)
class ModelManifest:
    """Facts of one converted model.

    Attributes:
        name: canonical name it was pulled by.
        commit: commit or content hash of the source.
        architecture: Hugging Face ``model_type``.
        precision: ``fp32``, ``int8``, ``int4`` or ``exact`` (the source's own quantised blocks).
        context_length: most positions of prompt and answer together.
        vocab_size: width of the logits.
        num_layers, num_kv_heads, head_dim: shape of the KV cache, one pair of
            ``[batch, num_kv_heads, positions, head_dim]`` float32 per layer.
        bos_token_id, eos_token_ids, add_bos, special_tokens: see ``formats.source.ModelSource``.
        generation: sampling defaults of the repository.
        source_files: relative path to size in bytes.
        hashes: file name in this folder to SHA-256.
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
    fastslm_version: str = ""
    created: str = ""
    format_version: int = FORMAT_VERSION

    def write(self, folder: Path) -> None:
        """Write ``fastslm.json`` into a folder that is not yet visible to anybody."""
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"
        (folder / MANIFEST_NAME).write_text(text, encoding="utf-8")

    @staticmethod
    def read(folder: Path) -> ModelManifest:
        """Read and check ``fastslm.json``.

        Raises:
            FileMissing: the folder has none.
            FormatError: it is not JSON, of another version, or lacks a field.
        """
        path = folder / MANIFEST_NAME
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise FileMissing(f"`{folder}` is not a converted model: it has no {MANIFEST_NAME}", name=str(path)) from None
        except (OSError, ValueError) as error:
            raise FormatError(f"`{path}` cannot be read: {error}", subject=str(path)) from error
        return _checked(data, path)


def _checked(data: Any, path: Path) -> ModelManifest:
    found = data.get("format_version") if isinstance(data, dict) else None
    if found != FORMAT_VERSION:
        message = f"`{path}` has format version `{found}`, expected {FORMAT_VERSION}"
        raise FormatError(message, subject=str(path), expected=FORMAT_VERSION, found=found)
    known = {f.name for f in fields(ModelManifest)}
    values = {key: value for key, value in data.items() if key in known}
    try:
        values["eos_token_ids"] = tuple(int(i) for i in values["eos_token_ids"])
        return ModelManifest(**values)
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"`{path}` lacks or misspells a field: {error}", subject=str(path)) from error
