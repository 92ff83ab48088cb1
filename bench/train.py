"""Train a small Llama on the sources of Python's standard library: weights that are not random, made on the spot.

``python -m bench.train FOLDER [--minutes 7]`` needs torch, transformers, tokenizers and gguf. It writes the folder as
the Hub has it, the same model as ``model-f32.gguf``, and a text that was not trained on as ``heldout.txt``.
"""

from __future__ import annotations

import argparse
import json
import math
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import to_gguf

VOCABULARY = 2048
HIDDEN, LAYERS, HEADS, KV_HEADS, INNER = 256, 4, 4, 2, 768
"""Widths are multiples of 256, so that llama.cpp's K-quants apply to every matrix."""
CONTEXT, BATCH = 256, 4
RATE, WARM_UP = 2e-3, 50
HELD_OUT_EVERY = 20
SEED = 7


def _texts() -> tuple[list[str], list[str]]:
    """Sources to train on, and every twentieth file for the test."""
    library = Path(sysconfig.get_paths()["stdlib"])
    files = sorted(p for p in library.rglob("*.py") if "site-packages" not in p.parts and "test" not in str(p))
    texts = [p.read_text(encoding="utf-8", errors="replace") for p in files if p.stat().st_size > 500]
    held_out = texts[::HELD_OUT_EVERY]
    return [text for i, text in enumerate(texts) if i % HELD_OUT_EVERY], held_out


def _tokenizer(texts: list[str]) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _batches(ids: Any) -> Iterator[Any]:
    import torch

    generator = torch.Generator().manual_seed(SEED)
    while True:
        starts = torch.randint(0, len(ids) - CONTEXT - 1, (BATCH,), generator=generator)
        yield torch.stack([ids[int(start) : int(start) + CONTEXT] for start in starts])


def _model() -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(SEED)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=HIDDEN,
            intermediate_size=INNER,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            num_key_value_heads=KV_HEADS,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            bos_token_id=0,
            eos_token_id=0,
        )
    )


def _train(model: Any, ids: Any, seconds: float) -> None:
    """Steps until the time is up; the rate falls along a cosine of the time."""
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=0.1)
    began = time.monotonic()
    for step, batch in enumerate(_batches(ids)):
        share = (time.monotonic() - began) / seconds
        if share >= 1:
            return
        rate = RATE * min(1.0, (step + 1) / WARM_UP) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(input_ids=batch, labels=batch).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 0:
            print(json.dumps({"step": step, "seconds": round(share * seconds), "loss": round(loss.item(), 3)}))


def main() -> None:
    """Train and write everything."""
    parser = argparse.ArgumentParser(prog="python -m bench.train", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=7.0)
    parser.add_argument("--threads", type=int, default=1, help="more only on a machine with nothing else to do")
    given = parser.parse_args()
    import torch

    torch.set_num_threads(given.threads)
    texts, held_out = _texts()
    tokenizer = _tokenizer(texts)
    ids = torch.tensor([i for each in tokenizer.encode_batch(texts) for i in (*each.ids, 0)])
    print(json.dumps({"train_tokens": len(ids), "train_bytes": sum(len(t.encode()) for t in texts)}))
    model = _model()
    print(json.dumps({"parameters": sum(p.numel() for p in model.parameters())}))
    _train(model, ids, 60 * given.minutes)
    given.folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(given.folder, safe_serialization=True)
    tokenizer.save(str(given.folder / "tokenizer.json"))
    (given.folder / "heldout.txt").write_text("\n".join(held_out), encoding="utf-8")
    (given.folder / "calibration.txt").write_text("\n".join(texts[::37])[:200_000], encoding="utf-8")
    to_gguf.write(given.folder, given.folder / "model-f32.gguf")


if __name__ == "__main__":
    main()
