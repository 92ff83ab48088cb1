"""What 4 bits cost a trained model, ours and llama.cpp's, by perplexity on text that it was not trained on.

``python -m bench.quality FOLDER --llama PYTHON`` takes what ``bench.train`` wrote. All see the same token ids in
the same windows; bytes are those of the weights alone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import gguf

from bench.converters import FILE_TYPES, QUANTIZE
from fastslm import api
from fastslm.config import Settings
from fastslm.engine.perplexity import perplexity
from fastslm.engine.session import OrtSession, SessionOptions
from fastslm.store.manifest import WEIGHTS_NAME, ModelManifest
from fastslm.text.tokenizer import Tokenizer

WINDOW = 512
OURS = ("fp32", "int8", "mixed", "int4", "int4-fast")
SEARCHED = ("mixed", "int4", "int4-fast")

EVALUATE = """
import json, sys
import numpy as np
from llama_cpp import Llama
model, window, ids = sys.argv[1], int(sys.argv[2]), json.load(open(sys.argv[3]))
llama = Llama(model, n_ctx=window, n_batch=window, logits_all=True, verbose=False)
total, count = 0.0, 0
for start in range(0, len(ids), window):
    part = ids[start:start + window]
    llama.reset()
    llama.eval(part)
    logits = np.array(llama.scores[: len(part) - 1], np.float64)
    best = logits.max(axis=1, keepdims=True)
    logs = logits - best - np.log(np.exp(logits - best).sum(axis=1, keepdims=True))
    total -= logs[np.arange(len(part) - 1), part[1:]].sum()
    count += len(part) - 1
print(float(np.exp(total / count)))
"""


def ours(folder: Path, ids: list[int], scratch: Path, target: api.Target) -> Iterator[tuple[str, float, int]]:
    """Each precision, and with a calibration text where that can matter."""
    settings = Settings(home=scratch, hub_cache=scratch / "hub")
    wishes = [(precision, None) for precision in OURS]
    wishes += [(precision, folder / "calibration.txt") for precision in SEARCHED]
    for precision, text in wishes:
        made = scratch / f"{precision}-{text is not None}"
        wish = {"precision": precision, "calibrate": text, "output": made, "target": target}
        api.convert(folder, quality="never", settings=settings, **wish)
        session = OrtSession(made, ModelManifest.read(made), SessionOptions(2, WINDOW))
        label = f"fastslm {precision}" + (", calibrated" if text else "")
        yield label, perplexity(session, ids).perplexity, (made / WEIGHTS_NAME).stat().st_size


def llama(folder: Path, ids: list[int], scratch: Path, python: str) -> Iterator[tuple[str, float, int]]:
    """llama.cpp on the floats and on what its quantiser makes of them."""
    floats, note = folder / "model-f32.gguf", scratch / "ids.json"
    note.write_text(json.dumps(ids), encoding="utf-8")
    files = {"llama.cpp F32": floats}
    for kind, number in FILE_TYPES.items():
        files[f"llama.cpp {kind}"] = scratch / f"{kind}.gguf"
        names = [str(floats), str(scratch / f"{kind}.gguf"), str(number)]
        subprocess.run([python, "-c", QUANTIZE, *names], check=True, capture_output=True, timeout=300)
    for label, path in files.items():
        words = [python, "-c", EVALUATE, str(path), str(WINDOW), str(note)]
        done = subprocess.run(words, check=True, capture_output=True, text=True, timeout=900)
        size = sum(tensor.n_bytes for tensor in gguf.GGUFReader(path).tensors)
        yield label, float(done.stdout.split()[-1]), int(size)


def main() -> None:
    """Print a JSON line for each result as it comes."""
    parser = argparse.ArgumentParser(prog="python -m bench.quality", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--llama", metavar="PYTHON", help="an interpreter with llama_cpp")
    parser.add_argument("--tokens", type=int, default=16384)
    parser.add_argument("--target", choices=("native", "portable"), default="native")
    given = parser.parse_args()
    text = (given.folder / "heldout.txt").read_text(encoding="utf-8")
    ids = Tokenizer.open(given.folder / "tokenizer.json").encode_start(text, given.tokens)[: given.tokens]
    with tempfile.TemporaryDirectory(prefix="fastslm-bench-") as name:
        results = ours(given.folder, ids, Path(name), given.target)
        for label, value, size in results:
            print(json.dumps({"what": label, "perplexity": round(value, 4), "bytes": size}), flush=True)
        for label, value, size in llama(given.folder, ids, Path(name), given.llama) if given.llama else ():
            print(json.dumps({"what": label, "perplexity": round(value, 4), "bytes": size}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
