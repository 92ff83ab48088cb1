"""Of the many graphs of a repository one is fetched, with its weights and nothing else."""

from __future__ import annotations

import pytest

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


def test_a_graph_is_taken_only_where_there_are_no_weights() -> None:
    """What we convert ourselves comes first."""
    assert set(select_files([*TEXTS, *OPTIMUM], Wishes())) == {*TEXTS, *OPTIMUM[4:7]}
    assert set(select_files([*TEXTS, *OPTIMUM, "model.safetensors"], Wishes())) == {*TEXTS, "model.safetensors"}
