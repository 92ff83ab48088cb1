"""GGUF metadata as a Hugging Face configuration, and tensor names as module names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.support.tiny_files import TinyLlama, write_llama_gguf

from fastslm.errors import FormatError, UnsupportedModel
from fastslm.formats import open_model
from fastslm.formats.gguf.names import architecture, hugging_face_name, is_ignored


def config_of(tmp_path: Path, shape: TinyLlama = TinyLlama(), **options) -> dict:  # noqa: B008 - frozen
    path = tmp_path / "x.gguf"
    write_llama_gguf(path, shape, **options)
    return dict(open_model(path).config)


def test_the_configuration_says_what_transformers_would(tmp_path):
    config = config_of(tmp_path)
    expected = {
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "intermediate_size": 96,
        "max_position_embeddings": 128,
        "vocab_size": 262,
        "rope_theta": 10000.0,
        "rope_scaling": None,
        "tie_word_embeddings": True,
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": 1,
        "eos_token_id": [2, 0],
    }
    assert {key: config[key] for key in expected} == expected
    assert config["rms_norm_eps"] == pytest.approx(1e-5)
    assert "sliding_window" not in config


def test_an_output_matrix_of_its_own_unties_the_embedding(tmp_path):
    assert config_of(tmp_path, TinyLlama(tied=False))["tie_word_embeddings"] is False
    assert "lm_head.weight" in open_model(tmp_path / "x.gguf").tensors


def test_absent_keys_with_a_known_meaning_are_filled_in(tmp_path):
    """Files without grouped queries do not write the number of key-value heads."""
    shape = TinyLlama(heads=4, kv_heads=4)
    config = config_of(tmp_path, shape, without=["llama.attention.head_count_kv", "llama.rope.freq_base"])
    assert config["num_key_value_heads"] == 4
    assert config["rope_theta"] == 10000.0


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ({"llama.rope.scaling.type": "none"}, None),
        (
            {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 2.0},
            {"rope_type": "linear", "factor": 2.0},
        ),
        ({"llama.rope.scale_linear": 4.0}, {"rope_type": "linear", "factor": 4.0}),
        (
            {
                "llama.rope.scaling.type": "yarn",
                "llama.rope.scaling.factor": 8.0,
                "llama.rope.scaling.original_context_length": 64,
                "llama.rope.scaling.yarn_beta_fast": 16.0,
            },
            {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 64, "beta_fast": 16.0},
        ),
    ],
)
def test_rope_scaling_is_translated(tmp_path, extra, expected):
    assert config_of(tmp_path, extra=extra)["rope_scaling"] == expected


def test_frequency_divisors_become_part_of_the_configuration(tmp_path):
    """Llama 3 files carry their rope scaling only as a table of divisors."""
    factors = np.linspace(1, 8, 8)
    config = config_of(tmp_path, extra={"rope_freqs.weight": factors})
    np.testing.assert_allclose(config["rope_freq_factors"], factors, rtol=1e-6)
    assert "rope_freqs.weight" not in open_model(tmp_path / "x.gguf").tensors


@pytest.mark.parametrize("factors", [[1.0] * 7, [1.0] * 7 + [0.0], [1.0] * 7 + [float("nan")]])
def test_divisors_that_cannot_be_are_refused(tmp_path, factors):
    with pytest.raises(FormatError, match=r"rope_freqs\.weight"):
        config_of(tmp_path, extra={"rope_freqs.weight": factors})


def test_a_sliding_window_and_longer_heads_are_kept(tmp_path):
    extra = {"llama.attention.sliding_window": 32, "llama.attention.key_length": 32, "llama.attention.value_length": 32}
    path = tmp_path / "x.gguf"
    write_llama_gguf(path, TinyLlama(hidden=64, heads=4, kv_heads=2), extra=extra)
    config = open_model(path).config
    assert (config["sliding_window"], config["head_dim"]) == (32, 32)


@pytest.mark.parametrize(
    "key",
    [
        "llama.block_count",
        "llama.embedding_length",
        "llama.attention.head_count",
        "llama.feed_forward_length",
        "llama.context_length",
        "llama.attention.layer_norm_rms_epsilon",
        "tokenizer.ggml.model",
        "tokenizer.ggml.tokens",
        "tokenizer.ggml.merges",
    ],
)
def test_a_missing_key_is_named(tmp_path, key):
    with pytest.raises(FormatError, match=f"lacks the metadata key `{key}`"):
        config_of(tmp_path, without=[key])


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"llama.block_count": 0}, r"`llama\.block_count` is `0`, expected a whole number from 1"),
        ({"llama.block_count": "two"}, r"`llama\.block_count` is `'two'`, expected a whole number"),
        ({"llama.rope.freq_base": float("inf")}, r"`llama\.rope\.freq_base` is `inf`, expected a finite number"),
        ({"llama.rope.freq_base": 0.0}, r"`llama\.rope\.freq_base` is `0\.0`, expected a finite number above zero"),
        ({"split.count": 3}, "announces `3` parts of the model, found 1"),
        ({"tokenizer.ggml.tokens": [str(i) for i in range(263)]}, "has 263 tokens, expected 1 to 262"),
        ({"tokenizer.ggml.tokens": []}, "tokens"),
        ({"llama.attention.head_count": 5}, "5 heads do not divide the hidden size 64"),
        ({"llama.embedding_length": 32}, r"`token_embd\.weight` has shape \(262, 64\), expected rows of 32"),
        (
            {"llama.attention.key_length": 48, "llama.attention.value_length": 48},
            "a multiple of the head size 48",
        ),
        (
            {"tokenizer.ggml.bos_token_id": 999},
            r"`tokenizer\.ggml\.bos_token_id` is `999`, expected a token id below 262",
        ),
    ],
)
def test_values_that_cannot_be_are_refused_by_name(tmp_path, extra, message):
    with pytest.raises(FormatError, match=message):
        config_of(tmp_path, extra=extra)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"general.architecture": "mamba"}, "architecture `mamba` is not supported, expected one of `llama`"),
        (
            {"general.architecture": "granite", "granite.expert_count": 8},
            "is a mixture of experts of architecture `granite`, which is not supported",
        ),
        ({"llama.expert_count": [4, 8]}, "`llama.expert_count` differs from layer to layer"),
        ({"general.type": "adapter"}, "holds a part of type `adapter`, expected a model"),
        ({"llama.rope.scaling.type": "longrope"}, "rope scaling `longrope`"),
        ({"llama.rope.dimension_count": 8}, "rotates 8 of 16 dimensions"),
        ({"llama.attention.value_length": 8}, "keys and values of different lengths"),
        ({"llama.attention.head_count_kv": [2, 1]}, "differs from layer to layer"),
        ({"tokenizer.ggml.model": "t5"}, "tokenizer `t5` is not supported"),
        ({"tokenizer.ggml.pre": "martian"}, "pre-tokenizer `martian` is not known"),
    ],
)
def test_what_is_not_supported_is_named(tmp_path, extra, message):
    with pytest.raises(UnsupportedModel, match=message):
        config_of(tmp_path, extra=extra)


def test_equal_values_for_every_layer_count_as_one(tmp_path):
    assert config_of(tmp_path, extra={"llama.attention.head_count_kv": [2, 2]})["num_key_value_heads"] == 2


@pytest.mark.parametrize(
    ("arch", "name", "expected"),
    [
        ("llama", "token_embd.weight", "model.embed_tokens.weight"),
        ("llama", "output.weight", "lm_head.weight"),
        ("llama", "blk.0.attn_norm.weight", "model.layers.0.input_layernorm.weight"),
        ("llama", "blk.12.ffn_norm.weight", "model.layers.12.post_attention_layernorm.weight"),
        ("qwen2", "blk.3.attn_k.bias", "model.layers.3.self_attn.k_proj.bias"),
        ("qwen3", "blk.3.attn_k_norm.weight", "model.layers.3.self_attn.k_norm.weight"),
        ("qwen3moe", "blk.3.ffn_up_exps.weight", "model.layers.3.mlp.experts.*.up_proj.weight"),
    ],
)
def test_tensor_names_are_translated(arch, name, expected):
    assert hugging_face_name(architecture(arch), name) == expected


@pytest.mark.parametrize(
    "name", ["blk.0.ffn_gate_exps.weight", "blk.00.attn_q.weight", "attn_q.weight", "blk.0.output.weight"]
)
def test_a_tensor_that_would_be_left_out_silently_is_refused(name):
    with pytest.raises(UnsupportedModel, match="is not part of the `llama` block"):
        hugging_face_name(architecture("llama"), name)


def test_tables_that_are_computed_again_are_left_out():
    assert is_ignored("rope_freqs.weight")
    assert is_ignored("blk.7.attn_rot_embd.weight")
    assert not is_ignored("blk.7.attn_q.weight")
