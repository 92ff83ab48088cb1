"""Configurations as the hub has them: real ones are taken, those that ask for more than we do are refused by name."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

from fastslm.errors import FormatError, UnsupportedModel
from fastslm.export.decoder.shape import DecoderShape, Mixture
from fastslm.export.families import FAMILIES, family_of
from fastslm.export.hparams import Hparams
from fastslm.export.options import MAX_CONTEXT
from support.golden import VARIANTS, described


def read(config: dict[str, Any], tensors: frozenset[str] = frozenset()) -> DecoderShape:
    return family_of(Hparams(config)).read_shape(Hparams(config), tensors)


def changed(variant: str, **changes: Any) -> dict[str, Any]:
    return {**described(variant)["config"], **changes}


PHI4_MINI = {
    "model_type": "phi3",
    "hidden_act": "silu",
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_hidden_layers": 32,
    "num_attention_heads": 24,
    "num_key_value_heads": 8,
    "vocab_size": 200064,
    "max_position_embeddings": 131072,
    "original_max_position_embeddings": 4096,
    "partial_rotary_factor": 0.75,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {"type": "longrope", "short_factor": [1.0] * 48, "long_factor": [2.0] * 48},
    "rope_theta": 10000.0,
    "sliding_window": 262144,
    "tie_word_embeddings": True,
}
GEMMA3_1B = {
    "model_type": "gemma3_text",
    "attn_logit_softcapping": None,
    "final_logit_softcapping": None,
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size": 1152,
    "intermediate_size": 6912,
    "max_position_embeddings": 32768,
    "num_attention_heads": 4,
    "num_hidden_layers": 26,
    "num_key_value_heads": 1,
    "query_pre_attn_scalar": 256,
    "rms_norm_eps": 1e-06,
    "rope_local_base_freq": 10000,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": 512,
    "sliding_window_pattern": 6,
    "vocab_size": 262144,
}
PYTHIA_2_8B = {
    "model_type": "gpt_neox",
    "hidden_act": "gelu",
    "hidden_size": 2560,
    "intermediate_size": 10240,
    "layer_norm_eps": 1e-05,
    "max_position_embeddings": 2048,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "rotary_emb_base": 10000,
    "rotary_pct": 0.25,
    "tie_word_embeddings": False,
    "use_parallel_residual": True,
    "vocab_size": 50304,
}


def test_longrope_is_converted_for_short_texts_unless_asked_otherwise() -> None:
    """So a prompt of a few hundred tokens gets the frequencies that transformers gives it."""
    shape = read(PHI4_MINI)
    assert shape.limited(None, MAX_CONTEXT).context_length == 4096
    assert shape.limited(16384, MAX_CONTEXT).context_length == 16384
    rope = shape.blocks[0].attention.rope
    assert rope is not None
    assert (len(rope.frequencies), rope.short_context) == (48, 4096)
    assert rope.scale == pytest.approx(1.1902, abs=1e-4)  # sqrt(1 + ln 32 / ln 4096)


def test_a_window_beyond_the_context_is_none() -> None:
    """It would cost time and show the same."""
    assert read(PHI4_MINI).blocks[0].attention.shape.window == 262144
    assert read(PHI4_MINI).limited(None, MAX_CONTEXT).blocks[0].attention.shape.window is None


def test_gemma3_slides_in_five_of_six_layers() -> None:
    """The sixth sees everything and turns more slowly."""
    blocks = read(GEMMA3_1B).limited(None, MAX_CONTEXT).blocks
    assert [block.attention.shape.window for block in blocks[:7]] == [512] * 5 + [None, 512]
    local, far = blocks[0].attention.rope, blocks[5].attention.rope
    assert local is not None
    assert far is not None
    assert local.frequencies[-1] == pytest.approx(10000.0 ** (-254 / 256))
    assert far.frequencies[-1] == pytest.approx(1e6 ** (-254 / 256))


def test_heads_of_eighty_that_turn_by_twenty_are_taken() -> None:
    """Pythia 2.8B; the attention operator itself cannot turn them."""
    rope = read(PYTHIA_2_8B).blocks[0].attention.rope
    assert rope is not None
    assert len(rope.frequencies) == 10


@pytest.mark.parametrize(("variant", "prefix"), [("gpt2", ""), ("gpt2", "transformer."), ("bloom", "")])
def test_files_without_the_outer_module_are_taken(variant: str, prefix: str) -> None:
    """The original GPT-2 repositories were saved so."""
    first = {"gpt2": "wte.weight", "bloom": "word_embeddings.weight"}[variant]
    shape = read(changed(variant), frozenset({prefix + first}))
    assert {tensor.name.startswith("transformer.") for tensor in shape.tensors()} == {bool(prefix)}


@pytest.mark.parametrize(
    ("variant", "changes", "words"),
    [
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "`scale_attn_by_inverse_layer_idx` is `True`"),
        ("gpt2", {"activation_function": "mish"}, "`activation_function` is `mish`"),
        ("stablelm", {"qk_layernorm": True}, "`qk_layernorm` is `True`"),
        ("opt", {"do_layer_norm_before": False}, "`do_layer_norm_before` is `False`"),
        ("opt", {"word_embed_proj_dim": 16}, "`word_embed_proj_dim` is `16`"),
        ("bloom", {"apply_residual_connection_post_layernorm": True}, "`apply_residual_connection_post_layernorm`"),
        ("phi3", {"attention_bias": True}, "`attention_bias` is `True`"),
        ("smollm3", {"use_sliding_window": True}, "`use_sliding_window` is `True`"),
        ("smollm3", {"no_rope_layers": [1]}, "`no_rope_layers` is `[1]`"),
        ("gemma3", {"use_bidirectional_attention": True}, "`use_bidirectional_attention` is `True`"),
        ("gemma3", {"layer_types": ["full_attention"] * 2}, "`layer_types`"),
        ("gemma2", {"hidden_activation": "swiglu"}, "`hidden_activation` is `swiglu`"),
        ("phi", {"partial_rotary_factor": 0.19}, "`partial_rotary_factor` is `0.19`"),
        ("qwen3", {"head_dim": 4096}, "`head_dim` is `4096`"),
        ("mixtral", {"num_experts_per_tok": 5}, "`num_experts_per_tok` is `5`, expected at most 4"),
        ("mixtral", {"num_local_experts": 20000}, "`num_experts` is `20000`, expected at most 32768 in all 2 layers"),
        ("qwen3_moe", {"mlp_only_layers": 1}, "`mlp_only_layers` is `1`, expected a list of layers"),
        ("qwen2_moe", {"qkv_bias": False}, "`qkv_bias` is `False`"),
        ("qwen2_moe", {"hidden_act": "swiglu"}, "`hidden_act` is `swiglu`"),
        ("gpt_oss", {"swiglu_limit": 6.0}, "`swiglu_limit` is `6.0`, expected 7.0"),
        ("gpt_oss", {"num_experts_per_tok": 5}, "`num_experts_per_tok` is `5`, expected at most 4"),
        ("qwen3", {"model_type": "lfm2_moe"}, "`model_type` `lfm2_moe` is not supported: its router chooses"),
        ("lfm2", {"layer_types": ["conv"] * 3}, "`layer_types` is `['conv', 'conv', 'conv']`, expected a list of 3"),
        ("lfm2", {"layer_types": ["full_attention"] * 2}, "`layer_types`"),
        ("lfm2", {"layer_types": ["conv", "full_attention", "mamba"]}, "`layer_types` is `mamba`"),
        ("lfm2", {"conv_L_cache": 65}, "`conv_L_cache` is `65`, expected at most 64"),
        ("lfm2", {"head_dim": 24}, "`head_dim` is `24`, expected a divisor of the width 32"),
    ],
)
def test_what_a_family_does_not_do_is_named(variant: str, changes: dict[str, Any], words: str) -> None:
    """Instead of a model that speaks nonsense."""
    with pytest.raises(UnsupportedModel) as caught:
        read(changed(variant, **changes))
    assert words in str(caught.value)


@pytest.mark.parametrize("variant", [name for name in VARIANTS if described(name)["weights"] == name])
def test_no_number_makes_reading_endless(variant: str) -> None:
    """Every number of a configuration may be as large as a stranger likes; nothing is allocated for it."""
    config = changed(variant)
    for key, value in config.items():
        if isinstance(value, int) and not isinstance(value, bool):
            for bad in (2**31 - 1, 2**31 - 8, -1, 0, "4", [4], None):
                with suppress(FormatError, UnsupportedModel):
                    read({**config, key: bad})


def test_experts_are_in_the_layers_that_have_them() -> None:
    """Every second layer with a step of two, counted from one, and in none that is named as dense."""
    changes = {"num_hidden_layers": 5, "decoder_sparse_step": 2, "mlp_only_layers": [3]}
    blocks = read(changed("qwen3_moe", **changes)).blocks
    assert [isinstance(block.feed_forward, Mixture) for block in blocks] == [False, True, False, False, False]


def test_all_families_are_in_the_table() -> None:
    """What people call them, without a repetition."""
    names = [family.models for family in FAMILIES.values()]
    assert len(set(names)) == len(names)
