"""What we do not write ourselves, exported for real; only where the extra is installed (.ci/run does that)."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest

from fastslm import api
from fastslm.config import Settings
from fastslm.store.manifest import ModelManifest
from support.golden import TOKENIZER

PROMPT = [5, 71, 300, 12, 9, 200, 33]
NEW_TOKENS = 24

needs_exporter = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("torch", "transformers", "optimum")),
    reason="the extra `export` is not installed",
)


@needs_exporter
@pytest.mark.filterwarnings("ignore")
def test_an_architecture_that_we_do_not_write_says_what_transformers_says(settings: Settings, tmp_path: Path) -> None:
    """GPT-Neo, greedy, token by token in our engine against transformers' own loop."""
    import torch
    import transformers

    torch.manual_seed(2)
    sizes = {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "vocab_size": 384, "max_position_embeddings": 128}
    config = transformers.GPTNeoConfig(**sizes, attention_types=[[["global", "local"], 1]], bos_token_id=0)
    theirs = transformers.GPTNeoForCausalLM(config).eval()
    theirs.save_pretrained(tmp_path / "source")
    shutil.copy(TOKENIZER, tmp_path / "source")
    folder = api.convert(tmp_path / "source", backend="optimum", settings=settings)
    assert ModelManifest.read(folder).graph == "optimum"
    options = {"do_sample": False, "max_new_tokens": NEW_TOKENS, "eos_token_id": None, "pad_token_id": 0}
    expected = theirs.generate(torch.tensor([PROMPT]), **options)[0, len(PROMPT) :].tolist()
    with api.load(folder, settings=settings) as model:
        found = model.generate(PROMPT, temperature=0, max_tokens=NEW_TOKENS).token_ids
    assert list(found) == expected
