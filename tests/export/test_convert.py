"""A conversion gives a complete folder or one clear error."""

from __future__ import annotations

import errno
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from fastslm.errors import (
    ConversionFailed,
    DiskFull,
    FastSLMError,
    FileSystemError,
    FormatError,
    UnsupportedModel,
    UsageError,
)
from fastslm.export.convert import convert
from fastslm.export.options import MAX_CONTEXT, ConvertOptions, Target
from fastslm.export.weights import WeightsFile
from fastslm.progress import Progress
from fastslm.store.manifest import ModelManifest
from reference import llama as twin
from support.decoder import all_logits
from support.memory_source import TINY_CONFIG, memory_model, random_tensors

OPTIONS = ConvertOptions("org/name", "0123456789ab", "fp32")
IDS = np.array([3, 1, 4, 1, 5, 9, 2, 6, 5, 3])


def matrices(names: list[str]) -> list[str]:
    return [name for name in names if not name.endswith("norm.weight")]


def test_the_folder_is_complete(tmp_path: Path) -> None:
    """Graph, weights, tokenizer, template, and a manifest that vouches for all of them."""
    manifest = convert(memory_model(), tmp_path, OPTIONS)
    assert ModelManifest.read(tmp_path) == manifest
    files = {path.name for path in tmp_path.iterdir()}
    assert files == {"model.onnx", "model.onnx.data", "tokenizer.json", "chat_template.jinja", "fastslm.json"}
    found = {name: hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in files - {"fastslm.json"}}
    assert found == manifest.hashes
    assert (manifest.name, manifest.commit, manifest.precision) == ("org/name", "0123456789ab", "fp32")
    assert (manifest.architecture, manifest.vocab_size, manifest.context_length) == ("llama", 40, 64)
    assert (manifest.num_layers, manifest.num_kv_heads, manifest.head_dim) == (2, 2, 16)
    assert manifest.eos_token_ids == (1, 2)
    assert manifest.source_files == {"model.safetensors": 123}


def test_a_base_model_gets_no_template(tmp_path: Path) -> None:
    """The engine then knows that it cannot chat."""
    source = memory_model()
    convert(type(source)(**{**vars(source), "chat_template": None}), tmp_path, OPTIONS)
    assert not (tmp_path / "chat_template.jinja").exists()


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("head_dim", [None, 32])
def test_float_logits_are_those_of_the_twin(tied: bool, head_dim: int | None, tmp_path: Path) -> None:
    """The float64 definition of the block."""
    source = memory_model(tie_word_embeddings=tied, head_dim=head_dim)
    convert(source, tmp_path, OPTIONS)
    expected = twin.logits(source.config, source.tensors.arrays, IDS.tolist())
    np.testing.assert_allclose(all_logits(tmp_path, IDS), expected, atol=1e-4)


@pytest.mark.parametrize("mixed", [False, True])
def test_a_quantised_source_keeps_its_numbers(mixed: bool, tmp_path: Path) -> None:
    """Logits of the file's own dequantised weights, but for the rounding of activations; also when types are mixed."""
    arrays = random_tensors(TINY_CONFIG)
    kinds = dict.fromkeys(matrices(list(arrays)), "Q4_1") | {"model.embed_tokens.weight": "Q8_0"}
    if mixed:
        kinds |= {"model.layers.0.self_attn.v_proj.weight": "Q8_0", "model.layers.1.self_attn.k_proj.weight": "Q4_0"}
    source = memory_model(arrays, kinds)
    manifest = convert(source, tmp_path, ConvertOptions("n", "c"))
    assert manifest.precision == "exact"
    dequantized = {name: source.tensors.read(name) for name in arrays}
    expected = twin.logits(source.config, dequantized, IDS.tolist())
    error = all_logits(tmp_path, IDS) - expected
    assert np.sqrt((error**2).mean()) < 0.03 * expected.std()


