"""Write ``families/``: a tiny random model of every decoder family and the logits that transformers computes for it.

    python tests/golden/make_families.py [VARIANT …]

Needs ``torch`` and ``transformers``, and ``accelerate`` for MXFP4; the tests do not. ``<variant>.json`` holds the
configuration in the wording of transformers 4 (``config``) and as transformers 5 saves it (``newer``), and the folder
of the weights, which variants may share. ``<variant>.npz`` holds ``prompt_0``, ``logits_0``, …: token ids and float32
logits [tokens, vocabulary] of the saved weights, computed in float32. The tokenizer is that of ``llama/``.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

HERE = Path(__file__).parent
TARGET = HERE / "families"
PROMPT_LENGTHS = (12, 6)
COMMON = {"vocab_size": 288, "bos_token_id": 2, "eos_token_id": 1, "initializer_range": 0.2}
BASE = {
    **COMMON,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 64,
    "tie_word_embeddings": True,
}
SHORT = {key: value for key, value in BASE.items() if key != "head_dim"} | {"num_attention_heads": 2}
PARALLEL = {**SHORT, "num_key_value_heads": 2}
GPT2 = {**COMMON, "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64, "tie_word_embeddings": True}
FALCON = {
    **COMMON,
    "ffn_hidden_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "tie_word_embeddings": True,
}
GEMMA = {**BASE, "hidden_activation": "gelu_pytorch_tanh", "hidden_act": "gelu_pytorch_tanh"}
GEMMA3 = {
    **GEMMA,
    "num_hidden_layers": 3,
    "sliding_window": 5,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    "query_pre_attn_scalar": 24,
    "rope_theta": 1000000.0,
    "rope_local_base_freq": 10000.0,
    "rope_scaling": {"rope_type": "linear", "factor": 8.0},
}
LONGROPE = {
    "type": "longrope",
    "short_factor": [1.0, 1.05, 1.1, 1.3],
    "long_factor": [1.1, 1.5, 3.0, 6.0],
}
PHI3 = {**SHORT, "num_key_value_heads": 1, "pad_token_id": None, "rms_norm_eps": 1e-5}
LONG = {"partial_rotary_factor": 0.5, "rope_scaling": LONGROPE, "original_max_position_embeddings": 32}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "beta_fast": 4.0}
MULTIPLIERS = {
    "embedding_multiplier": 6.0,
    "attention_multiplier": 0.15,
    "residual_multiplier": 0.6,
    "logits_scaling": 4.0,
}
MIXTURE = {**BASE, "tie_word_embeddings": False, "num_experts_per_tok": 2}
QWEN_MIXTURE = {**MIXTURE, "num_experts": 4, "moe_intermediate_size": 32, "mlp_only_layers": []}
QWEN2_MIXTURE = {
    **QWEN_MIXTURE,
    "head_dim": 8,
    "shared_expert_intermediate_size": 64,
    "norm_topk_prob": False,
}
GPT_OSS = {
    **MIXTURE,
    "num_local_experts": 4,
    "num_experts_per_tok": 3,
    "sliding_window": 5,
    "swiglu_limit": 7.0,
    "attention_bias": True,
    "rope_theta": 150000.0,
    "rope_scaling": {**YARN, "truncate": False},
    "layer_types": ["sliding_attention", "full_attention"],
}
LFM2 = {
    **{key: value for key, value in SHORT.items() if key != "tie_word_embeddings"},
    "num_hidden_layers": 3,
    "num_key_value_heads": 1,
    "layer_types": ["conv", "full_attention", "conv"],
    "tie_embedding": True,
    "conv_L_cache": 3,
    "block_multiple_of": 32,
    "rope_theta": 1e6,
    "pad_token_id": 0,
}
FP4 = [sign * value for sign in (1, -1) for value in (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)]
VARIANTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "qwen3": ("qwen3", "qwen3", BASE),
    "qwen3_yarn": ("qwen3", "qwen3", {**BASE, "rope_scaling": YARN}),
    "qwen3_dynamic": ("qwen3", "qwen3", {**BASE, "rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}),
    "qwen2_window": (
        "qwen2_window",
        "qwen2",
        {**BASE, "head_dim": 8, "use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1},
    ),
    "mixtral": ("mixtral", "mixtral", {**MIXTURE, "num_local_experts": 4, "rope_theta": 1e6}),
    "qwen2_moe": ("qwen2_moe", "qwen2_moe", QWEN2_MIXTURE),
    "qwen2_moe_dense": (
        "qwen2_moe_dense",
        "qwen2_moe",
        {**QWEN2_MIXTURE, "num_hidden_layers": 3, "mlp_only_layers": [1]},
    ),
    "qwen3_moe": ("qwen3_moe", "qwen3_moe", {**QWEN_MIXTURE, "norm_topk_prob": True}),
    "qwen3_moe_dense": (
        "qwen3_moe_dense",
        "qwen3_moe",
        {**QWEN_MIXTURE, "num_hidden_layers": 3, "decoder_sparse_step": 2},
    ),
    "gpt_oss": ("gpt_oss", "gpt_oss", GPT_OSS),
    "gpt_oss_mxfp4": (
        "gpt_oss_mxfp4",
        "gpt_oss",
        {**GPT_OSS, "quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}},
    ),
    "lfm2": ("lfm2", "lfm2", LFM2),
    "lfm2_biased": (
        "lfm2_biased",
        "lfm2",
        {**LFM2, "conv_bias": True, "conv_L_cache": 4, "block_auto_adjust_ff_dim": False},
    ),
    "phi3": ("phi3", "phi3", {**PHI3, "sliding_window": 7}),
    "phi4_mini": ("phi3", "phi3", {**PHI3, **LONG}),
    "phi3_long": ("phi3", "phi3", {**PHI3, **LONG, "original_max_position_embeddings": 5}),
    "gemma": ("gemma", "gemma", GEMMA),
    "gemma2": (
        "gemma2",
        "gemma2",
        {
            **GEMMA,
            "sliding_window": 5,
            "query_pre_attn_scalar": 24,
            "attn_logit_softcapping": 3.0,
            "final_logit_softcapping": 5.0,
        },
    ),
    "gemma3": ("gemma3", "gemma3_text", GEMMA3),
    "gpt2": ("gpt2", "gpt2", GPT2),
    "gpt_neox": (
        "gpt_neox",
        "gpt_neox",
        {**PARALLEL, "rotary_pct": 0.5, "hidden_act": "gelu", "tie_word_embeddings": False},
    ),
    "gpt_neox_sequential": (
        "gpt_neox",
        "gpt_neox",
        {**PARALLEL, "rotary_pct": 0.5, "use_parallel_residual": False, "tie_word_embeddings": False},
    ),
    "phi": ("phi", "phi", {**PARALLEL, "partial_rotary_factor": 0.5, "tie_word_embeddings": False}),
    "phi_normed": (
        "phi_normed",
        "phi",
        {**PARALLEL, "partial_rotary_factor": 0.5, "qk_layernorm": True, "tie_word_embeddings": False},
    ),
    "stablelm": ("stablelm", "stablelm", {**SHORT, "partial_rotary_factor": 0.5, "use_qkv_bias": True}),
    "stablelm_parallel": (
        "stablelm_parallel",
        "stablelm",
        {**SHORT, "partial_rotary_factor": 0.5, "use_parallel_residual": True},
    ),
    "starcoder2": ("starcoder2", "starcoder2", {**SHORT, "sliding_window": 5, "use_bias": True}),
    "olmo": ("olmo", "olmo", {**SHORT, "clip_qkv": 0.8, "pad_token_id": 1}),
    "olmo2": ("olmo2", "olmo2", {**SHORT, "pad_token_id": 1}),
    "granite": ("granite", "granite", {**SHORT, **MULTIPLIERS}),
    "smollm3": ("smollm3", "smollm3", {**SHORT, "no_rope_layers": [1, 0], "rope_theta": 5e6, "pad_token_id": None}),
    "opt": (
        "opt",
        "opt",
        {**SHORT, "ffn_dim": 64, "word_embed_proj_dim": 32, "pad_token_id": 1, "do_layer_norm_before": True},
    ),
    "falcon_multi_query": ("falcon_multi_query", "falcon", {**FALCON, "multi_query": True, "bias": False}),
    "falcon_alibi": (
        "falcon_alibi",
        "falcon",
        {**FALCON, "multi_query": False, "parallel_attn": False, "alibi": True, "bias": True},
    ),
    "falcon_groups": (
        "falcon_groups",
        "falcon",
        {**FALCON, "new_decoder_architecture": True, "num_kv_heads": 2, "bias": False},
    ),
    "bloom": ("bloom", "bloom", {**COMMON, "hidden_size": 32, "n_layer": 2, "n_head": 4, "tie_word_embeddings": True}),
}
"""Variant: folder of its weights, ``model_type``, configuration. The first of a folder's variants makes the weights."""


