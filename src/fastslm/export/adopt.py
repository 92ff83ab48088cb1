"""A graph that somebody else exported becomes a model folder as it is: shared or copied files, and a manifest.

Law: the graph is not changed; what it is for is read off its inputs and outputs; what cannot be run is refused here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from fastslm._native import __version__, hash_file
from fastslm.encoder_facts import EncoderFacts
from fastslm.errors import UnsupportedModel
from fastslm.export.hparams import Hparams
from fastslm.export.options import MAX_CONTEXT, ConvertOptions
from fastslm.formats.model_folder import ReadTexts, read_texts
from fastslm.formats.readymade import ReadyMade, load_graph
from fastslm.progress import Progress, ProgressCallback
from fastslm.store.manifest import GRAPH_NAME, TEMPLATE_NAME, TOKENIZER_NAME, ModelManifest
from fastslm.store.placing import place

PRECISION = "onnx"
"""What such a model is filed under: its graph says how its weights are stored, not we."""

PAST = re.compile(r"past_key_values\.(\d+)\.(key|value)")
KNOWN_INPUTS = frozenset({"input_ids", "attention_mask", "position_ids", "num_logits_to_keep"})
ENCODER_INPUTS = frozenset({"input_ids", "attention_mask", "token_type_ids"})
TASKS = {"last_hidden_state": "embed", "token_embeddings": "embed", "logits": "classify"}


def adopt(found: ReadyMade, target_dir: Path, options: ConvertOptions, progress: ProgressCallback) -> ModelManifest:
    """Write a model folder around a graph into an existing, empty folder.

    Raises:
        UnsupportedModel: the graph is neither a decoder with a growing cache nor an encoder.
        FormatError: graph or text files are damaged.
        DiskFull, FileSystemError: the target cannot be written.
    """
    texts = read_texts(found.texts)
    manifest = _manifest(found, texts, options)
    files = [(found.graph, GRAPH_NAME), *((path, path.name) for path in found.data)]
    for done, (source, name) in enumerate(files):
        progress(Progress("converting", done, len(files), "files", name))
        place(source, target_dir / name)
    (target_dir / TOKENIZER_NAME).write_text(texts.tokenizer_json, encoding="utf-8")
    if texts.chat_template is not None:
        (target_dir / TEMPLATE_NAME).write_text(texts.chat_template, encoding="utf-8")
    hashes = {path.name: hash_file(str(path), "sha256") for path in sorted(target_dir.iterdir())}
    complete = replace(manifest, hashes=hashes)
    complete.write(target_dir)
    return complete


def _manifest(found: ReadyMade, texts: ReadTexts, options: ConvertOptions) -> ModelManifest:
    config, graph = Hparams(texts.config), load_graph(found.graph).graph
    context = config.count("max_position_embeddings", config.get("n_positions", MAX_CONTEXT))
    common = ModelManifest(
        name=options.name,
        commit=options.commit,
        architecture=str(texts.config.get("model_type", "unknown")),
        precision=PRECISION,
        context_length=min(context, options.context_length or MAX_CONTEXT),
        vocab_size=config.count("vocab_size"),
        num_layers=1,
        num_kv_heads=1,
        head_dim=1,
        bos_token_id=texts.bos_token_id,
        eos_token_ids=texts.eos_token_ids,
        add_bos=texts.add_bos,
        special_tokens=dict(texts.special_tokens),
        generation=dict(texts.generation),
        source_files={path.name: path.stat().st_size for path in (found.graph, *found.data)},
        graph="optimum",
        fastslm_version=__version__,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )
    inputs = {value.name: value for value in graph.input}
    if any(PAST.fullmatch(name) for name in inputs):
        return replace(common, **_cache_shape(inputs))
    return replace(common, encoder=_encoder(inputs, [value.name for value in graph.output], texts, common))


def _cache_shape(inputs: Mapping[str, Any]) -> dict[str, Any]:
    caches = [name for name in inputs if PAST.fullmatch(name)]
    unknown = sorted(set(inputs) - KNOWN_INPUTS - set(caches))
    sizes = [dim.dim_value for dim in inputs[caches[0]].type.tensor_type.shape.dim]
    layers = len(caches) // 2
    expected = {f"past_key_values.{index}.{part}" for index in range(layers) for part in ("key", "value")}
    if unknown or set(caches) != expected or len(sizes) != 4 or not (sizes[1] and sizes[3]):
        what = f"an input `{unknown[0]}`" if unknown else "an unknown cache"
        message = f"the graph has {what}, expected a decoder of Optimum or onnxruntime-genai"
        raise UnsupportedModel(message, feature=(unknown or ["past_key_values"])[0][:60])
    return {"num_layers": layers, "num_kv_heads": sizes[1], "head_dim": sizes[3]}


def _encoder(inputs: Mapping[str, Any], outputs: list[str], texts: ReadTexts, manifest: ModelManifest) -> EncoderFacts:
    task = next((TASKS[name] for name in outputs if name in TASKS), None)
    classifies = str((texts.config.get("architectures") or [""])[0]).endswith("ForSequenceClassification")
    if task is None or not set(inputs) <= ENCODER_INPUTS or (task == "classify" and not classifies):
        message = (
            f"the graph has inputs {sorted(inputs)[:6]} and outputs {outputs[:4]}, expected a decoder or an encoder"
        )
        raise UnsupportedModel(message, feature="graph")
    facts = texts.encoder_facts()
    most = min(facts.max_tokens or manifest.context_length, manifest.context_length)
    return replace(facts, task="classify" if task == "classify" else "embed", max_tokens=most)
