"""A folder of safetensors as a GGUF file of the same numbers, for llama.cpp: ``python -m bench.to_gguf FOLDER FILE``.

Only Llama, Qwen2 and Qwen3 with a byte-level tokenizer, which is what the benchmarks make. Needs numpy and gguf, no
torch.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

PARTS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
NO_MERGES = ["<w 0>", "<w 1>"]
"""OpenVINO's reader wants some, whose results are tokens; no text meets these in a vocabulary made by ``shapes``."""

OUTER = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def tensors(path: Path) -> Iterator[tuple[str, str, npt.NDArray[Any]]]:
    """Name, type (BF16 or F32) and array of every tensor, memory-mapped; bfloat16 as uint16."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
    data = np.memmap(path, np.uint8, "r", 8 + size)
    for name, entry in header.items():
        if name != "__metadata__":
            start, stop = entry["data_offsets"]
            kind = {"BF16": "<u2", "F32": "<f4"}[entry["dtype"]]
            yield name, entry["dtype"], data[start:stop].view(kind).reshape(entry["shape"])


def renamed(name: str) -> str:
    """The name that llama.cpp knows a tensor by."""
    module, _, kind = name.rpartition(".")
    if module in OUTER:
        return f"{OUTER[module]}.{kind}"
    _, _, layer, part = module.split(".", 3)
    return f"blk.{layer}.{PARTS[part]}.{kind}"


def interleaved(weight: npt.NDArray[Any], heads: int) -> npt.NDArray[Any]:
    """Rows of a query or key matrix in the order in which llama.cpp turns a Llama's: halves of a head alternate."""
    rows, columns = weight.shape
    turned = weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2)
    return np.ascontiguousarray(turned.reshape(rows, columns))


def write(folder: Path, target: Path) -> None:
    """Write the file; matrices keep their type, vectors become float32."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    kind = config["model_type"]
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    writer = gguf.GGUFWriter(target, kind, use_temp_file=False)
    _describe(writer, config)
    _add_tokenizer(writer, json.loads((folder / "tokenizer.json").read_text(encoding="utf-8")), config["vocab_size"])
    for name, dtype, value in tensors(folder / "model.safetensors"):
        key = renamed(name)
        part = key.split(".")[2] if key.startswith("blk.") else ""
        if value.ndim == 1:
            floats = (value.astype(np.uint32) << 16).view(np.float32) if dtype == "BF16" else value
            writer.add_tensor(key, floats.astype(np.float32))
            continue
        if kind == "llama" and part in heads:
            value = interleaved(value, heads[part])
        if dtype == "BF16":
            writer.add_tensor(key, value.view(np.uint8), raw_dtype=gguf.GGMLQuantizationType.BF16)
        else:
            writer.add_tensor(key, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _describe(writer: gguf.GGUFWriter, config: Mapping[str, Any]) -> None:
    head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    rope = config.get("rope_parameters") or {}
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(float(config.get("rope_theta") or rope.get("rope_theta", 10000.0)))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])


def _add_tokenizer(writer: gguf.GGUFWriter, described: Mapping[str, Any], size: int) -> None:
    words = {id_: text for text, id_ in described["model"]["vocab"].items()}
    words |= {each["id"]: each["content"] for each in described.get("added_tokens", [])}
    merges = described["model"].get("merges") or []
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([words.get(i, f"[unused{i}]") for i in range(size)])
    writer.add_token_types([3 if i == 0 else 1 if i in words else 5 for i in range(size)])
    writer.add_token_merges([each if isinstance(each, str) else " ".join(each) for each in merges] or NO_MERGES)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]))
