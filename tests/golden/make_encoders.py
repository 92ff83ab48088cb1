"""Write ``encoders/``: a tiny random model of every encoder family and what transformers computes for two texts.

    python tests/golden/make_encoders.py [VARIANT …]

Needs ``torch`` and ``transformers``; the tests do not. ``<variant>.json`` holds the configuration in the wording of
the hub (``config``) and as transformers 5 saves it (``newer``). ``<variant>.npz`` holds ``input_ids``,
``attention_mask`` and ``token_type_ids`` of a batch that is padded on the right, and ``expected``: float32 hidden
states [batch, sequence, width], or scores [batch, labels]. ``<variant>/`` has the weights. The tokenizer is that of
``llama/``.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

TARGET = Path(__file__).parent / "encoders"
LENGTHS = (21, 9)
BERT = {
    "vocab_size": 288,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "type_vocab_size": 2,
    "initializer_range": 0.2,
    "pad_token_id": 0,
}
ROBERTA = {**BERT, "type_vocab_size": 1, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
DISTIL = {
    "vocab_size": 288,
    "dim": 32,
    "hidden_dim": 64,
    "n_layers": 2,
    "n_heads": 4,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
    "pad_token_id": 0,
}
MPNET = {key: value for key, value in ROBERTA.items() if key != "type_vocab_size"}
NOMIC = {
    "vocab_size": 288,
    "n_embd": 32,
    "n_inner": 64,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 64,
    "type_vocab_size": 2,
    "rotary_emb_base": 1000,
    "activation_function": "swiglu",
    "layer_norm_epsilon": 1e-12,
    "initializer_range": 0.2,
    "prenorm": False,
    "qkv_proj_bias": False,
}
TO_TRANSFORMERS = {
    "n_embd": "hidden_size",
    "n_inner": "intermediate_size",
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_positions": "max_position_embeddings",
    "layer_norm_epsilon": "layer_norm_eps",
}
MODERN = {
    "vocab_size": 288,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "local_attention": 8,
    "global_attn_every_n_layers": 3,
    "global_rope_theta": 160000.0,
    "local_rope_theta": 10000.0,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 1,
    "cls_token_id": 2,
    "sep_token_id": 1,
}
SCORES = {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("bert", BERT),
    "bert_classifier": ("bert", {**BERT, **SCORES}),
    "roberta": ("roberta", ROBERTA),
    "roberta_classifier": ("roberta", {**ROBERTA, "num_labels": 3}),
    "xlm_roberta_classifier": ("xlm-roberta", {**ROBERTA, **SCORES}),
    "distilbert": ("distilbert", DISTIL),
    "distilbert_classifier": ("distilbert", {**DISTIL, **SCORES}),
    "mpnet": ("mpnet", MPNET),
    "mpnet_classifier": ("mpnet", {**MPNET, **SCORES}),
    "nomic": ("nomic_bert", NOMIC),
    "modernbert": ("modernbert", MODERN),
    "modernbert_classifier": ("modernbert", {**MODERN, **SCORES, "classifier_pooling": "mean"}),
}


def make_config(kind: str, values: dict[str, Any]) -> Any:
    """A configuration object of the right class, as transformers reads it from a file."""
    values = {TO_TRANSFORMERS.get(key, key): value for key, value in values.items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.json"
        path.write_text(json.dumps({"model_type": kind, **values}), encoding="utf-8")
        return AutoConfig.from_pretrained(folder)


def write_variant(name: str) -> None:
    """Weights (norms that are not one, biases that matter), both configurations, and the results."""
    kind, values = VARIANTS[name]
    torch.manual_seed(sorted(VARIANTS).index(name))
    maker = AutoModelForSequenceClassification if name.endswith("_classifier") else AutoModel
    model = maker.from_config(make_config(kind, values), attn_implementation="eager").eval()
    for key, value in model.named_parameters():
        if value.ndim == 1:
            value.data = torch.randn_like(value) * 0.2 + (0.0 if key.endswith("bias") else 1.0)
    shutil.rmtree(TARGET / name, ignore_errors=True)
    model.to(torch.bfloat16).save_pretrained(TARGET / name)
    saved = maker.from_pretrained(TARGET / name, dtype=torch.float32, attn_implementation="eager").eval()
    newer = json.loads((TARGET / name / "config.json").read_text(encoding="utf-8"))
    (TARGET / name / "config.json").unlink()
    config = {"model_type": kind, "architectures": newer["architectures"], **values}
    text = json.dumps({"config": config, "newer": newer}, indent=1)
    (TARGET / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    batch = make_batch(values)
    inputs = {key: torch.from_numpy(value) for key, value in batch.items()}
    if values.get("type_vocab_size", 0) != 2:
        del inputs["token_type_ids"]
    with torch.no_grad():
        result = saved(**inputs)
    expected = (result.logits if "logits" in result else result.last_hidden_state).numpy()
    np.savez_compressed(TARGET / f"{name}.npz", **batch, expected=expected)
    print(name, expected.shape, "spread", round(float(expected.std()), 2))


def make_batch(values: dict[str, Any]) -> dict[str, np.ndarray]:
    """Two texts of different length; the second half of each is of the second kind."""
    rng = np.random.default_rng(7)
    shape = (len(LENGTHS), max(LENGTHS))
    ids = np.full(shape, values.get("pad_token_id", 0), np.int64)
    mask, kinds = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for row, length in enumerate(LENGTHS):
        ids[row, :length] = rng.integers(3, values["vocab_size"], length)
        mask[row, :length] = 1
        kinds[row, length // 2 : length] = 1
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": kinds}


def main(names: list[str]) -> None:
    """Make everything anew, or the variants named."""
    TARGET.mkdir(exist_ok=True)
    for name in names or VARIANTS:
        write_variant(name)


if __name__ == "__main__":
    main(sys.argv[1:])
