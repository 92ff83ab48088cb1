"""`fastslm embed` and `fastslm rerank`, as a person or a script sees them."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from cli.conftest import Run
from fastslm.formats.safetensors import SafetensorsFile
from support.hub_server import FakeHub
from support.optimum import optimum_source, with_external_data
from support.pickles import write_model
from support.tiny_encoder import encoder_source


@pytest.fixture
def encoder(tmp_path: Path) -> str:
    return str(encoder_source(tmp_path / "encoder"))


def test_embed_prints_a_line_for_each_text(fastslm: Run, encoder: str) -> None:
    """The model is converted on first use; numbers go to stdout."""
    shown = fastslm("embed", encoder, "the cat", "a dog")
    assert shown.code == 0, shown.err
    assert [len(line.split()) for line in shown.out.splitlines()] == [32, 32]
    data = fastslm("embed", encoder, "the cat", "a dog", "--json").data
    assert (data["width"], [row["text"] for row in data["vectors"]]) == (32, ["the cat", "a dog"])
    assert [float(number) for number in shown.out.splitlines()[1].split()] == pytest.approx(
        data["vectors"][1]["vector"]
    )


def test_embed_reads_lines_from_stdin(fastslm: Run, encoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty lines are passed over."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("the cat\n\na dog\n"))
    assert len(fastslm("embed", encoder, "-", "-q").out.splitlines()) == 2
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))
    nothing = fastslm("embed", encoder, "-")
    assert nothing.code == 2
    assert "there are no texts" in nothing.err


def test_rerank_puts_the_best_first(fastslm: Run, encoder: str) -> None:
    """Score and text on each line; the text itself is its best answer."""
    shown = fastslm("rerank", encoder, "a dog", "the cat sat", "a dog", "-q")
    assert shown.out.splitlines()[0] == "1.0000  a dog"
    data = fastslm("rerank", encoder, "a dog", "the cat sat", "a dog", "--top", "1", "--json").data
    assert [(result["index"], result["text"]) for result in data["results"]] == [(1, "a dog")]


def test_each_model_says_what_it_is_for(fastslm: Run, encoder: str, tiny_file: str) -> None:
    """Usage errors, exit code 2."""
    asked = fastslm("run", encoder, "hello")
    assert (asked.code, "is an encoder, expected a model that generates text" in asked.err) == (2, True)
    for words in (("embed", tiny_file, "x"), ("rerank", tiny_file, "x", "y")):
        shown = fastslm(*words)
        assert (shown.code, "generates text, expected an encoder" in shown.err) == (2, True)


def test_an_encoder_can_be_planned_listed_and_shown(fastslm: Run, encoder: str) -> None:
    """The other commands know it too."""
    assert fastslm("plan", encoder, "--json").code == 0
    assert fastslm("can-convert", encoder, "--json").data["architecture"] == "bert"
    assert fastslm("pull", encoder, "--precision", "int8").code == 0
    assert fastslm("show", encoder, "--json").data["manifest"]["encoder"]["pooling"] == ["mean"]
    assert fastslm("verify", encoder).code == 0


def test_a_repository_of_graphs_is_pulled_in_one_precision_and_run(
    fastslm: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An Optimum decoder of the hub: one graph is fetched, generates, and is verified by its hashes."""
    source = with_external_data(optimum_source(tmp_path / "source", "llama"))
    files = {path.relative_to(source).as_posix(): path.read_bytes() for path in source.rglob("*") if path.is_file()}
    with FakeHub() as hub:
        hub.add_repo("org/onnx", {**files, "onnx/model_fp16.onnx": b"x" * 1000})
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        pulled = fastslm("pull", "org/onnx")
        assert pulled.code == 0, pulled.err
        assert not any("fp16" in request.path for request in hub.log(method="GET"))
    folder = Path(pulled.out.strip())
    assert sorted(path.name for path in folder.glob("model.*")) == ["model.onnx", "model.onnx_data"]
    shown = fastslm("run", "org/onnx", "hello", "--raw", "--temperature", "0", "-n", "3", "--json")
    assert shown.code == 0, shown.err
    assert shown.data["usage"]["completion_tokens"] <= 3
    assert fastslm("show", "org/onnx", "--json").data["manifest"]["graph"] == "optimum"
    assert fastslm("verify", "org/onnx").code == 0
    assert fastslm("plan", str(folder), "--json").code == 0


def test_a_missing_extra_is_named(fastslm: Run, encoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to install."""
    monkeypatch.setattr("fastslm.export.optimum.MODULES", ("a_module_that_nobody_has",))
    shown = fastslm("convert", encoder, "--backend", "optimum")
    assert shown.code == 1
    assert "needs `a_module_that_nobody_has`, which comes with the extra `export`" in shown.err
    assert "pip install 'fastslm[export]'" in shown.err


def test_pickled_weights_are_planned_and_pulled(fastslm: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their shapes come from the configuration; the result is that of the same weights in safetensors."""
    source = encoder_source(tmp_path / "source")
    expected = fastslm("embed", str(source), "the cat", "--precision", "fp32", "-q").out
    write_model(source / "pytorch_model.bin", SafetensorsFile(source / "model.safetensors"))
    (source / "model.safetensors").unlink()
    files = {path.name: path.read_bytes() for path in source.iterdir()}
    with FakeHub() as hub:
        hub.add_repo("org/pickled", files)
        hub.add_repo("org/onnx", {"config.json": files["config.json"], "onnx/model.onnx": b"x"})
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        plan = fastslm("plan", "org/pickled", "--json")
        assert plan.code == 0, plan.err
        assert fastslm("plan", "org/onnx").code == 3
        assert fastslm("embed", "org/pickled", "the cat", "--precision", "fp32", "-q").out == expected