def make_config(kind: str, values: dict[str, Any]) -> Any:
    """A configuration object of the right class, as transformers reads it from a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.json"
        path.write_text(json.dumps({"model_type": kind, **values}), encoding="utf-8")
        return AutoConfig.from_pretrained(folder)


def save_weights(name: str, kind: str, values: dict[str, Any]) -> None:
    """Random weights in bfloat16: norms that are not one, biases that matter."""
    torch.manual_seed(sorted(VARIANTS).index(name))
    plain = {key: value for key, value in values.items() if key != "quantization_config"}
    model = AutoModelForCausalLM.from_config(make_config(kind, plain))
    for key, value in model.named_parameters():
        is_norm = value.ndim == 1 and not key.endswith("bias")
        if value.ndim == 1:
            around = 1.0 if is_norm and not kind.startswith("gemma") else 0.0
            value.data = torch.randn_like(value) * 0.2 + around
        elif key.endswith("_proj_bias"):
            value.data = torch.randn_like(value) * 0.2
        elif key.endswith("experts.gate_up_proj"):
            value.data *= 2.5  # some reach the limits of the activation
        elif key.endswith("experts.down_proj"):
            value.data *= 0.5  # so that rounding, which may change the last choice, changes little
    model.to(torch.bfloat16).save_pretrained(TARGET / name)
    if plain != values:
        pack_experts(TARGET / name / "model.safetensors")
    for extra in ("config.json", "generation_config.json"):
        (TARGET / name / extra).unlink(missing_ok=True)


def pack_experts(path: Path) -> None:
    """Replace the matrices of the experts by MXFP4 blocks along their inputs, as the model's makers publish them."""
    packed: dict[str, torch.Tensor] = {}
    for name, value in load_file(path).items():
        if not name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            packed[name] = value
            continue
        blocks = value.float().transpose(1, 2).unflatten(2, (-1, 32)).contiguous()
        exponents = (blocks.abs().amax(-1).log2().floor() - 2).to(torch.int32)
        errors = (blocks.ldexp(-exponents[..., None])[..., None] - torch.tensor(FP4)).abs()
        codes = errors.argmin(-1).to(torch.uint8)
        packed[f"{name}_blocks"] = codes[..., 0::2] | (codes[..., 1::2] << 4)
        packed[f"{name}_scales"] = (exponents + 127).to(torch.uint8)
    save_file(packed, path, metadata={"format": "pt"})


