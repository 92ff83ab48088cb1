"""One door for every kind of model: a file, a folder of shards, a folder with a GGUF."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.support.tiny_files import GgufBytes, gguf_tensor, write_llama_gguf, write_safetensors
from tests.support.tiny_tokenizers import tokenizer_json

from fastslm.errors import FileMissing, FormatError, UnsupportedModel
from fastslm.formats import open_model
from support.golden import ROOT

WEIGHT = np.arange(8, dtype=np.float32).reshape(2, 4)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sound Hugging Face folder with as little as possible in it."""
    path = tmp_path / "model"
    path.mkdir()
    write_safetensors(path / "model.safetensors", {"w": ("F32", WEIGHT)})
    put(path, "config.json", {"model_type": "llama", "eos_token_id": 1})
    (path / "tokenizer.json").write_text(tokenizer_json("byte_level"))
    return path


def put(folder: Path, name: str, content: object) -> None:
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))


def test_a_bare_folder_opens_as_a_base_model(folder):
    source = open_model(folder)
    np.testing.assert_array_equal(source.tensors.read("w"), WEIGHT)
    assert source.config["model_type"] == "llama"
    assert (source.chat_template, source.special_tokens, source.bos_token_id) == (None, {}, None)
    assert (source.eos_token_ids, source.add_bos, dict(source.generation)) == ((1,), False, {})
    assert set(source.files) == {"config.json", "tokenizer.json", "model.safetensors"}
    assert source.files["model.safetensors"] == (folder / "model.safetensors").stat().st_size


def test_special_tokens_come_as_text_or_as_objects(folder):
    put(folder, "special_tokens_map.json", {"bos_token": {"content": "<s>", "lstrip": False}, "eos_token": "old"})
    put(folder, "tokenizer_config.json", {"eos_token": {"content": "<|im_end|>"}, "pad_token": None})
    source = open_model(folder)
    assert source.special_tokens == {"bos_token": "<s>", "eos_token": "<|im_end|>"}
    assert source.bos_token_id == 2


def test_generation_settings_name_the_ends_and_the_sampling_defaults(folder):
    put(folder, "tokenizer_config.json", {"eos_token": "<s>"})
    put(
        folder,
        "generation_config.json",
        {"eos_token_id": [1, 0, 50256], "temperature": 0.2, "top_k": 20, "do_sample": True},
    )
    source = open_model(folder)
    assert source.eos_token_ids == (1, 0, 2)
    assert source.generation == {"temperature": 0.2, "top_k": 20.0}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"tokenizer_config.json": {"chat_template": "T"}}, "T"),
        ({"chat_template.json": {"chat_template": "J"}, "tokenizer_config.json": {"chat_template": "T"}}, "J"),
        ({"chat_template.jinja": "X\n", "chat_template.json": {"chat_template": "J"}}, "X\n"),
        (
            {
                "tokenizer_config.json": {
                    "chat_template": [{"name": "tool_use", "template": "U"}, {"name": "default", "template": "D"}]
                }
            },
            "D",
        ),
        ({"tokenizer_config.json": {"chat_template": [{"name": "rag", "template": "R"}]}}, None),
    ],
)
def test_the_chat_template_is_found_wherever_it_is(folder, files, expected):
    for name, content in files.items():
        put(folder, name, content)
    assert open_model(folder).chat_template == expected


def begins_with_bos(kind: str = "TemplateProcessing") -> dict:
    template = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}]}
    return template if kind == "TemplateProcessing" else {"type": "Sequence", "processors": [{"type": "x"}, template]}


@pytest.mark.parametrize(
    ("config", "processor", "expected"),
    [
        ({"bos_token": "<s>"}, None, False),
        ({"bos_token": "<s>"}, begins_with_bos(), True),
        ({"bos_token": "<s>"}, begins_with_bos("Sequence"), True),
        ({"bos_token": "<s>", "add_bos_token": False}, begins_with_bos(), False),
        ({"bos_token": "<s>", "add_bos_token": True}, None, False),
        ({"bos_token": "<s>", "tokenizer_class": "LlamaTokenizer"}, None, True),
        ({"bos_token": "<s>", "tokenizer_class": "LlamaTokenizer", "add_bos_token": False}, None, False),
        ({"bos_token": "<|im_start|>"}, begins_with_bos(), False),
        ({}, begins_with_bos(), False),
    ],
)
def test_whether_prompts_begin_with_bos_is_what_transformers_would_do(folder, config, processor, expected):
    put(folder, "tokenizer_config.json", config)
    put(folder, "tokenizer.json", {**json.loads(tokenizer_json("byte_level")), "post_processor": processor})
    assert open_model(folder).add_bos is expected


