"""``python -m bench generate``: prompts, answers, loading and memory, of us and of others in turn.

Without ``--case`` it runs what the judge's table needs, about a quarter of an hour on two cores without other work, and
prints that table; ``--prepare`` makes every file before. ``--judge FILE`` and ``--plots FOLDER --judge FILE`` read
earlier runs.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

from bench.generate import contest, figures, judge, peers
from bench.generate.cases import CASES, MAIN, Case
from bench.generate.figures import Figure
from bench.generate.models import Maker
from bench.report import report


def _arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench generate", description=__doc__)
    parser.add_argument("--case", action="append", choices=[*CASES, "all"], help="repeatable")
    parser.add_argument("--peer", action="append", default=[], help="by its name in the table; repeatable")
    parser.add_argument("--repeat", type=int, help="rounds, instead of the case's own number")
    parser.add_argument("--python", action="append", default=[], metavar="NAME=INTERPRETER", help="of an environment")
    parser.add_argument("--spin", choices=["auto", "on", "off"], default="auto", help="our threads wait awake")
    parser.add_argument(
        "--install", action="append", choices=[*peers.REQUIREMENTS, "all"], help="make an environment first; repeatable"
    )
    parser.add_argument(
        "--environments", type=Path, default=peers.ENVIRONMENTS, metavar="FOLDER", help="where they are"
    )
    parser.add_argument("--prepare", action="store_true", help="make the files of the cases, and stop")
    parser.add_argument("--output", type=Path, help="file to add JSON lines to, instead of stdout")
    parser.add_argument("--judge", type=Path, action="append", metavar="FILE", help="judge earlier runs, run nothing")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="write PNG files of the runs")
    return parser.parse_args(words)


def main(words: Sequence[str]) -> None:
    """Do what the command line says."""
    given = _arguments(words)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    if given.judge:
        about, found = figures.read(given.judge)
        print("\n".join(judge.table(found)))
        if given.plots:
            from bench.generate import plots

            plots.write(about, found, given.plots)
        return
    if given.install:
        peers.install(given.environments, peers.REQUIREMENTS if "all" in given.install else given.install)
    pythons = _interpreters(given.environments, given.python)
    setup = contest.Setup(Maker(pythons), _checked(given.peer), _may_spin(given.spin))
    cases = {name: CASES[name] for name in (CASES if "all" in (given.case or ()) else given.case or MAIN)}
    if given.output:
        given.output.parent.mkdir(parents=True, exist_ok=True)
    if given.prepare:
        for case in cases.values():
            setup.peers(case)
        return
    facts = {"versions": _versions(setup), "commit": _commit(), "spin": setup.spin, "cases": list(cases)}
    report(given.output, lambda _: _figures(cases, setup, given.repeat), _summary, **facts)


def _interpreters(folder: Path, wishes: Sequence[str]) -> dict[str, str]:
    found = peers.interpreters(folder, wishes)
    for name in peers.REQUIREMENTS.keys() - found:
        print(f"there is no environment `{name}`: its contestants are left out", file=sys.stderr)
    return found


def _checked(names: Sequence[str]) -> Sequence[str]:
    """Refuse the name of a peer that nobody has."""
    for name in names:
        if name not in peers.known():
            raise SystemExit(f"there is no peer `{name}`, expected one of: {', '.join(peers.known())}")
    return names


def _figures(cases: dict[str, Case], setup: contest.Setup, repeat: int | None) -> Iterator[Figure]:
    from dataclasses import replace

    for name, case in cases.items():
        began = time.monotonic()
        yield from contest.run(replace(case, repeat=repeat) if repeat else case, setup)
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr)


def _summary(found: Sequence[Figure]) -> list[str]:
    return [*figures.table(found), "", *judge.table(found, judge.measured(found))]


def _may_spin(wish: str) -> bool:
    """Whether the machine is quiet now; later its load is that of the contestants themselves."""
    from fastslm.machine import is_busy

    return wish == "on" or (wish == "auto" and not is_busy())


def _versions(setup: contest.Setup) -> dict[str, str]:
    """Of every package of the environments that takes part."""
    names = {"": ["fastslm", "onnxruntime", "numpy"]}
    for environment, wanted in peers.REQUIREMENTS.items():
        names[environment] = [name.partition("==")[0] for name in wanted if not name.startswith("-")]
    found = {}
    for environment, python in setup.maker.pythons.items():
        for name in names[environment]:
            code = f"from importlib.metadata import version as v; print(v({name!r}))"
            done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
            found[f"{environment or 'fastslm'}/{name}"] = done.stdout.strip()
    return found


def _commit() -> str:
    """Of the sources, with a mark when they were changed since."""
    root = Path(__file__).parent.parent.parent
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"})
    return done.stdout.strip() or version("fastslm")
