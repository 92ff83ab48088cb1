"""One token chosen from 151,936 logits: seconds of us and of others in turn, on rows of two kinds.

``broad`` rows are normal numbers, of which thousands of tokens are likely; ``peaked`` ones have some two hundred likely
tokens, as trained models do. Two cases are about us alone: text from tokens after so many of them, and what a second
process waits for the kernels. ``encode`` is text to tokens, beside the two ways of the `tokenizers` library, which must
give the same ids, in seconds of a processor. Peers live in environments of their own:
``python -m bench sampling --peer transformers=PYTHON --peer genai=PYTHON``.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench import encoding, shapes
from bench.download import Wishes
from bench.report import report
from bench.samplers import PROGRAMS

WIDTH = 151_936
ROWS = 8
TIMEOUT_S = 600


@dataclass(frozen=True)
class Settings:
    """What a sampler is asked for, in the names of our options; neutral by default."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0


CASES: Mapping[str, Settings | None] = {
    "greedy": Settings(temperature=0.0),
    "temperature": Settings(temperature=0.7),
    "min-p": Settings(temperature=0.8, min_p=0.05),
    "top-p": Settings(temperature=0.8, top_p=0.95),
    "top-p hot": Settings(temperature=1.5, top_p=0.95),
    "top-p min-p": Settings(temperature=0.8, top_p=0.95, min_p=0.05),
    "top-k": Settings(temperature=0.8, top_k=40),
    "top-k 1000": Settings(temperature=0.8, top_k=1000, top_p=0.95),
    "top-k top-p": Settings(temperature=0.8, top_k=40, top_p=0.95, repetition_penalty=1.1),
    "all": Settings(0.8, 40, 0.95, 0.05, 1.1, 0.2, 0.1),
    "all but top-k": Settings(0.8, 0, 0.95, 0.05, 1.1, 0.2, 0.1),
    "text": None,
    "second start": None,
    "encode": None,
}


@dataclass(frozen=True)
class Run:
    """Median seconds for a token or a text, with quartiles.

    ``rows`` is the kind of logits, how many tokens came before, or the tokenizer and the characters of the text.
    """

    case: str
    rows: str
    peer: str
    seconds: float
    low: float
    high: float
    failed: str = ""


def logits(kind: str) -> npt.NDArray[np.float32]:
    """Rows of one kind."""
    random = np.random.default_rng(0)
    rows = random.normal(0, 2.5 if kind == "broad" else 2.0, (ROWS, WIDTH))
    if kind == "peaked":
        rows -= 4
        for row in rows:
            row[random.choice(WIDTH, 200, replace=False)] += 6 + random.exponential(4, 200)
    return rows.astype(np.float32)


def _ask(python: str, peer: str, order: Mapping[str, object]) -> list[tuple[str, list[float]]]:
    """Times that the program of a peer tells, under their names."""
    command = [python, "-c", PROGRAMS[peer], json.dumps(order)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no message"])[-1][:200])
    return [(name, times) for name, times in json.loads(done.stdout.splitlines()[-1]).items()]


def measure(case: str, kind: str, peer: str, python: str, scratch: Path) -> Iterator[Run]:
    """One peer on one case, in a process of its own."""
    settings = CASES[case]
    order = {"rows": str(scratch / f"{kind}.npy"), "model": str(scratch / "genai"), "width": WIDTH}
    tokenizer = scratch / "encode" / f"{kind}.json" if case == "encode" else scratch / "wide" / "tokenizer.json"
    order |= {"tokenizer": str(tokenizer)}
    program = peer if settings else case
    try:
        answers = _ask(python, program, order | {"settings": settings and asdict(settings)})
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        yield Run(case, kind, peer, 0.0, 0.0, 0.0, str(error))
        return
    for name, times in answers:
        low, middle, high = statistics.quantiles(times, n=4)
        rows, _, who = name.partition("@")
        yield Run(case, rows or kind, who or peer, middle, low, high)


def table(runs: Sequence[Run]) -> list[str]:
    """Median of the runs of each case and peer in microseconds, and its ratio to ours."""
    lines = [f"{'case':16} {'rows':22} {'peer':17} {'us':>9}  quartiles"]
    for case, rows in dict.fromkeys((run.case, run.rows) for run in runs):
        here = [run for run in runs if (run.case, run.rows) == (case, rows)]
        ours = [run.seconds for run in here if run.peer == "fastslm"]
        for peer in dict.fromkeys(run.peer for run in here):
            own = [run for run in here if run.peer == peer]
            if failed := next((run.failed for run in own if run.failed), ""):
                lines.append(f"{case:16} {rows:22} {peer:17} {failed}")
                continue
            middle, low, high = (statistics.median(getattr(run, n) for run in own) for n in ("seconds", "low", "high"))
            ratio = f"  {middle / statistics.median(ours):7.1f} x ours" if ours and peer != "fastslm" else ""
            figures = f"{middle * 1e6:9.1f}  ({low * 1e6:.1f} to {high * 1e6:.1f}){ratio}"
            lines.append(f"{case:16} {rows:22} {peer:17} {figures}")
    return lines


def main(cases: Sequence[str], wishes: Wishes, output: Path | None) -> None:
    """Run the cases, see ``report``."""
    report(output, lambda scratch: _runs(cases or tuple(CASES), wishes, scratch), table)


def _runs(cases: Sequence[str], wishes: Wishes, scratch: Path) -> Iterator[Run]:
    peers = {"fastslm": sys.executable}
    peers |= {name: python for name, _, python in (wish.partition("=") for wish in wishes.peers)}
    if set(cases) - {"encode"}:
        _prepare(scratch, with_genai="genai" in peers)
    names = [path.stem for path in encoding.prepare(scratch / "encode")] if "encode" in cases else []
    for case in cases:
        alone = CASES[case] is None
        for kind in (names if case == "encode" else [""]) if alone else ["broad", "peaked"]:
            for _ in range(wishes.repeat):
                for peer, python in list(peers.items())[: 1 if alone else None]:
                    yield from measure(case, kind, peer, python, scratch)


def _prepare(scratch: Path, *, with_genai: bool) -> None:
    """Rows, a tokenizer, and a model of one small layer for the peer that samples for models only."""
    for kind in ("broad", "peaked"):
        np.save(scratch / f"{kind}.npy", logits(kind))
    source = shapes.write("wide", scratch / "wide")
    if with_genai:
        words = ["convert", str(source), "--target", "portable", "--precision", "fp32", "--quality", "never", "--quiet"]
        subprocess.run([sys.executable, "-m", "fastslm", *words, "-o", str(scratch / "genai")], check=True)
