"""Pictures of a run, for README: speed against peers, memory read against the bandwidth, time per operator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.generate.figures import Figure, median

OURS, OTHER, BOUND = "#0b6e4f", "#9aa5b1", "#c1121f"
LEAST_SHARE = 0.02
"""Operators that take less are shown together."""

LEAST_NAMED = 0.07
"""Part of the picture's width that a name needs."""


def write(about: Mapping[str, Any], figures: Sequence[Figure], folder: Path) -> None:
    """Write ``speed.png``, ``roofline.png`` and ``operators.png`` of what was measured."""
    try:
        import matplotlib
    except ImportError:
        raise SystemExit("plots need matplotlib: python -m pip install --group bench") from None
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    machine = about.get("machine", {})
    note = f"{machine.get('cpu', '')}, {machine.get('cores', '?')} cores, commit {about.get('commit', '?')}"
    for name, draw in (("speed", _speed), ("roofline", _roofline), ("operators", _operators)):
        picture = draw(plt, figures)
        if picture is not None:
            picture.text(0.01, 0.005, note, fontsize=7, color="#555555")
            picture.tight_layout(rect=(0, 0.03, 1, 1))
            picture.savefig(folder / f"{name}.png", dpi=120)
            plt.close(picture)


def _cases(figures: Sequence[Figure], *what: str) -> list[tuple[str, int, str]]:
    """Shape, prompt and kind of what two threads did with one row, for at least two contestants."""
    found = [(f.shape, f.prompt, f.what) for f in figures if f.what in what and (f.rows, f.threads) == (1, 2)]
    unique = sorted(dict.fromkeys(found), key=lambda case: (case[0], case[1], case[2] != "prefill"))
    return [case for case in unique if len(_medians(figures, *case)) > 1]


def _medians(figures: Sequence[Figure], shape: str, prompt: int, what: str) -> dict[str, float]:
    case = {"shape": shape, "prompt": prompt, "rows": 1, "threads": 2}
    peers = dict.fromkeys(f.peer for f in figures)
    found = {peer: median(figures, what, peer, **case) for peer in peers}
    return {peer: value for peer, value in found.items() if value is not None}


def _speed(plt: Any, figures: Sequence[Figure]) -> Any:
    cases = _cases(figures, "prefill", "decode")
    if not cases:
        return None
    columns = 2
    rows = -(-len(cases) // columns)
    picture, axes = plt.subplots(rows, columns, figsize=(11, 0.6 + 2.6 * rows), squeeze=False)
    for axis, case in zip(axes.flat, cases, strict=False):
        values = _medians(figures, *case)
        names = sorted(values, key=lambda name: values[name])
        bars = axis.barh(names, [values[name] for name in names], color=[_colour(name) for name in names])
        axis.bar_label(bars, fmt="%.0f" if max(values.values()) > 100 else "%.1f", fontsize=8, padding=2)
        shape, prompt, what = case
        doing = f"reads a prompt of {prompt}" if what == "prefill" else f"writes behind a prompt of {prompt}"
        axis.set_title(f"{shape}: {doing}, tokens/s", fontsize=9)
        _plain(axis, max(values.values()))
    for axis in axes.flat[len(cases) :]:
        axis.axis("off")
    return picture


def _roofline(plt: Any, figures: Sequence[Figure]) -> Any:
    cases = [case for case in _cases(figures, "memory read") if _bandwidth(figures, case)]
    if not cases:
        return None
    rows = -(-len(cases) // 2)
    picture, axes = plt.subplots(rows, 2, figsize=(11, 0.6 + 2.4 * rows), squeeze=False)
    for axis, case in zip(axes.flat, cases, strict=False):
        values, bound = _medians(figures, *case), _bandwidth(figures, case)
        bars = axis.barh(list(values), list(values.values()), color=[_colour(name) for name in values])
        axis.bar_label(bars, [f"{value / bound:.0%}" for value in values.values()], fontsize=7, padding=2)
        axis.axvline(bound, color=BOUND, linewidth=1)
        axis.invert_yaxis()
        axis.tick_params(labelsize=7)
        axis.set_title(f"{case[0]} behind {case[1]}: GB/s read while writing; red: plain read of memory", fontsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes.flat[len(cases) :]:
        axis.axis("off")
    return picture


def _bandwidth(figures: Sequence[Figure], case: tuple[str, int, str]) -> float:
    shape, prompt, _ = case
    return median(figures, "bandwidth", "plain read", shape=shape, prompt=prompt, threads=2) or 0.0


def _operators(plt: Any, figures: Sequence[Figure]) -> Any:
    own = [figure for figure in figures if figure.part]
    cases = list(dict.fromkeys((f.shape, f.prompt, f.rows, f.what) for f in own))
    if not cases:
        return None
    picture, axes = plt.subplots(len(cases), 1, figsize=(11, 0.8 + 1.3 * len(cases)), squeeze=False)
    for axis, case in zip(axes.flat, cases, strict=True):
        here = [f for f in own if (f.shape, f.prompt, f.rows, f.what) == case]
        peers = list(dict.fromkeys(f.peer for f in here))
        longest = max(sum(f.value for f in here if f.peer == peer) for peer in peers)
        for peer in reversed(peers):
            _stack(axis, peer, {f.part: f.value for f in here if f.peer == peer}, longest)
        shape, prompt, rows, what = case
        doing = f"a prompt of {prompt}" if "prompt" in what else f"one token behind {prompt}"
        axis.set_title(f"{shape}: {doing}{f', {rows} rows' if rows > 1 else ''}, ms", fontsize=8)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    return picture


def _stack(axis: Any, peer: str, parts: Mapping[str, float], longest: float) -> None:
    whole, left = sum(parts.values()), 0.0
    colour, ink = (OURS, "white") if peer == "fastslm" else (OTHER, "black")
    shown = {name: value for name, value in parts.items() if value >= LEAST_SHARE * whole}
    shown["others"] = whole - sum(shown.values())
    for name, value in sorted(shown.items(), key=lambda item: -item[1]):
        axis.barh(peer, value, left=left, edgecolor="white", color=colour)
        if value > LEAST_NAMED * longest:
            axis.text(left + value / 2, peer, f"{name}\n{value:.1f}", ha="center", va="center", fontsize=6, color=ink)
        left += value


def _colour(name: str) -> str:
    return OURS if name.startswith("fastslm") else OTHER


def _plain(axis: Any, longest: float) -> None:
    axis.set_xlim(0, 1.15 * longest)
    axis.set_xticks([])
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right", "bottom"]].set_visible(False)
