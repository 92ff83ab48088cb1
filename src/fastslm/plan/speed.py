"""How fast a model answers: the time to read its weights and cache once for each token, corrected by real answers.

A token costs its bytes over the memory bandwidth (at the share of it that our kernels reach) and a little for every
layer. What is wrong with that on a machine shows in the answers that ``machine.json`` remembers: their times over the
formula's give the correction. Other programs can only make an answer slower, so the faster ones tell more.
"""

from __future__ import annotations

from collections.abc import Sequence

from fastslm.export.footprint import Footprint
from fastslm.store.machine_file import MachineFile, Run, measure_bandwidth

LAYER_S = {"native": 2.0e-5, "portable": 1.0e-4}
FLOAT_SHARE = 1.0
SHARE = {"native": 1.1, "portable": 0.85}
"""Share of the read bandwidth that decoding reaches with quantised weights. Our kernels prefetch far ahead, which the
plain loop that measures the bandwidth does not."""

SIMILAR = 4.0
"""Models whose sizes differ by no more than this factor are held to be alike."""

ENOUGH_RUNS = 3
"""Answers of other sizes count from this number on."""

TYPICAL_POSITION = 512
"""Where in a conversation the speed is told for."""


def measured_bandwidth(file: MachineFile, threads: int, available_bytes: int) -> float | None:
    """Bytes per second that memory gives; measured once, in about half a second, and remembered.

    None when there is too little memory to measure.

    Raises:
        StoreError: the measurement cannot be written down.
    """
    known = file.bandwidth(threads)
    if known is not None:
        return known
    rate = measure_bandwidth(threads, available_bytes)
    if rate is not None:
        file.note_bandwidth(threads, rate)
    return rate


def tokens_per_s(footprint: Footprint, context: int, bandwidth: float, runs: Sequence[Run]) -> float:
    """Expected speed in a conversation of usual length; ``runs`` are answers of the same kind of model."""
    position = min(TYPICAL_POSITION, context // 2)
    expected = Run(
        footprint.kind,
        footprint.streamed_bytes,
        footprint.num_layers,
        footprint.kv_bytes * position,
        token_s=0.0,
    )
    return 1.0 / (formula_s(expected, bandwidth) * correction(expected, bandwidth, runs))


def formula_s(run: Run, bandwidth: float) -> float:
    """Seconds for one token, before any correction."""
    share = FLOAT_SHARE if run.kind.precision == "fp32" else SHARE[run.kind.target]
    return (run.streamed_bytes + run.kv_bytes) / (share * bandwidth) + run.num_layers * LAYER_S[run.kind.target]


def correction(expected: Run, bandwidth: float, runs: Sequence[Run]) -> float:
    """What real answers took, over the formula: the quarter that was disturbed least, of similar models first."""
    size = max(1, expected.streamed_bytes)
    alike = [run for run in runs if 1 / SIMILAR <= max(1, run.streamed_bytes) / size <= SIMILAR]
    chosen = alike or list(runs)
    if len(chosen) < (1 if alike else ENOUGH_RUNS):
        return 1.0
    ratios = sorted(run.token_s / formula_s(run, bandwidth) for run in chosen)
    return ratios[len(ratios) // 4]
