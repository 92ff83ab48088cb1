"""How many threads a model runs on: chosen by measurement, once on each machine and for each share of it.

Reading memory is what generation does. The least number that reads about as fast as any is the best: a hyper-thread
only adds contention, and a slow core makes the others wait. With one number to choose from nothing is measured.
"""

from __future__ import annotations

from contextlib import suppress

from fastslm.errors import FastSLMError, StoreError
from fastslm.machine import Cores, inspect_cores, is_busy
from fastslm.store.machine_file import MachineFile

BUFFER_BYTES = 64 * 1024 * 1024
"""Filled in some 30 ms; larger than the last-level cache of most machines with cores to choose from."""

MEASURE_S = 0.2
ENOUGH = 0.95
"""Share of the best rate that is as good as the best."""


def usual_threads(file: MachineFile, cores: Cores | None = None) -> int:
    """Threads for generation on these cores, by default this machine's; measured once, when no other work disturbs."""
    cores = cores or inspect_cores()
    choices = cores.choices
    if len(choices) == 1:
        return choices[0]
    known = file.threads(_share(cores))
    if known in choices:
        return known
    chosen = None if is_busy() else _measured(choices)
    if chosen is None:
        return cores.threads
    with suppress(StoreError):  # a home that cannot be written costs another measurement
        file.note_threads(_share(cores), chosen)
    return chosen


def _share(cores: Cores) -> str:
    """What the choice depends on."""
    return f"{cores.logical} {cores.physical} {cores.fast} {'-' if cores.quota is None else format(cores.quota, 'g')}"


def _measured(choices: tuple[int, ...]) -> int | None:
    """None when it cannot be measured: there is no memory for it, or the system gives no more threads."""
    from fastslm._native import read_in_step

    try:
        rates = read_in_step(BUFFER_BYTES, choices, MEASURE_S)
    except (FastSLMError, MemoryError, RuntimeError):
        return None
    return next(count for count, rate in zip(choices, rates, strict=True) if rate >= ENOUGH * max(rates))
