"""A portable conversion runs in other programs as it runs here."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from fastslm.engine.model import Model
from fastslm.export.convert import convert
from fastslm.export.interchange import FILES, INTERCHANGE_NAME
from fastslm.export.options import ConvertOptions
from fastslm.formats import open_model
from fastslm.store.manifest import ModelManifest
from support.decoder import Decoder, all_logits
from support.float_model import float_model
from support.golden import golden_model
from support.tiny_encoder import encoder_source

PROMPT = np.array([3, 14, 15, 92, 65, 35, 89, 79, 32, 38])
NEW_TOKENS = 24


def made(source: Path, folder: Path, precision: Any = "fp32", target: Any = "portable") -> Path:
    folder.mkdir()
    convert(open_model(source), folder, ConvertOptions("n", "c", precision, target=target))
    return folder


def grown(folder: Path, ids: np.ndarray, past: list[np.ndarray] | None = None) -> list[np.ndarray]:
    """Logits and the keys and values, as a program without shared buffers asks for them."""
    session = onnxruntime.InferenceSession(str(folder / INTERCHANGE_NAME), providers=["CPUExecutionProvider"])
    manifest = ModelManifest.read(folder)
    empty = np.zeros((len(ids), manifest.num_kv_heads, 0, manifest.head_dim), np.float32)
    held = past or [empty] * (2 * manifest.num_layers)
    feeds = {"input_ids": ids, "attention_mask": np.ones((len(ids), held[0].shape[2] + ids.shape[1]), np.int64)}
    names = [each.name for each in session.get_inputs()]
    assert names[:2] == ["input_ids", "attention_mask"]
    feeds.update(zip(names[2:], held, strict=True))
    present = [name.replace("past_key_values", "present") for name in names[2:]]
    result: list[np.ndarray] = session.run(["logits", *present], feeds)
    return result


@pytest.mark.parametrize("variant", ["tied", "gpt2", "bloom", "gemma2"])
def test_the_other_graph_says_the_same(tmp_path: Path, variant: str) -> None:
    """At once and token by token; also with learned positions and linear biases."""
    golden = golden_model(variant, tmp_path / "source")
    folder = made(golden.folder, tmp_path / "made")
    prompt = golden.prompts[0]
    expected = all_logits(folder, prompt)
    logits, *past = grown(folder, prompt[None].astype(np.int64))
    assert logits.shape == (1, *expected.shape)
    assert np.allclose(logits[0], expected, atol=1e-5)
    half = len(prompt) // 2
    _, *past = grown(folder, prompt[None, :half].astype(np.int64))
    for place in range(half, len(prompt)):
        logits, *past = grown(folder, prompt[None, place : place + 1].astype(np.int64), past)
        assert np.allclose(logits[0, 0], expected[place], atol=1e-4)
    assert past[0].shape[2] == len(prompt)


def test_the_files_are_vouched_for_and_native_folders_have_none(tmp_path: Path) -> None:
    source = float_model(tmp_path / "source")
    folder = made(source, tmp_path / "portable")
    assert set(FILES) <= set(ModelManifest.read(folder).hashes)
    config = json.loads((folder / "genai_config.json").read_text(encoding="utf-8"))
    assert config["model"]["decoder"]["filename"] == INTERCHANGE_NAME
    assert (config["model"]["decoder"]["num_key_value_heads"], config["model"]["vocab_size"]) == (2, 384)
    assert not set(FILES) & {path.name for path in made(source, tmp_path / "native", target="native").iterdir()}


def greedy(folder: Path) -> list[int]:
    decoder, ids = Decoder(folder), list(PROMPT)
    logits = decoder.step(PROMPT[None], [len(PROMPT) - 1])
    for _ in range(NEW_TOKENS):
        ids.append(int(logits[0].argmax()))
        logits = decoder.step(np.array([ids[-1:]]), [0])
    return [int(each) for each in ids]


@pytest.mark.skipif(importlib.util.find_spec("onnxruntime_genai") is None, reason="onnxruntime-genai is not installed")
@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
def test_onnxruntime_genai_writes_the_same_text(tmp_path: Path, precision: str) -> None:
    """Greedy, through its own loop and its own handling of the KV cache; its tokenizer reads ours."""
    import onnxruntime_genai

    folder = made(float_model(tmp_path / "source"), tmp_path / "made", precision)
    model = onnxruntime_genai.Model(str(folder))
    params = onnxruntime_genai.GeneratorParams(model)
    params.set_search_options(do_sample=False, max_length=len(PROMPT) + NEW_TOKENS)
    generator = onnxruntime_genai.Generator(model, params)
    generator.append_tokens(PROMPT.astype(np.int32))
    while not generator.is_done():
        generator.generate_next_token()
    found = [int(each) for each in generator.get_sequence(0)]
    assert found == greedy(folder)[: len(found)]
    assert len(found) > len(PROMPT) + 10
    text = "the quick brown fox, 123"
    theirs = [int(each) for each in onnxruntime_genai.Tokenizer(model).encode(text)]
    with Model.open(folder, threads=1) as ours:
        assert theirs == ours.tokenize(text)


needs_optimum = pytest.mark.skipif(
    importlib.util.find_spec("optimum") is None or importlib.util.find_spec("optimum.onnxruntime") is None,
    reason="Optimum is not installed",
)


@needs_optimum
@pytest.mark.filterwarnings("ignore")
def test_optimum_writes_the_same_text(tmp_path: Path) -> None:
    """A float decoder in ORTModelForCausalLM, whose KV cache grows."""
    import torch
    from optimum.onnxruntime import ORTModelForCausalLM

    folder = made(float_model(tmp_path / "source"), tmp_path / "made")
    model = ORTModelForCausalLM.from_pretrained(folder, file_name=INTERCHANGE_NAME, use_io_binding=False)
    settings = {"do_sample": False, "max_new_tokens": NEW_TOKENS, "eos_token_id": None, "pad_token_id": 0}
    found = model.generate(torch.tensor(PROMPT[None]), **settings)[0].tolist()
    assert found == greedy(folder)


@needs_optimum
@pytest.mark.filterwarnings("ignore")
def test_optimum_gives_the_same_vectors(tmp_path: Path) -> None:
    """A float encoder in ORTModelForFeatureExtraction."""
    import torch
    from optimum.onnxruntime import ORTModelForFeatureExtraction

    folder = made(encoder_source(tmp_path / "source"), tmp_path / "made")
    model = ORTModelForFeatureExtraction.from_pretrained(folder, file_name="model.onnx")
    ids = torch.tensor([[1, 5, 6, 7, 2]])
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    found = model(**given).last_hidden_state.numpy()
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    [expected] = session.run(["last_hidden_state"], {name: value.numpy() for name, value in given.items()})
    assert np.allclose(found, expected, atol=1e-5)
