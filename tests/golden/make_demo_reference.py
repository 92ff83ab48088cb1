"""Write ``demo_reference.json``: what llama.cpp makes of the demo model, as an independent witness.

    python tests/golden/make_demo_reference.py path/to/SmolLM2-135M-Instruct.Q4_1.gguf

Needs ``llama-cpp-python`` (built for this machine by pip) and ``jinja2``. For every prompt the file holds the token
ids of the chat prompt, the greedy continuation, and the two best tokens and their logits at each step, so that a test
can tell a real difference from a near tie. ``gap_noise`` is how much the distance between these two logits changes
(standard deviation) when llama.cpp itself runs with a float32 instead of a float16 KV cache: rounding activations to
8 bits amplifies the smallest difference in arithmetic to this size. The perplexity is exp of the mean negative log
likelihood of tokens 1..N-1 of ``evaluation.txt``, each given all tokens before it, in one context.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path

import jinja2
import numpy as np
from llama_cpp import Llama

HERE = Path(__file__).parent
STEPS = 64
PERPLEXITY_TOKENS = 1024
GGML_TYPE_F32 = 0
PROMPTS = [
    "What is the capital of France, and why is it famous?",
    "Write a haiku about the sea.",
    "Explain in two sentences why the sky is blue.",
    "List three uses of a paper clip.",
    "What is 12 + 30?",
    "Translate to Spanish: Good morning, my friend.",
]


def greedy(model: Llama, prompt: list[int], eos: int) -> tuple[list[int], list[int], list[list[float]]]:
    """Continue a prompt by the best token; with each the second best, and both logits."""
    model.reset()
    model.eval(prompt)
    ids: list[int] = []
    seconds: list[int] = []
    tops: list[list[float]] = []
    while len(ids) < STEPS:
        logits = np.array(model.scores[model.n_tokens - 1])
        second, best = np.argsort(logits)[-2:]
        ids.append(int(best))
        seconds.append(int(second))
        tops.append([round(float(logits[best]), 4), round(float(logits[second]), 4)])
        if best == eos:
            break
        model.eval([int(best)])
    return ids, seconds, tops


def gaps(model: Llama, prompt: list[int], ids: list[int], seconds: list[int]) -> list[float]:
    """Distance of the two tokens' logits at each step of a given continuation."""
    model.reset()
    model.eval(prompt)
    found = []
    for best, second in zip(ids, seconds, strict=True):
        logits = model.scores[model.n_tokens - 1]
        found.append(float(logits[best] - logits[second]))
        model.eval([best])
    return found


def perplexity(model: Llama, ids: list[int]) -> float:
    """Exp of the mean negative log likelihood."""
    model.reset()
    model.eval(ids)
    logits = np.array(model.scores[: len(ids) - 1], dtype=np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(logits).sum(axis=1))
    picked = logits[np.arange(len(ids) - 1), ids[1:]]
    return float(np.exp(np.mean(log_sum - picked)))


def main(path: str) -> None:
    """Run all prompts and write the file."""
    settings = {"n_ctx": 2048, "n_batch": 512, "logits_all": True, "verbose": False, "n_threads": 2}
    model = Llama(path, **settings)
    other = Llama(path, **settings, type_k=GGML_TYPE_F32, type_v=GGML_TYPE_F32)
    changes: list[float] = []
    template = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(
        model.metadata["tokenizer.chat_template"]
    )
    cases = []
    for question in PROMPTS:
        text = template.render(messages=[{"role": "user", "content": question}], add_generation_prompt=True)
        prompt = model.tokenize(text.encode(), add_bos=False, special=True)
        ids, seconds, tops = greedy(model, prompt, model.token_eos())
        changes += np.subtract(gaps(other, prompt, ids, seconds), [best - second for best, second in tops]).tolist()
        answer = model.detokenize([i for i in ids if i != model.token_eos()]).decode(errors="replace")
        cases.append(
            {
                "question": question,
                "prompt_ids": prompt,
                "ids": ids,
                "seconds": seconds,
                "top_logits": tops,
                "text": answer,
            }
        )
    text = (HERE / "evaluation.txt").read_bytes()
    ids = model.tokenize(text, add_bos=False, special=False)[:PERPLEXITY_TOKENS]
    result = {
        "llama_cpp_python": version("llama-cpp-python"),
        "gap_noise": round(float(np.std(changes)), 4),
        "cases": cases,
        "perplexity": {"tokens": len(ids), "value": perplexity(model, ids)},
    }
    (HERE / "demo_reference.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
