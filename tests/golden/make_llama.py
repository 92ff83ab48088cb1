"""Write ``llama/``: tiny random models of the Llama block and the logits that transformers computes for them.

    python tests/golden/make_llama.py

Needs ``torch`` and ``transformers``; the tests do not. Weights are saved once per shape, as a hub repository would hold
them (bfloat16, float16 in two shards, float32); variants share them and differ in ``config.json`` only.
``<variant>.npz`` holds ``prompt_0``, ``logits_0``, …: token ids and float32 logits [tokens, vocabulary] of the saved
weights, computed in float32.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

HERE = Path(__file__).parent
TARGET = HERE / "llama"
PROMPT_LENGTHS = (19, 6)
BASE = {
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 288,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "initializer_range": 0.15,
    "bos_token_id": 2,
    "eos_token_id": 1,
    "tie_word_embeddings": True,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
NARROW = {"hidden_size": 32, "head_dim": 16, "max_position_embeddings": 64}
WEIGHTS: dict[str, tuple[dict[str, Any], torch.dtype, str]] = {
    "tied": ({"model_type": "llama"}, torch.bfloat16, "5GB"),
    "untied": ({"model_type": "llama", "tie_word_embeddings": False}, torch.float16, "120KB"),
    "narrow": ({"model_type": "llama", **NARROW}, torch.float32, "5GB"),
    "qwen2": ({"model_type": "qwen2"}, torch.bfloat16, "5GB"),
}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "tied": ("tied", {}),
    "untied": ("untied", {}),
    "narrow": ("narrow", {}),
    "qwen2": ("qwen2", {}),
    "rope_linear": ("tied", {"rope_theta": 5000.0, "rope_scaling": {"rope_type": "linear", "factor": 4.0}}),
    "rope_llama3": ("tied", {"rope_theta": 5000.0, "rope_scaling": LLAMA3}),
    "mistral_window": ("tied", {"model_type": "mistral", "sliding_window": 5}),
}


def make_config(changes: dict[str, Any]) -> Any:
    """A configuration object of the right class."""
    values = {**BASE, **changes}
    return AutoConfig.for_model(values.pop("model_type"), **values)


def save_weights(name: str) -> None:
    """Random weights: norms around 1, biases that matter."""
    changes, dtype, shard = WEIGHTS[name]
    torch.manual_seed(sorted(WEIGHTS).index(name))
    model = AutoModelForCausalLM.from_config(make_config(changes))
    for key, value in model.named_parameters():
        if key.endswith(("norm.weight", ".bias")):
            value.data = torch.randn_like(value) * 0.2 + (0.0 if key.endswith("bias") else 1.0)
    model.to(dtype).save_pretrained(TARGET / name, max_shard_size=shard)
    for extra in ("config.json", "generation_config.json"):
        (TARGET / name / extra).unlink(missing_ok=True)


def write_variant(name: str) -> None:
    """One configuration, in the wording of transformers 4, and the logits of two prompts."""
    weights, changes = VARIANTS[name]
    values = {**BASE, **WEIGHTS[weights][0], **changes}
    text = json.dumps({"weights": weights, "config": values}, indent=1)
    (TARGET / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    model = load_reference(weights, values)
    rng = np.random.default_rng(7)
    arrays: dict[str, np.ndarray] = {}
    for index, length in enumerate(PROMPT_LENGTHS):
        prompt = rng.integers(3, values["vocab_size"], length)
        with torch.no_grad():
            logits = model(torch.from_numpy(prompt[None])).logits[0]
        arrays |= {f"prompt_{index}": prompt, f"logits_{index}": logits.numpy().astype(np.float32)}
    np.savez(TARGET / f"{name}.npz", **arrays)
    print(name, "logits spread", round(float(arrays["logits_0"].std()), 2))


def load_reference(weights: str, values: dict[str, Any]) -> Any:
    """The model as transformers reads it back, in float32, with the plainest attention."""
    folder = TARGET / weights
    config = folder / "config.json"
    config.write_text(json.dumps(values), encoding="utf-8")
    try:
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    finally:
        config.unlink()


def main() -> None:
    """Make everything anew."""
    shutil.rmtree(TARGET, ignore_errors=True)
    TARGET.mkdir()
    sys.path.insert(0, str(HERE.parent))
    from support.tiny_tokenizers import byte_level

    byte_level(BASE["vocab_size"]).save(str(TARGET / "tokenizer.json"))
    for name in WEIGHTS:
        save_weights(name)
    for name in VARIANTS:
        write_variant(name)


if __name__ == "__main__":
    main()
