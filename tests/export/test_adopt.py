"""Ready-made graphs become model folders as they are, or are refused with the name of what does not fit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import fastslm
from fastslm.errors import ConversionFailed, FileMissing, FormatError, MissingExtra, UnsupportedModel
from fastslm.export import optimum
from fastslm.export.options import ConvertOptions
from fastslm.export.prepare import prepare
from fastslm.formats.readymade import find_readymade
from fastslm.progress import silent
from fastslm.store.manifest import ModelManifest
from support.golden_encoders import golden_encoder, run_graph
from support.optimum import optimum_source, with_external_data
from support.tiny_encoder import WORDS


def adopted(source: Path, target: Path) -> ModelManifest:
    target.mkdir()
    return prepare(source, ConvertOptions("tiny", "0" * 12)).write(target, silent)


def test_a_decoder_is_filed_with_what_its_graph_says(tmp_path: Path) -> None:
    """Layers, heads and sizes are read off its inputs; every file has its hash."""
    source = with_external_data(optimum_source(tmp_path / "source", "llama"))
    manifest = adopted(source, tmp_path / "target")
    assert (manifest.num_layers, manifest.num_kv_heads, manifest.head_dim) == (2, 2, 16)
    assert (manifest.precision, manifest.graph, manifest.encoder) == ("onnx", "optimum", None)
    assert set(manifest.hashes) == {"model.onnx", "model.onnx_data", "tokenizer.json"}
    assert ModelManifest.read(tmp_path / "target") == manifest


def test_an_encoder_gives_the_vectors_of_its_graph(tmp_path: Path) -> None:
    """Pooled as the repository says; its graph gives what ours gives of the same weights."""
    target = tmp_path / "target"
    adopted(optimum_source(tmp_path / "source", "bert"), target)
    golden = golden_encoder("bert", tmp_path / "golden")
    mask = golden.batch["attention_mask"].astype(bool)
    np.testing.assert_allclose(run_graph(target, golden.batch)[mask], golden.expected[mask], atol=1e-4)
    ids = np.array([[1, WORDS.index("cat"), 2]])
    batch = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    found = fastslm.load(target).embed(["cat"])
    np.testing.assert_allclose(found[0], run_graph(target, batch)[0].mean(axis=0), atol=1e-5)


def test_weights_that_we_read_come_before_a_graph(tmp_path: Path) -> None:
    """A repository with both is converted, so that it gets the precision that was asked for."""
    source = golden_encoder("bert", tmp_path / "source").folder
    shutil.copytree(optimum_source(tmp_path / "optimum", "bert") / "onnx", source / "onnx")
    assert prepare(source, ConvertOptions("tiny", "0", "int8")).precision == "int8"


@pytest.mark.parametrize("place", ["../weights", "/etc/passwd", "sub/weights", ".."])
def test_weights_outside_the_folder_are_refused(place: str, tmp_path: Path) -> None:
    """A graph may not make us read another file."""
    source = with_external_data(optimum_source(tmp_path / "source", "bert"))
    path = source / "onnx" / "model.onnx"
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = place
    path.write_bytes(model.SerializeToString())
    with pytest.raises(FormatError, match="places weights in"):
        find_readymade(source)


def test_what_is_missing_or_too_much_is_told(tmp_path: Path) -> None:
    """Weights, a tokenizer, a second graph, a file that is no graph."""
    source = with_external_data(optimum_source(tmp_path / "source", "llama"))
    (source / "onnx" / "model.onnx_data").unlink()
    with pytest.raises(FileMissing, match=r"has its weights in `model\.onnx_data`, which is not there"):
        find_readymade(source)
    (source / "tokenizer.json").unlink()
    with pytest.raises(FileMissing, match=r"has no `tokenizer\.json`"):
        find_readymade(source)
    shutil.copy(source / "onnx" / "model.onnx", source / "onnx" / "other.onnx")
    with pytest.raises(FormatError, match=r"holds 2 ONNX graphs \(`onnx/model\.onnx`, `onnx/other\.onnx`\)"):
        find_readymade(source)
    damaged = optimum_source(tmp_path / "damaged", "llama")
    (damaged / "onnx" / "model.onnx").write_bytes(b"\xff" * 100)
    with pytest.raises(FormatError, match="is not an ONNX graph"):
        find_readymade(damaged)
    assert find_readymade(golden_encoder("bert", tmp_path / "none").folder) is None


@pytest.mark.parametrize(
    ("name", "old", "new", "reason"),
    [
        ("llama", "position_ids", "encoder_hidden_states", "the graph has an input `encoder_hidden_states`"),
        ("llama", "past_key_values.1.key", "past_key_values.5.key", "the graph has an unknown cache"),
        ("bert", "last_hidden_state", "image_embeds", r"outputs \['image_embeds'\], expected a decoder or an encoder"),
        ("bert", "token_type_ids", "pixel_values", "expected a decoder or an encoder"),
    ],
)
def test_graphs_for_other_things_are_refused(name: str, old: str, new: str, reason: str, tmp_path: Path) -> None:
    """By the names of their inputs and outputs, before they are run."""
    source = optimum_source(tmp_path / "source", name)
    path = source / "onnx" / "model.onnx"
    model = onnx.load(path)
    for value in [*model.graph.input, *model.graph.output]:
        value.name = new if value.name == old else value.name
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UnsupportedModel, match=reason):
        adopted(source, tmp_path / "target")


def test_without_the_extra_optimum_says_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is written."""
    monkeypatch.setattr(optimum, "MODULES", ("a_module_that_nobody_has",))
    source = golden_encoder("bert", tmp_path / "source").folder
    with pytest.raises(MissingExtra, match="the backend `optimum` needs `a_module_that_nobody_has`") as caught:
        prepare(source, ConvertOptions("tiny", "0", backend="optimum"))
    assert caught.value.extra == "export"


def test_what_optimum_writes_is_adopted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the tokenizer of the source; the exporter's own failure becomes one sentence."""
    source = golden_encoder("bert", tmp_path / "source").folder
    asked: list[Any] = []

    class Exporter:
        @staticmethod
        def main_export(path: str, *, output: Path, task: str, **options: Any) -> None:
            asked.append((path, task, options["trust_remote_code"]))
            if task != "feature-extraction":
                raise ValueError("torch says\nmany things")
            shutil.copytree(optimum_source(tmp_path / "made", "bert"), output, dirs_exist_ok=True)

    monkeypatch.setattr(optimum, "MODULES", ())
    monkeypatch.setattr(optimum.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(optimum.importlib, "import_module", lambda name: Exporter)
    target = tmp_path / "target"
    target.mkdir()
    work = prepare(source, ConvertOptions("tiny", "0", backend="optimum"))
    assert work.write(target, silent).encoder is not None
    assert asked == [(str(source), "feature-extraction", False)]
    assert (target / "tokenizer.json").read_text() == (source / "tokenizer.json").read_text()
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, "architectures": ["BertForSequenceClassification"]}))
    with pytest.raises(ConversionFailed, match=r"Optimum cannot export `.*`: torch says$"):
        work.write(tmp_path / "other", silent)
