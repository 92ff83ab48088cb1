"""Of the many graphs of a repository one is fetched, with its weights and nothing else."""

from __future__ import annotations

import pytest

from fastslm.errors import UsageError
from fastslm.hub.graphs import one_graph
from fastslm.hub.select import Wishes, select_files

TEXTS = ["config.json", "tokenizer.json", "README.md"]
OPTIMUM = [
    *("onnx/model.onnx", "onnx/model.onnx_data", "onnx/model_fp16.onnx", "onnx/model_fp16.onnx_data"),
    *("onnx/model_q4.onnx", "onnx/model_q4.onnx_data", "onnx/model_q4.onnx_data_1", "onnx/model_int8.onnx"),
]


@pytest.mark.parametrize(
    ("paths", "chosen"),
    [
        (OPTIMUM, {"onnx/model_q4.onnx", "onnx/model_q4.onnx_data", "onnx/model_q4.onnx_data_1"}),
        (OPTIMUM[:4], {"onnx/model.onnx", "onnx/model.onnx_data"}),
        (["model.onnx", "model.onnx.data", "other.onnx"], {"model.onnx", "model.onnx.data"}),
        (["onnx/encoder_model.onnx", "onnx/decoder_model_merged.onnx"], set()),
        (["cuda/model.onnx", "directml/x/model.onnx"], set()),
        (
            ["cpu_and_mobile/int4/model.onnx", "cpu_and_mobile/int4/genai_config.json", "cuda/int4/model.onnx"],
            {"cpu_and_mobile/int4/model.onnx", "cpu_and_mobile/int4/genai_config.json"},
        ),
    ],
)
def test_one_precision_with_its_weights(paths: list[str], chosen: set[str]) -> None:
    """Layouts of Optimum, of the hub's exporters, and of onnxruntime-genai."""
    assert one_graph(paths) == chosen
    assert one_graph(paths[::-1]) == chosen


@pytest.mark.parametrize(
    ("precision", "graph"),
    [("fp32", "onnx/model.onnx"), ("int8", "onnx/model_int8.onnx"), ("int4", "onnx/model_q4.onnx")],
)
def test_the_precision_that_is_asked_for_is_taken(precision: str, graph: str) -> None:
    """Not the one that we would prefer."""
    chosen = select_files([*TEXTS, *OPTIMUM], Wishes(precision=precision))
    assert [path for path in chosen if path.endswith(".onnx")] == [graph]


def test_the_folder_may_say_the_precision() -> None:
    """Where all files have the same name."""
    paths = ["cpu/int4/model.onnx", "cpu/int8/model.onnx", "cpu/fp32/model.onnx"]
    assert [one_graph(paths, each) for each in ("int4", "int8", "fp32")] == [{path} for path in paths]


def test_what_there_is_is_said() -> None:
    """In one sentence, when nothing fits."""
    with pytest.raises(UsageError) as caught:
        select_files([*TEXTS, "onnx/model.onnx", "onnx/model_int8.onnx"], Wishes(precision="mixed"))
    assert str(caught.value) == (
        "precision is `mixed`, but the repository has ready-made graphs in fp32 (`onnx/model.onnx`) and int8 "
        "(`onnx/model_int8.onnx`) only"
    )
    assert caught.value.allowed == ("fp32", "int8")


def test_a_graph_is_taken_only_where_there_are_no_weights() -> None:
    """What we convert ourselves comes first."""
    assert set(select_files([*TEXTS, *OPTIMUM], Wishes())) == {*TEXTS, *OPTIMUM[4:7]}
    assert set(select_files([*TEXTS, *OPTIMUM, "model.safetensors"], Wishes())) == {*TEXTS, "model.safetensors"}