def write_variant(name: str) -> None:
    """One configuration in both wordings, and the logits of two prompts."""
    weights, kind, values = VARIANTS[name]
    if not (TARGET / weights).exists():
        save_weights(weights, kind, values)
    newer = json.loads(make_config(kind, values).to_json_string())
    described = {"weights": weights, "config": {"model_type": kind, **values}, "newer": newer}
    (TARGET / f"{name}.json").write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
    model = load_reference(weights, described["config"])
    rng = np.random.default_rng(7)
    arrays: dict[str, np.ndarray] = {}
    for index, length in enumerate(PROMPT_LENGTHS):
        prompt = rng.integers(3, values["vocab_size"], length)
        with torch.no_grad():
            logits = model(torch.from_numpy(prompt[None])).logits[0]
        arrays |= {f"prompt_{index}": prompt, f"logits_{index}": logits.numpy().astype(np.float32)}
    np.savez_compressed(TARGET / f"{name}.npz", **arrays)
    print(name, "logits spread", round(float(arrays["logits_0"].std()), 2))


def load_reference(weights: str, values: dict[str, Any]) -> Any:
    """The model as transformers reads it back, in float32, with the plainest attention.

    Falcon's plainest one adds linear biases twice, in the mask and by itself.
    """
    kind = "sdpa" if values["model_type"] == "falcon" else "eager"
    folder = TARGET / weights
    config = folder / "config.json"
    config.write_text(json.dumps(values), encoding="utf-8")
    try:
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation=kind).eval()
    finally:
        config.unlink()


def main(names: list[str]) -> None:
    """Make everything anew, or the variants named."""
    if not names:
        shutil.rmtree(TARGET, ignore_errors=True)
    TARGET.mkdir(exist_ok=True)
    for name in names or VARIANTS:
        if VARIANTS[name][0] == name:
            shutil.rmtree(TARGET / name, ignore_errors=True)
        write_variant(name)


if __name__ == "__main__":
    main(sys.argv[1:])
