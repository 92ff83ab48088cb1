"""What a precision costs real weights, ours and llama.cpp's, on text that was not trained on.

``python -m bench quality --peer llama.cpp=PYTHON [--peer torch=PYTHON]``. All see the same token ids in the same
windows. Perplexity scatters with the text, the KL divergence from the floats of the same tool much less. Bytes are
those of the weights and, of ours, tables of rotations. Case ``demo`` is the demo model, see ``bench.floats``; case
``trained`` a small one that ``bench.train`` makes, for which torch is needed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import gguf

from bench import floats
from bench.convert import MODELS
from bench.converters import FILE_TYPES, QUANTIZE
from bench.download import Wishes
from bench.report import report
from fastslm import api
from fastslm.config import Settings
from fastslm.engine.perplexity import perplexity
from fastslm.engine.quality.compare import compare_sessions
from fastslm.engine.session import OrtSession, Session, SessionOptions
from fastslm.export.options import SEARCHED, Precision
from fastslm.fidelity import Quality
from fastslm.hub import parse
from fastslm.store.manifest import WEIGHTS_NAME, ModelManifest
from fastslm.text.tokenizer import Tokenizer

CASES = {"demo": 4096, "trained": 16384}
"""Most tokens that are looked at."""

WINDOW = 512
OURS: tuple[Precision, ...] = ("fp32", "int8", "mixed", "int4", "int4-fast")
TEXTS = Path(__file__).parent.parent / "tests" / "golden"


@dataclass(frozen=True)
class Run:
    """One model on one text; divergence in nats, from the floats; seconds are those of the conversion."""

    case: str
    peer: str
    perplexity: float
    divergence: float
    bytes: int
    seconds: float
    failed: str = ""


EVALUATE = """
import json, sys
import numpy as np
from llama_cpp import Llama
names, window, ids = sys.argv[1:3], int(sys.argv[3]), json.load(open(sys.argv[4]))
models = [Llama(name, n_ctx=window, n_batch=window, logits_all=True, verbose=False) for name in names]

def logs_of(llama, part):
    llama.reset()
    llama.eval(part)
    logits = np.array(llama.scores[: len(part) - 1], np.float64)
    best = logits.max(axis=1, keepdims=True)
    return logits - best - np.log(np.exp(logits - best).sum(axis=1, keepdims=True))

total, divergence, count = 0.0, 0.0, 0
for start in range(0, len(ids) - 1, window):
    part = ids[start:start + window]
    floats, logs = (logs_of(llama, part) for llama in models)
    total -= logs[np.arange(len(part) - 1), part[1:]].sum()
    divergence += (np.exp(floats) * (floats - logs)).sum()
    count += len(part) - 1
