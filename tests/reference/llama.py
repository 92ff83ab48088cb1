"""The Llama block as the papers write it: float64, one position after the other, no cache. Slow on purpose."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from reference import rope

Weights = Mapping[str, np.ndarray]


def logits(config: Mapping[str, Any], weights: Weights, ids: list[int]) -> np.ndarray:
    """Float64 logits [len(ids), vocabulary]."""
    w = {name: np.asarray(value, np.float64) for name, value in weights.items()}
    x = w["model.embed_tokens.weight"][ids]
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}"
        x = x + attention(config, w, f"{prefix}.self_attn", norm(config, w, f"{prefix}.input_layernorm", x))
        x = x + feed_forward(w, f"{prefix}.mlp", norm(config, w, f"{prefix}.post_attention_layernorm", x))
    head = w["model.embed_tokens.weight"] if config.get("tie_word_embeddings") else w["lm_head.weight"]
    return norm(config, w, "model.norm", x) @ head.T


def norm(config: Mapping[str, Any], w: Weights, name: str, x: np.ndarray) -> np.ndarray:
    mean_square = (x**2).mean(axis=-1, keepdims=True)
    return x / np.sqrt(mean_square + config["rms_norm_eps"]) * w[f"{name}.weight"]


def project(w: Weights, name: str, x: np.ndarray) -> np.ndarray:
    return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0.0)


def feed_forward(w: Weights, prefix: str, x: np.ndarray) -> np.ndarray:
    gate = project(w, f"{prefix}.gate_proj", x)
    return project(w, f"{prefix}.down_proj", gate / (1 + np.exp(-gate)) * project(w, f"{prefix}.up_proj", x))


def attention(config: Mapping[str, Any], w: Weights, prefix: str, x: np.ndarray) -> np.ndarray:
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    size = config.get("head_dim") or config["hidden_size"] // heads
    window = config.get("sliding_window") or len(x)
    query, key, value = (project(w, f"{prefix}.{part}_proj", x).reshape(len(x), -1, size) for part in "qkv")
    query, key = (rotate(config, each) for each in (query, key))
    out = np.zeros((len(x), heads, size))
    for head in range(heads):
        shared = head // (heads // kv_heads)
        for now in range(len(x)):
            seen = slice(max(0, now - window + 1), now + 1)
            scores = key[seen, shared] @ query[now, head] / math.sqrt(size)
            chances = np.exp(scores - scores.max())
            out[now, head] = chances / chances.sum() @ value[seen, shared]
    return project(w, f"{prefix}.o_proj", out.reshape(len(x), -1))


def rotate(config: Mapping[str, Any], x: np.ndarray) -> np.ndarray:
    """Turn the pair (i, i + size / 2) of the vector at each position by position times frequency i."""
    half = x.shape[-1] // 2
    out = np.empty_like(x)
    for position in range(len(x)):
        for i in range(half):
            angle = position * rope.frequency(config, i, 2 * half)
            a, b = x[position, :, i], x[position, :, i + half]
            out[position, :, i] = a * math.cos(angle) - b * math.sin(angle)
            out[position, :, i + half] = b * math.cos(angle) + a * math.sin(angle)
    return out