@pytest.mark.parametrize(
    ("wanted", "kind", "expected"),
    [("auto", None, "int4"), ("auto", "Q8_0", "exact"), ("int8", None, "int8"), ("fp32", "Q4_0", "fp32")],
)
def test_auto_means_the_least_loss_for_the_size(wanted: Any, kind: str | None, expected: str, tmp_path: Path) -> None:
    """Quantised files keep their numbers, floats become 4 bits."""
    arrays = random_tensors(TINY_CONFIG)
    kinds = dict.fromkeys(matrices(list(arrays)), kind) if kind else {}
    assert convert(memory_model(arrays, kinds), tmp_path, ConvertOptions("n", "c", wanted)).precision == expected


def test_exact_needs_a_quantised_source(tmp_path: Path) -> None:
    """Floats have no blocks to keep."""
    with pytest.raises(UsageError, match="precision is `exact`"):
        convert(memory_model(), tmp_path, ConvertOptions("n", "c", "exact"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("target", "of_a_code"), [("native", 1.0625), ("portable", 1.125)])
def test_a_tied_embedding_is_stored_once(target: Target, of_a_code: float, tmp_path: Path) -> None:
    """Embedding and head read the same bytes, in floats and in codes, packed or not."""
    for precision, per_weight in (("fp32", 4.0), ("int8", of_a_code), ("int4", of_a_code)):
        sizes = {}
        for tied in (True, False):
            folder = tmp_path / f"{precision}-{tied}"
            folder.mkdir()
            source = memory_model(
                random_tensors(TINY_CONFIG | {"vocab_size": 6400, "tie_word_embeddings": tied}),
                vocab_size=6400,
                tie_word_embeddings=tied,
            )
            convert(source, folder, ConvertOptions("n", "c", precision, target=target))
            sizes[tied] = (folder / "model.onnx.data").stat().st_size
        extra = sizes[False] - sizes[True]
        assert per_weight * 6400 * 64 <= extra < per_weight * 6400 * 64 + 3 * 65536
    tensors = onnx.load(str(tmp_path / "int4-True/model.onnx"), load_external_data=False).graph.initializer
    tables = [tensor for tensor in tensors if tensor.name.startswith("model.embed_tokens.weight/")]
    places = {next(entry.value for entry in table.external_data if entry.key == "offset") for table in tables}
    assert len(places) == {"native": 1, "portable": 2}[target]  # of portable: codes and scales


def test_progress_counts_every_tensor(tmp_path: Path) -> None:
    """A bar that reaches its end, and not before."""
    seen: list[Progress] = []
    convert(memory_model(), tmp_path, OPTIONS, seen.append)
    total = len(random_tensors(TINY_CONFIG))
    assert [(each.done, each.total, each.unit) for each in seen] == [(n, total, "tensors") for n in range(1, total + 1)]
    assert {each.stage for each in seen} == {"converting"}


def test_a_context_longer_than_the_models_own_is_refused(tmp_path: Path) -> None:
    """With both numbers, and before anything is written."""
    with pytest.raises(UsageError, match="`65`, expected at most `64`"):
        convert(memory_model(max_position_embeddings=64), tmp_path, ConvertOptions("n", "c", "int8", context_length=65))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("own", "wanted", "expected"),
    [(64, None, 64), (64, 32, 32), (64, 64, 64), (131072, None, MAX_CONTEXT), (131072, 40000, 40000)],
)
def test_the_context_is_bounded(own: int, wanted: int | None, expected: int, tmp_path: Path) -> None:
    """By the model, by the wish, and by a limit for those who wish nothing."""
    source = memory_model(max_position_embeddings=own)
    options = ConvertOptions("n", "c", "int8", context_length=wanted)
    assert convert(source, tmp_path, options).context_length == expected
    tensors = onnx.load(str(tmp_path / "model.onnx"), load_external_data=False).graph.initializer
    assert {tuple(t.dims) for t in tensors if t.name.startswith("rotary/")} == {(expected, 8)}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "mamba"}, "`model_type` is `mamba`"),
        ({"model_type": None}, "`model_type` is `None`"),
        ({"hidden_act": "mish"}, "`hidden_act` is `mish`"),
        ({"rope_scaling": {"rope_type": "ntk", "factor": 2.0}}, "`rope_type` is `ntk`"),
        ({"quantization_config": {"quant_method": "gptq"}}, "`quantization_config.quant_method` is `gptq`"),
        ({"num_key_value_heads": 3}, "`num_key_value_heads` is `3`"),
        ({"head_dim": 12}, "`head_dim` is `12`"),
        ({"num_hidden_layers": 2**31 - 1}, "`num_hidden_layers` is `2147483647`"),
        ({"layer_types": ["full_attention"]}, "`layer_types` is `['full_attention']`"),
        ({"layer_types": ["sliding_attention"] * 2, "sliding_window": 4}, "`layer_types` is `sliding_attention`"),
        ({"layer_types": ["full_attention", "linear_attention"]}, "`layer_types` is `linear_attention`"),
        ({"layer_types": "x"}, "`layer_types` is `x`"),
    ],
)
def test_what_we_do_not_build_is_named(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    """Key and value, before anything is written."""
    with pytest.raises(UnsupportedModel) as caught:
        convert(memory_model(random_tensors(TINY_CONFIG), **changes), tmp_path, OPTIONS)
    assert words in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_hidden_layers": 3}, "tensor `model.layers.2.self_attn.q_proj.weight` is missing"),
        ({"hidden_size": "64"}, "`hidden_size` is `'64'`"),
        ({"vocab_size": 41}, "tensor `model.embed_tokens.weight` has shape `[40, 64]`, expected [41, 64]"),
        ({"tie_word_embeddings": False}, "tensor `lm_head.weight` is missing"),
        ({"attention_bias": True}, "tensor `model.layers.0.self_attn.q_proj.bias` is missing"),
        ({"hidden_size": None}, "no `hidden_size`"),
        ({"rms_norm_eps": float("nan")}, "`rms_norm_eps`"),
    ],
)
def test_a_configuration_that_does_not_fit_the_weights(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    """Found and expected, before anything is written."""
    with pytest.raises(FormatError) as caught:
        convert(memory_model(random_tensors(TINY_CONFIG), **changes), tmp_path, OPTIONS)
    assert words in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_model_with_more_than_the_block_is_refused(tmp_path: Path) -> None:
    """A query norm that we would leave out."""
    arrays = random_tensors(TINY_CONFIG) | {"model.layers.0.self_attn.q_norm.weight": np.ones(16)}
    with pytest.raises(UnsupportedModel, match="q_norm"):
        convert(memory_model(arrays), tmp_path, OPTIONS)


@pytest.mark.parametrize("name", ["model.layers.1.mlp.down_proj.weight", "model.norm.weight"])
def test_a_damaged_weight_is_named(name: str, tmp_path: Path) -> None:
    """And leaves no manifest behind."""
    arrays = random_tensors(TINY_CONFIG)
    arrays[name].flat[5] = np.nan
    with pytest.raises(ConversionFailed, match=f"tensor `{name}` holds `nan`"):
        convert(memory_model(arrays), tmp_path, ConvertOptions("n", "c", "int4"))
    assert not (tmp_path / "fastslm.json").exists()


@pytest.mark.parametrize(
    ("code", "kind"), [(errno.ENOSPC, DiskFull), (errno.EDQUOT, DiskFull), (errno.EIO, FileSystemError)]
)
def test_a_failing_disk(code: int, kind: type[FastSLMError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's error becomes ours, from a worker thread too."""

    def fail(*_: object) -> None:
        raise OSError(code, "no")

    monkeypatch.setattr(WeightsFile, "write", fail)
    with pytest.raises(kind, match=str(tmp_path)):
        convert(memory_model(), tmp_path, OPTIONS)
    assert not (tmp_path / "fastslm.json").exists()


def test_a_folder_that_holds_weights_already_is_left_alone(tmp_path: Path) -> None:
    """Two conversions never write into one folder."""
    (tmp_path / "model.onnx.data").write_bytes(b"other")
    with pytest.raises(FileSystemError, match="cannot be written"):
        convert(memory_model(), tmp_path, OPTIONS)
    assert (tmp_path / "model.onnx.data").read_bytes() == b"other"


def test_threads_do_not_change_the_result(tmp_path: Path) -> None:
    """Same source, same bytes."""
    hashes = []
    for threads in (1, 4):
        folder = tmp_path / str(threads)
        folder.mkdir()
        hashes.append(convert(memory_model(), folder, ConvertOptions("n", "c", "int4", threads=threads)).hashes)
    assert hashes[0] == hashes[1]