print(float(np.exp(total / count)), divergence / count)
"""


@dataclass(frozen=True)
class Source:
    """A model as floats, and what it is measured on."""

    case: str
    folder: Path
    ids: list[int]


def ours(source: Source, scratch: Path) -> Iterator[Run]:
    """Each precision as users get it, and without the calibration where there is one."""
    settings = Settings(home=scratch, hub_cache=scratch / "hub")
    floats: OrtSession | None = None
    wishes = [(precision, True) for precision in OURS] + [(precision, False) for precision in SEARCHED]
    for precision, usual in wishes:
        made, began = scratch / f"{precision}-{usual}", time.monotonic()
        quality: Quality = "auto" if usual else "never"
        api.convert(source.folder, quality=quality, settings=settings, precision=precision, output=made, force=True)
        seconds = time.monotonic() - began
        session = OrtSession(made, ModelManifest.read(made), SessionOptions(2, WINDOW))
        label = f"fastslm {precision}" + ("" if usual else ", not calibrated")
        floats = floats or session
        found = perplexity(session, source.ids).perplexity, divergence(floats, session, source.ids)
        yield Run(source.case, label, *found, (made / WEIGHTS_NAME).stat().st_size, seconds)


def divergence(floats: Session, converted: Session, ids: Sequence[int]) -> float:
    """Mean over all positions of the windows."""
    windows = [ids[start : start + WINDOW] for start in range(0, len(ids) - 1, WINDOW)]
    found = [(compare_sessions(floats, converted, window).kl_divergence or 0.0, len(window) - 1) for window in windows]
    return sum(mean * count for mean, count in found) / sum(count for _, count in found)


def llama(source: Source, scratch: Path, python: str) -> Iterator[Run]:
    """llama.cpp on the floats and on what its quantiser makes of them."""
    plain, note = source.folder / "model-f32.gguf", scratch / "ids.json"
    note.write_text(json.dumps(source.ids), encoding="utf-8")
    for kind in ("F32", *FILE_TYPES):
        path, began = plain if kind == "F32" else scratch / f"{kind}.gguf", time.monotonic()
        if kind in FILE_TYPES:
            names = [str(plain), str(path), str(FILE_TYPES[kind])]
            subprocess.run([python, "-c", QUANTIZE, *names], check=True, capture_output=True, timeout=300)
        seconds = time.monotonic() - began
        words = [python, "-c", EVALUATE, str(plain), str(path), str(WINDOW), str(note)]
        done = subprocess.run(words, check=True, capture_output=True, text=True, timeout=900)
        size = int(sum(tensor.n_bytes for tensor in gguf.GGUFReader(path).tensors))
        found = (float(each) for each in done.stdout.split()[-2:])
        yield Run(source.case, f"llama.cpp {kind}", *found, size, seconds)


def prepared(case: str, pythons: Mapping[str, str]) -> Source:
    """The model, made if it is not there, and the ids of its text."""
    folder = MODELS / case
    if case == "demo":
        floats.write(folder, Settings.from_environment(), parse("demo"))
        parts = [(TEXTS / name).read_text(encoding="utf-8") for name in ("evaluation.txt", "evaluation_more.txt")]
        text = "\n".join(parts)
    else:
        if not (folder / "model-f32.gguf").exists():
            subprocess.run([pythons.get("torch", sys.executable), "-m", "bench.train", str(folder)], check=True)
        text = (folder / "heldout.txt").read_text(encoding="utf-8")
    most = CASES[case]
    return Source(case, folder, Tokenizer.open(folder / "tokenizer.json").encode_start(text, most)[:most])


def table(runs: Sequence[Run]) -> list[str]:
    """A line for each run, with what it lost against the floats of the same tool."""
    lines = [f"{'case':8} {'model':32} {'perplexity':>10} {'lost':>8} {'KL':>7} {'MB':>7}"]
    standard = {(run.case, run.peer.split()[0]): run.perplexity for run in runs if run.peer.lower().endswith("p32")}
    standard |= {(run.case, "llama.cpp"): run.perplexity for run in runs if run.peer == "llama.cpp F32"}
    for run in runs:
        lost = run.perplexity / standard.get((run.case, run.peer.split()[0]), run.perplexity) - 1
        figures = f"{run.perplexity:10.3f} {lost:+8.2%} {run.divergence:7.4f} {run.bytes / 1e6:7.2f}"
        lines.append(f"{run.case:8} {run.peer:32} {figures}")
    return lines


def main(cases: Sequence[str], wishes: Wishes, output: Path | None) -> None:
    """Run the cases, see ``report``."""
    pythons = dict(wish.partition("=")[::2] for wish in wishes.peers)
    report(output, lambda scratch: _runs(cases or tuple(CASES), pythons, scratch), table)


def _runs(cases: Sequence[str], pythons: Mapping[str, str], scratch: Path) -> Iterator[Run]:
    for case in cases:
        source = prepared(case, pythons)
        own = scratch / case
        own.mkdir()
        yield from ours(source, own)
        if "llama.cpp" in pythons:
            yield from llama(source, own, pythons["llama.cpp"])