@pytest.mark.parametrize(
    ("rope", "expected"),
    [
        ({"rope_theta": 5e5, "rope_type": "default"}, {"rope_theta": 5e5, "rope_scaling": None}),
        (
            {"rope_theta": 5e5, "rope_type": "linear", "factor": 2.0},
            {"rope_theta": 5e5, "rope_scaling": {"rope_type": "linear", "factor": 2.0}},
        ),
    ],
)
def test_folders_saved_by_transformers_5_read_as_older_ones(folder, rope, expected):
    put(folder, "config.json", {"model_type": "llama", "rope_parameters": rope})
    config = open_model(folder).config
    assert {key: config[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", "[]", "config.json` holds a JSON list, expected an object"),
        ("config.json", {"model_type": 3}, "config.json`: `model_type` is integer `3`, expected string"),
        ("config.json", {}, "config.json`: `model_type` is missing"),
        (
            "config.json",
            {"model_type": "llama", "eos_token_id": "</s>"},
            "`eos_token_id` is `'</s>'`, expected a token id",
        ),
        ("config.json", {"model_type": "llama", "rope_parameters": 5}, "`rope_parameters` is integer `5`"),
        ("generation_config.json", {"eos_token_id": [-1]}, "`eos_token_id` is"),
        ("generation_config.json", {"temperature": "hot"}, "`temperature` is string `'hot'`, expected number"),
        ("tokenizer_config.json", {"bos_token": 3}, "`bos_token` is `3`, expected a token"),
        ("tokenizer_config.json", {"chat_template": 3}, "`chat_template` is `3`, expected a string or named templates"),
        ("tokenizer_config.json", {"bos_token": "<s>", "add_bos_token": "no"}, "`add_bos_token` is string `'no'`"),
        ("tokenizer.json", "{", "tokenizer.json` is not valid JSON"),
        ("tokenizer.json", {"added_tokens": [{"id": "x"}]}, "`added_tokens` holds"),
        ("model.safetensors", "x", "has 1 bytes, expected at least 8"),
    ],
)
def test_a_damaged_file_is_named_with_what_is_wrong(folder, name, content, message):
    put(folder, name, content)
    with pytest.raises(FormatError) as caught:
        open_model(folder)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_folder_without_a_needed_file_says_which(folder, name):
    (folder / name).unlink()
    with pytest.raises(FileMissing, match=name):
        open_model(folder)


def test_a_tokenizer_in_another_form_is_named(folder):
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.model").write_bytes(b"x")
    with pytest.raises(UnsupportedModel, match=r"only as `tokenizer\.model`, expected `tokenizer\.json`"):
        open_model(folder)


@pytest.mark.parametrize(
    ("found", "named"), [({"quant_method": "hqq", "bits": 4}, "`'hqq'`"), ({"bits": 4}, "unknown")]
)
def test_weights_packed_by_other_tools_are_refused_by_name(folder, found, named):
    put(folder, "config.json", {"model_type": "llama", "quantization_config": found})
    expected = "expected plain floats, GPTQ, AWQ, MXFP4 or GGUF"
    with pytest.raises(UnsupportedModel, match=f"quantised by .*{named}.*, {expected}"):
        open_model(folder)


def test_other_pickles_are_never_opened(folder):
    (folder / "model.safetensors").unlink()
    (folder / "weights.pt").write_bytes(b"x")
    with pytest.raises(UnsupportedModel, match=r"Python pickles \(`weights\.pt`\)"):
        open_model(folder)


def test_pickled_tensors_are_read_where_there_is_nothing_better(folder):
    shutil.copy(ROOT / "pickled" / "zip.bin", folder / "pytorch_model.bin")
    assert list(open_model(folder).tensors) == ["w"]
    (folder / "model.safetensors").unlink()
    assert "whole" in open_model(folder).tensors


def test_a_gguf_opens_by_itself_and_through_its_folder(tmp_path):
    write_llama_gguf(tmp_path / "a.gguf")
    by_file, by_folder = open_model(tmp_path / "a.gguf"), open_model(tmp_path)
    assert by_file.config == by_folder.config
    assert by_file.files == {"a.gguf": (tmp_path / "a.gguf").stat().st_size}
    shutil.copy(tmp_path / "a.gguf", tmp_path / "b.gguf")
    with pytest.raises(FormatError, match=r"holds 2 GGUF models \(`a\.gguf`, `b\.gguf`\), expected one"):
        open_model(tmp_path)


def test_a_split_gguf_opens_as_one_model(tmp_path):
    """Large models come in parts; tensors may lie in any of them."""
    first, second = tmp_path / "m-00001-of-00002.gguf", tmp_path / "m-00002-of-00002.gguf"
    write_llama_gguf(first)
    second.write_bytes(GgufBytes([], [gguf_tensor("output.weight", [64, 262])], bytes(64 * 262 * 4)).build())
    for path in (tmp_path, first, second):
        source = open_model(path)
        assert source.tensors.info("lm_head.weight").shape == (262, 64)
        assert source.config["tie_word_embeddings"] is False
        assert set(source.files) == {first.name, second.name}
    second.unlink()
    with pytest.raises(FileMissing, match=second.name):
        open_model(first)


def test_a_tensor_in_two_parts_of_a_split_model_is_refused(tmp_path):
    write_llama_gguf(tmp_path / "m-00001-of-00002.gguf")
    shutil.copy(tmp_path / "m-00001-of-00002.gguf", tmp_path / "m-00002-of-00002.gguf")
    with pytest.raises(FormatError, match="lies in two files"):
        open_model(tmp_path)


def test_other_paths_are_refused_by_name(tmp_path):
    (tmp_path / "x.onnx").write_bytes(b"x")
    with pytest.raises(UnsupportedModel, match=r"x\.onnx` is not a model file"):
        open_model(tmp_path / "x.onnx")
    with pytest.raises(FileMissing, match="does not exist"):
        open_model(tmp_path / "nope.gguf")
    with pytest.raises(FileMissing, match="holds no safetensors and no GGUF file"):
        open_model(tmp_path)


def test_the_door_is_cheap_to_import():
    """The readers and their libraries are loaded when a model is opened."""
    heavy = "{'gguf', 'tokenizers', 'numba', 'onnx', 'onnxruntime', 'huggingface_hub'}"
    code = f"import sys, fastslm.formats, fastslm.formats.archive; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], env=dict(os.environ), timeout=60).returncode == 0
