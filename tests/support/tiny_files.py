"""Small model files made on the spot: sound ones by the libraries' own writers, hostile ones byte by byte."""

from __future__ import annotations

import json
import struct
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastslm.errors import FileMissing, FormatError, UnsupportedModel

MAX_MEMORY_BYTES = 50 << 20

STRING, ARRAY, UINT32, FLOAT32, BOOL = 8, 9, 4, 6, 7

SAFETENSORS_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "U8": "<u1"}


def safetensors_bytes(header: Mapping[str, Any] | bytes, data: bytes = b"") -> bytes:
    """A file with any header, sound or not."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def write_safetensors(path: Path, tensors: Mapping[str, tuple[str, np.ndarray]]) -> None:
    """A sound file: name to type and array, whose items are as wide as the type (bfloat16 as uint16)."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, (dtype, array) in tensors.items():
        raw = array.astype(SAFETENSORS_TYPES[dtype]).tobytes()
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    path.write_bytes(safetensors_bytes(header, data))


def gguf_string(text: str | bytes) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(raw)) + raw


def gguf_strings(texts: Sequence[str]) -> bytes:
    """Payload of an array of strings."""
    return struct.pack("<IQ", STRING, len(texts)) + b"".join(map(gguf_string, texts))


def gguf_tensor(name: str, dims: Sequence[int], kind: int = 0, offset: int = 0) -> bytes:
    """One entry of the tensor directory; ``dims`` innermost first, as the file has them."""
    return gguf_string(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)


@dataclass
class GgufBytes:
    """A GGUF file put together by hand, so that every field can be wrong."""

    values: list[tuple[str, int, bytes]] = field(default_factory=list)
    tensors: list[bytes] = field(default_factory=list)
    data: bytes = b""
    magic: bytes = b"GGUF"
    version: bytes = struct.pack("<I", 3)
    tensor_count: int | None = None
    value_count: int | None = None
    alignment: int = 32

    def build(self) -> bytes:
        tensor_count = len(self.tensors) if self.tensor_count is None else self.tensor_count
        value_count = len(self.values) if self.value_count is None else self.value_count
        head = self.magic + self.version + struct.pack("<QQ", tensor_count, value_count)
        head += b"".join(gguf_string(key) + struct.pack("<I", kind) + raw for key, kind, raw in self.values)
        head += b"".join(self.tensors)
        return head + b"\0" * (-len(head) % self.alignment) + self.data


@dataclass(frozen=True)
class TinyLlama:
    """Shape of a tiny llama in a GGUF file; ``vocab`` 0 means the number of ``tiny_tokens``."""

    hidden: int = 64
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    intermediate: int = 96
    quant: str = "Q8_0"
    tied: bool = True
    vocab: int = 0
    seed: int = 0


def tiny_tokens() -> list[str]:
    """A byte-level vocabulary: the 256 byte characters, a few merged words, three control tokens."""
    from tokenizers import pre_tokenizers

    return [
        "<|endoftext|>",
        "<|im_start|>",
        "<|im_end|>",
        *sorted(pre_tokenizers.ByteLevel.alphabet()),
        "he",
        "ll",
        "hell",
    ]


def llama_weights(shape: TinyLlama) -> dict[str, np.ndarray]:
    """Random weights under GGUF names, in GGUF's row order."""
    rng = np.random.default_rng(shape.seed)
    head_dim = shape.hidden // shape.heads
    sizes: dict[str, tuple[int, ...]] = {"token_embd.weight": (shape.vocab or len(tiny_tokens()), shape.hidden)}
    for i in range(shape.layers):
        for part, rows, columns in (
            ("attn_q", shape.hidden, shape.hidden),
            ("attn_k", shape.kv_heads * head_dim, shape.hidden),
            ("attn_v", shape.kv_heads * head_dim, shape.hidden),
            ("attn_output", shape.hidden, shape.hidden),
            ("ffn_gate", shape.intermediate, shape.hidden),
            ("ffn_up", shape.intermediate, shape.hidden),
            ("ffn_down", shape.hidden, shape.intermediate),
        ):
            sizes[f"blk.{i}.{part}.weight"] = (rows, columns)
        sizes[f"blk.{i}.attn_norm.weight"] = sizes[f"blk.{i}.ffn_norm.weight"] = (shape.hidden,)
    sizes["output_norm.weight"] = (shape.hidden,)
    if not shape.tied:
        sizes["output.weight"] = sizes["token_embd.weight"]
    return {name: rng.standard_normal(size).astype(np.float32) for name, size in sizes.items()}


def write_llama_gguf(
    path: Path, shape: TinyLlama = TinyLlama(), *, extra: Mapping[str, Any] = {}, without: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """A whole tiny llama by the gguf package's writer.

    Args:
        path: the file to write.
        shape: sizes and the type of the matrices.
        extra: metadata to add or replace; a float array under ``rope_freqs.weight`` becomes that tensor.
        without: metadata keys to leave out.

    Returns:
        What was written, as the file's types keep it: GGUF name to float32 array in GGUF's row order.
    """
    import gguf

    values = {**_llama_metadata(shape), **{k: v for k, v in extra.items() if k != "rope_freqs.weight"}}
    writer = gguf.GGUFWriter(path, str(values.pop("general.architecture")))
    for key, value in values.items():
        if key not in without:
            _add_value(writer, key, value)
    kept: dict[str, np.ndarray] = {}
    for name, weight in llama_weights(shape).items():
        kind = gguf.GGMLQuantizationType[shape.quant if weight.ndim == 2 else "F32"]
        raw = gguf.quants.quantize(weight, kind)
        kept[name] = gguf.quants.dequantize(raw, kind).reshape(weight.shape)
        writer.add_tensor(name, raw, raw_dtype=kind)
    if "rope_freqs.weight" in extra:
        writer.add_tensor("rope_freqs.weight", np.asarray(extra["rope_freqs.weight"], dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return kept


def _llama_metadata(shape: TinyLlama) -> dict[str, Any]:
    tokens = tiny_tokens()
    return {
        "general.architecture": "llama",
        "llama.block_count": shape.layers,
        "llama.context_length": 128,
        "llama.embedding_length": shape.hidden,
        "llama.feed_forward_length": shape.intermediate,
        "llama.attention.head_count": shape.heads,
        "llama.attention.head_count_kv": shape.kv_heads,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.freq_base": 10000.0,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3, 3, 3] + [1] * (len(tokens) - 3),
        "tokenizer.ggml.merges": ["h e", "l l", "he ll"],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.chat_template": "{{ messages[0]['content'] }}",
    }


def _add_value(writer: Any, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


def survives(action: Callable[[], object]) -> bool:
    """Run a reader on a damaged file: it succeeds (True) or refuses in one sentence, within bounded memory."""
    try:
        action()
    except (FormatError, UnsupportedModel, FileMissing):
        return False
    return True


class bounded_memory:
    """Fails the test when the block takes more than ``MAX_MEMORY_BYTES``."""

    def __enter__(self) -> None:
        tracemalloc.start()

    def __exit__(self, *failure: object) -> None:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        if failure[0] is None and peak > MAX_MEMORY_BYTES:
            pytest.fail(f"{peak} bytes for a small file")
