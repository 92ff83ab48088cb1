"""A ``portable`` decoder for other programs: the same weights under the inputs that Optimum and onnxruntime-genai give.

``decoder.onnx`` takes ``input_ids`` [batch, sequence] and ``attention_mask`` [batch, past + sequence] and gives
``logits`` [batch, sequence, vocabulary]; past and present may be one buffer or grow. It is our graph with a few nodes
before and behind it, so what the engine runs and what others run cannot differ.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from fastslm.formats.source import ModelSource
from fastslm.store.manifest import ModelManifest

INTERCHANGE_NAME = "decoder.onnx"
GENAI_NAME = "genai_config.json"
CONFIG_NAME = "config.json"
TOKENIZER_CONFIG_NAME = "tokenizer_config.json"
FILES = (INTERCHANGE_NAME, GENAI_NAME, CONFIG_NAME, TOKENIZER_CONFIG_NAME)

OWN_INPUTS = ("seqlens_k", "total_sequence_length", "logit_rows")
"""Inputs of our graphs that are computed from the mask here."""

PAST, PRESENT = "past_sequence_length", "past_sequence_length + sequence_length"


def write_interchange(folder: Path, model: Any, manifest: ModelManifest, source: ModelSource, heads: int) -> None:
    """Write what other programs need beside the weights: the graph and the JSON files that they look for.

    Args:
        model: ONNX's ModelProto as ``convert`` writes it; that of a decoder is changed.
        heads: attention heads of a layer.
    """
    _write_json(folder / CONFIG_NAME, dict(source.config))
    tokens = {key: text for key, text in source.special_tokens.items() if key.endswith("_token")}
    length = {"model_max_length": manifest.context_length, "add_bos_token": manifest.add_bos}
    _write_json(folder / TOKENIZER_CONFIG_NAME, {"tokenizer_class": "PreTrainedTokenizerFast", **length, **tokens})
    if manifest.encoder is None:
        rewire(model)
        (folder / INTERCHANGE_NAME).write_bytes(model.SerializeToString())
        _write_json(folder / GENAI_NAME, genai_config(manifest, heads))


def rewire(model: Any) -> None:
    """Replace our own inputs by the mask, and give the logits the shape of a batch."""
    graph = model.graph
    kept = [each for each in graph.input if each.name not in OWN_INPUTS]
    for value in kept[1:]:
        value.type.tensor_type.shape.dim[2].dim_param = PAST
    mask = helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["batch", PRESENT])
    del graph.input[:]
    graph.input.extend([kept[0], mask, *kept[1:]])
    before, after = _before(), _after(graph)
    nodes = [*before, *graph.node, *after]
    del graph.node[:]
    graph.node.extend(nodes)
    constants = {"one": [1], "all": [-1], "zero": 0, "step": 1}
    graph.initializer.extend(
        numpy_helper.from_array(np.array(value, np.int64), f"interchange/{name}") for name, value in constants.items()
    )


def _before() -> list[Any]:
    """Lengths and rows as our graph wants them, from the mask and the size of the ids."""
    one, all_, zero, step = (f"interchange/{name}" for name in ("one", "all", "zero", "step"))
    make, to_int32 = helper.make_node, {"to": TensorProto.INT32}
    return [
        make("ReduceSum", ["attention_mask", one], ["interchange/seen"], keepdims=0),
        make("Sub", ["interchange/seen", one], ["interchange/last"]),
        make("Cast", ["interchange/last"], ["seqlens_k"], **to_int32),
        make("Shape", ["attention_mask"], ["interchange/total"], start=1, end=2),
        make("Squeeze", ["interchange/total"], ["interchange/total/scalar"]),
        make("Cast", ["interchange/total/scalar"], ["total_sequence_length"], **to_int32),
        make("Shape", ["input_ids"], ["interchange/size"]),
        make("ReduceProd", ["interchange/size"], ["interchange/count"], keepdims=0),
        make("Range", [zero, "interchange/count", step], ["logit_rows"]),
        make("Concat", ["interchange/size", all_], ["interchange/logits/shape"], axis=0),
    ]


def _after(graph: Any) -> list[Any]:
    """The logits as [batch, sequence, vocabulary]; keys and values longer by the sequence."""
    for node in graph.node:
        for place, name in enumerate(node.output):
            if name == "logits":
                node.output[place] = "interchange/logits"
    for value in graph.output:
        shape = value.type.tensor_type.shape
        if value.name == "logits":
            width = shape.dim[1].dim_value
            value.CopyFrom(helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "sequence", width]))
        else:
            shape.dim[2].dim_param = PRESENT
    return [helper.make_node("Reshape", ["interchange/logits", "interchange/logits/shape"], ["logits"])]


def genai_config(manifest: ModelManifest, heads: int) -> dict[str, Any]:
    """What onnxruntime-genai wants to know of a decoder; see the library's own ``genai_config.json`` files."""
    ends = list(manifest.eos_token_ids)
    end = ends[0] if ends else 0
    decoder = {
        "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
        "filename": INTERCHANGE_NAME,
        "head_size": manifest.head_dim,
        "hidden_size": heads * manifest.head_dim,
        "inputs": {
            "input_ids": "input_ids",
            "attention_mask": "attention_mask",
            "past_key_names": "past_key_values.%d.key",
            "past_value_names": "past_key_values.%d.value",
        },
        "outputs": {
            "logits": "logits",
            "present_key_names": "present.%d.key",
            "present_value_names": "present.%d.value",
        },
        "num_attention_heads": heads,
        "num_hidden_layers": manifest.num_layers,
        "num_key_value_heads": manifest.num_kv_heads,
    }
    start = end if manifest.bos_token_id is None else manifest.bos_token_id
    model = {
        "bos_token_id": start,
        "context_length": manifest.context_length,
        "decoder": decoder,
        "eos_token_id": ends or end,
        "pad_token_id": end,
        "type": "decoder",
        "vocab_size": manifest.vocab_size,
    }
    search = {"do_sample": False, "max_length": manifest.context_length, "past_present_share_buffer": True}
    return {"model": model, "search": search}


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
