"""Line by line what was wanted (must, aim) and what a run measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from bench.generate.cases import DEMO, LARGE, OURS, SMALL
from bench.generate.figures import Figure, median
from bench.generate.peers import PEERS, STOCK, WITHOUT_AMX

OTHERS = tuple(peer.name for peer in PEERS if peer.engine != "fastslm")
Measured = Callable[[Sequence[Figure], str], "float | None"]


@dataclass(frozen=True)
class Line:
    """One thing that is wanted of ``fastslm``: the measured value, and whether less of it is better."""

    text: str
    must: float
    aim: float
    measured: Measured
    less: bool = False
    unit: str = "x"

    def verdict(self, value: float | None) -> str:
        """``aim``, ``must``, ``no``, or ``not measured``."""
        if value is None:
            return "not measured"
        reached = [name for name, bound in (("aim", self.aim), ("must", self.must)) if self._within(value, bound)]
        return reached[0] if reached else "no"

    def _within(self, value: float, bound: float) -> bool:
        return value <= bound if self.less else value >= bound


def ratio(
    figures: Sequence[Figure], ours: str, *, what: str, shape: str, prompt: int = 512, of: Sequence[str] = OTHERS
) -> float | None:
    """Our median rate over the best of the others' medians."""
    case = {"shape": shape, "prompt": prompt, "threads": 2, "rows": 1}
    own = median(figures, what, ours, **case)
    others = [value for peer in of if (value := median(figures, what, peer, **case))]
    return own / max(others) if own and others else None


def steps(figures: Sequence[Figure], ours: str, *, rows: int) -> float | None:
    """Time of a step of several rows over that of one."""
    case = {"shape": SMALL, "prompt": 32, "threads": 2}
    one, several = (median(figures, "step", ours, rows=n, **case) for n in (1, rows))
    return several / one if one and several else None


def plain(figures: Sequence[Figure], ours: str, *, what: str, **case: object) -> float | None:
    """A median."""
    return median(figures, what, ours, threads=2, rows=1, **case)


def forced(figures: Sequence[Figure], _: str, *, what: str) -> float | None:
    """AVX2 alone, int4, over the stock graph of the same numbers."""
    return ratio(figures, "fastslm avx2", what=what, shape=SMALL, of=(STOCK,))


def load(figures: Sequence[Figure], ours: str) -> float | None:
    """The slowest median of all shapes, in milliseconds."""
    shapes = {figure.shape for figure in figures}
    values = [value for shape in shapes if (value := median(figures, "load", ours, shape=shape, threads=2, rows=1))]
    return max(values) if values else None


LLAMA = tuple(name for name in OTHERS if name.startswith("llama.cpp"))
PLAIN = (WITHOUT_AMX.name,)
LINES = (
    Line("decode at 512, 0.5B, to the best peer", 1.7, 2.2, partial(ratio, what="decode", shape=SMALL)),
    Line("prefill 512, 0.5B, to the best peer", 1.6, 2.2, partial(ratio, what="prefill", shape=SMALL)),
    Line("prefill 512, 0.5B, to llama.cpp", 3, 4, partial(ratio, what="prefill", shape=SMALL, of=LLAMA)),
    Line(
        "prefill 512, 0.5B, to onnxruntime-genai",
        4,
        6,
        partial(ratio, what="prefill", shape=SMALL, of=("onnxruntime-genai",)),
    ),
    Line("decode at 512, 1B, to the best peer", 1.6, 2, partial(ratio, what="decode", shape=LARGE)),
    Line("prefill 512, 1B, to the best peer", 2.5, 4, partial(ratio, what="prefill", shape=LARGE)),
    Line("decode at 8192, 0.5B, to the best peer", 1.5, 2, partial(ratio, what="decode", shape=SMALL, prompt=8192)),
    Line("share of bandwidth, 0.5B", 80, 92, partial(plain, what="share", shape=SMALL, prompt=512), unit="%"),
    Line("share of bandwidth, 1B", 80, 92, partial(plain, what="share", shape=LARGE, prompt=512), unit="%"),
    Line("share of bandwidth, 0.5B at 8192", 80, 92, partial(plain, what="share", shape=SMALL, prompt=8192), unit="%"),
    Line("four rows to one, time of a step", 1.2, 1.1, partial(steps, rows=4), less=True),
    Line("eight rows to one, time of a step", 1.7, 1.5, partial(steps, rows=8), less=True),
    Line("prefill 512, 0.5B, to OpenVINO without AMX", 1.6, 2.2, partial(ratio, what="prefill", shape=SMALL, of=PLAIN)),
    Line("AVX2 forced, decode, to stock ONNX Runtime", 1.4, 1.7, partial(forced, what="decode")),
    Line("AVX2 forced, prefill, to stock ONNX Runtime", 1.2, 1.6, partial(forced, what="prefill")),
    Line("session load, any shape", 50, 20, load, less=True, unit="ms"),
    Line("`run demo --max-tokens 1`", 1.0, 0.6, partial(plain, what="whole", shape=DEMO), less=True, unit="s"),
    Line("RSS after a prompt of 512, 0.5B", 420, 380, partial(plain, what="rss", shape=SMALL, prompt=512), True, "MB"),
    Line("anonymous of it", 120, 90, partial(plain, what="anonymous", shape=SMALL, prompt=512), True, "MB"),
)


def measured(figures: Sequence[Figure]) -> list[Line]:
    """The lines that these figures say something of."""
    return [line for line in LINES if any(line.measured(figures, name) is not None for name in OURS)]


def table(figures: Sequence[Figure], wanted: Sequence[Line] = LINES) -> list[str]:
    """Line by line, measured with our default precision and with the one that has the others' bits."""
    if not wanted:
        return []
    lines = [f"{'':46} {'must':>6} {'aim':>6}      " + "  ".join(f"{name:24}" for name in OURS)]
    for line in wanted:
        cells = []
        for name in OURS:
            value = line.measured(figures, name)
            shown = "" if value is None else f"{value:8.2f} "
            cells.append(f"{shown + line.verdict(value):24}")
        lines.append(f"{line.text:46} {line.must:6g} {line.aim:6g} {line.unit:3}  " + "  ".join(cells).rstrip())
    return lines
