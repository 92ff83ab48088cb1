"""Write ``optimum/``: the tiny Llama and the tiny BERT of this folder as Optimum exports them.

    python tests/golden/make_optimum.py

Needs ``optimum-onnx``, ``transformers`` 4 and ``torch``; the tests do not. Each graph lies in
``<model>/onnx/model.onnx`` beside ``config.json``, as repositories of the hub have it. What they compute is known: it
is that of ``llama/tied`` and ``encoders/bert``.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from optimum.exporters.onnx import main_export

HERE = Path(__file__).parent
TARGET = HERE / "optimum"
MODELS = {
    "llama": (HERE / "llama" / "tied", HERE / "llama" / "tied.json", "LlamaForCausalLM", "text-generation-with-past"),
    "bert": (HERE / "encoders" / "bert", HERE / "encoders" / "bert.json", "BertModel", "feature-extraction"),
}


def main() -> None:
    """Put a folder together, export it, keep the graph and the configuration."""
    for name, (weights, described, architecture, task) in MODELS.items():
        config = {**json.loads(described.read_text(encoding="utf-8"))["config"], "architectures": [architecture]}
        with tempfile.TemporaryDirectory() as scratch:
            source, output = Path(scratch) / "source", Path(scratch) / "output"
            shutil.copytree(weights, source)
            (source / "config.json").write_text(json.dumps(config), encoding="utf-8")
            shutil.copy(HERE / "llama" / "tokenizer.json", source)
            main_export(str(source), output=output, task=task, device="cpu", do_validation=False)
            folder = TARGET / name / "onnx"
            shutil.rmtree(TARGET / name, ignore_errors=True)
            folder.mkdir(parents=True)
            shutil.copy(output / "model.onnx", folder)
            (TARGET / name / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
