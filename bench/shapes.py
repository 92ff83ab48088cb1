"""Models of real shapes with random weights: configurations as published, numbers made on the spot.

``python -m bench.shapes NAME FOLDER`` writes one as bfloat16 safetensors with a tokenizer of the right size.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

COMMON = {
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "torch_dtype": "bfloat16",
    "bos_token_id": 1,
    "eos_token_id": 2,
    "attention_bias": False,
}

SHAPES: Mapping[str, Mapping[str, Any]] = {
    "qwen2.5-0.5b": {
        "model_type": "qwen2",
        "architectures": ["Qwen2ForCausalLM"],
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "vocab_size": 151936,
        "max_position_embeddings": 32768,
        "rope_theta": 1000000.0,
        "tie_word_embeddings": True,
    },
    "llama-3.2-1b": {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "vocab_size": 128256,
        "max_position_embeddings": 131072,
        "rope_theta": 500000.0,
        "tie_word_embeddings": True,
    },
    "qwen3-1.7b": {
        "model_type": "qwen3",
        "architectures": ["Qwen3ForCausalLM"],
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 151936,
        "max_position_embeddings": 40960,
        "rope_theta": 1000000.0,
        "tie_word_embeddings": True,
    },
    "wide": {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "vocab_size": 151936,
        "max_position_embeddings": 8192,
        "rope_theta": 1000000.0,
        "tie_word_embeddings": True,
    },
}
"""The last is no model that anyone has: all it has is a vocabulary of the usual width."""


def tensors(config: Mapping[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes, in the order of the layers."""
    hidden, inner, heads = config["hidden_size"], config["intermediate_size"], config["num_attention_heads"]
    size = config.get("head_dim", hidden // heads)
    q, kv = heads * size, config["num_key_value_heads"] * size
    yield "model.embed_tokens.weight", (config["vocab_size"], hidden)
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        for name, rows in (("q_proj", q), ("k_proj", kv), ("v_proj", kv)):
            yield f"{at}self_attn.{name}.weight", (rows, hidden)
            if config["model_type"] == "qwen2":
                yield f"{at}self_attn.{name}.bias", (rows,)
        yield f"{at}self_attn.o_proj.weight", (hidden, q)
        if config["model_type"] == "qwen3":
            yield f"{at}self_attn.q_norm.weight", (size,)
            yield f"{at}self_attn.k_norm.weight", (size,)
        for name, shape in (
            ("gate_proj", (inner, hidden)),
            ("up_proj", (inner, hidden)),
            ("down_proj", (hidden, inner)),
        ):
            yield f"{at}mlp.{name}.weight", shape
        yield f"{at}input_layernorm.weight", (hidden,)
        yield f"{at}post_attention_layernorm.weight", (hidden,)
    yield "model.norm.weight", (hidden,)


def write(name: str, folder: Path, *, seed: int = 0) -> Path:
    """Write a model, unless the folder has it; memory stays small."""
    config = {**COMMON, **SHAPES[name]}
    target = folder / "model.safetensors"
    if target.exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    _tokenizer(config["vocab_size"]).save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<e>"}), encoding="utf-8"
    )
    wanted, offset, header = list(tensors(config)), 0, {}
    for key, shape in wanted:
        size = 2 * int(np.prod(shape))
        header[key] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    random = np.random.default_rng(seed)
    partial = target.with_suffix(".partial")
    with partial.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for key, shape in wanted:
            for block in _blocks(key, shape, random):
                file.write(block.tobytes())
    partial.rename(target)
    return folder


def _blocks(key: str, shape: tuple[int, ...], random: np.random.Generator) -> Iterator[npt.NDArray[np.uint16]]:
    """Numbers in the size that trained weights have, as bfloat16."""
    columns = shape[-1]
    rows = shape[0] if len(shape) == 2 else 1
    step = max(1, (1 << 22) // columns)
    for start in range(0, rows, step):
        count = min(step, rows - start)
        values = random.standard_normal((count, columns), dtype=np.float32)
        values *= np.float32(1 / np.sqrt(columns))
        if key.endswith("norm.weight"):
            values = values + np.float32(1)
        yield (values.view(np.uint32) >> np.uint32(16)).astype(np.uint16)


def _tokenizer(vocab_size: int) -> Any:
    """A byte-level tokenizer whose vocabulary is filled up with words that no text has."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = ["<u>", "<s>", "<e>", *letters]
    pieces += [f"<w{number}>" for number in range(vocab_size - len(pieces))]
    tokenizer = Tokenizer(models.BPE({piece: id_ for id_, piece in enumerate(pieces)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def main() -> None:
    """Write the model that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m bench.shapes", description=__doc__)
    parser.add_argument("name", choices=list(SHAPES))
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    print(write(given.name, given.folder))


if __name__ == "__main__":
    main()
