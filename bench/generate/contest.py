"""Runs a case: all are loaded, then all have a turn in every round, and only one process computes at a time."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench.generate import memory, operators
from bench.generate.cases import Case
from bench.generate.contestant import Contestant, Failure
from bench.generate.figures import Figure
from bench.generate.models import Maker, files_of
from bench.generate.peers import PEERS, Peer, known
from fastslm.engine.measure import step_bytes
from fastslm.ops import DEFAULT_CACHE_FORMAT, available_isas
from fastslm.store.machine_file import measure_bandwidth
from fastslm.store.manifest import ModelManifest

FIRST_PROMPT = 32
"""Tokens of the prompt behind which the first token of a freshly loaded model is waited for."""

MB, GB = 1e6, 1e9
Say = Callable[..., Figure]


@dataclass(frozen=True)
class Setup:
    """What a run has: interpreters, a maker of files, the peers that were asked for, and whether threads may spin."""

    maker: Maker
    wanted: Sequence[str]
    spin: bool

    def peers(self, case: Case) -> dict[Peer, Path]:
        """Those who take part in a case, with their files."""
        names = [*(case.peers or [peer.name for peer in PEERS])]
        for name in case.more:
            names += [f"fastslm {isa}" for isa in available_isas()] if name == "isa" else [name]
        found, everybody = {}, known()
        for name in dict.fromkeys(names):
            peer = everybody.get(name)
            if peer is None or peer.environment not in self.maker.pythons or (self.wanted and name not in self.wanted):
                continue
            if (files := self.maker.files(case.shape, peer.kind)) is not None:
                found[peer] = files
        return found


def run(case: Case, setup: Setup) -> Iterator[Figure]:
    """The figures of a case, as they come."""
    kinds = {"speed": _speed, "start": _start, "pair": _pair, "whole": _whole, "operators": _operators}
    return kinds[case.kind](case, setup)


@dataclass
class _Turn:
    """A contestant that is still in, and what it has read from memory for a step."""

    contestant: Contestant
    say: Say
    step_bytes: int


def _speed(case: Case, setup: Setup) -> Iterator[Figure]:
    with ExitStack() as stack:
        turns = []
        for peer, files in setup.peers(case).items():
            for rows in case.rows if peer.several else case.rows[:1]:
                say = partial(Figure, case.shape, case.threads, case.prompt, rows, peer=peer.name)
                try:
                    contestant = stack.enter_context(Contestant(peer, setup.maker.pythons[peer.environment], rows))
                    loaded, first = _load(contestant, files, case, setup)
                except Failure as error:
                    yield say("load", value=0.0, failed=str(error))
                    continue
                yield say("load", value=1000 * loaded["seconds"])
                yield say("first token", value=loaded["seconds"] + first["prefill_s"])
                turns.append(_Turn(contestant, say, _step_bytes(files, case, rows) if peer.engine == "fastslm" else 0))
        for round_ in range(case.repeat):
            bandwidth = measure_bandwidth(case.threads, 1 << 62) or 0.0
            yield Figure(case.shape, case.threads, case.prompt, 1, "bandwidth", "plain read", bandwidth / GB)
            for turn in list(turns):
                try:
                    yield from _round(turn, case, round_, bandwidth)
                except Failure as error:
                    turns.remove(turn)
                    yield turn.say("decode", value=0.0, failed=str(error))


def _load(contestant: Contestant, files: Path, case: Case, setup: Setup) -> tuple[dict[str, Any], dict[str, Any]]:
    """Load a model and have it write one token, which brings its weights into memory."""
    context = max(case.prompt, FIRST_PROMPT) + case.tokens + 1
    how = {"threads": case.threads, "context": context, "rows": contestant.rows, "spin": setup.spin}
    loaded = contestant.ask("load", path=str(files), **how)
    return loaded, contestant.ask("generate", prompt=FIRST_PROMPT, tokens=0, rows=contestant.rows, seed=0)


def _round(turn: _Turn, case: Case, round_: int, bandwidth: float) -> Iterator[Figure]:
    rows = turn.contestant.rows
    got = turn.contestant.ask("generate", prompt=case.prompt, tokens=case.tokens, rows=rows, seed=round_ + 1)
    step = statistics.median(got["steps_s"])
    yield turn.say("prefill", value=rows * case.prompt / got["prefill_s"])
    yield turn.say("decode", value=rows / step)
    yield turn.say("step", value=1000 * step)
    if turn.step_bytes:
        yield turn.say("memory read", value=turn.step_bytes / step / GB)
    if turn.step_bytes and bandwidth:
        yield turn.say("share", value=100 * turn.step_bytes / step / bandwidth)
    if round_ == 0:
        used = memory.of_process(turn.contestant.pid)
        yield turn.say("rss", value=used["rss"] / MB)
        yield turn.say("anonymous", value=used["anonymous"] / MB)


def _step_bytes(folder: Path, case: Case, rows: int) -> int:
    manifest = ModelManifest.read(folder)
    kept = DEFAULT_CACHE_FORMAT if manifest.target == "native" else "f32"
    return step_bytes(manifest, case.prompt + case.tokens // 2, kept, rows)


def _start(case: Case, setup: Setup) -> Iterator[Figure]:
    what = "first token, cold" if case.cold else "first token"
    for _ in range(case.repeat):
        for peer, files in setup.peers(case).items():
            say = partial(Figure, case.shape, case.threads, FIRST_PROMPT, 1, peer=peer.name)
            if case.cold:
                memory.drop(files_of(files))
            try:
                with Contestant(peer, setup.maker.pythons[peer.environment]) as contestant:
                    loaded, first = _load(contestant, files, case, setup)
            except Failure as error:
                yield say(what, value=0.0, failed=str(error))
                continue
            yield say("process", value=contestant.seconds)
            yield say(what, value=loaded["seconds"] + first["prefill_s"])
            if not case.cold:
                yield say("load", value=1000 * loaded["seconds"])


def _pair(case: Case, setup: Setup) -> Iterator[Figure]:
    for peer, files in setup.peers(case).items():
        say = partial(Figure, case.shape, case.threads, case.prompt, 1, peer=peer.name)
        try:
            with ExitStack() as stack:
                pair = [stack.enter_context(Contestant(peer, setup.maker.pythons[peer.environment])) for _ in range(2)]
                for contestant in pair:
                    _load(contestant, files, case, setup)
                    contestant.ask("generate", prompt=case.prompt, tokens=case.tokens, rows=1, seed=1)
                used = [memory.of_process(contestant.pid) for contestant in pair]
        except Failure as error:
            yield say("pss of two", value=0.0, failed=str(error))
            continue
        yield say("pss of two", value=sum(each["pss"] for each in used) / MB)


def _whole(case: Case, setup: Setup) -> Iterator[Figure]:
    """``fastslm run`` from the start of its process to its end, after one that nobody counts."""
    command = [sys.executable, "-m", "fastslm", "run", case.shape, "Hello", "--max-tokens", "1", "--quiet"]
    environment: Mapping[str, str] = {**os.environ, "FASTSLM_THREADS": str(case.threads)}
    for round_ in range(case.repeat + 1):
        began = time.perf_counter()
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - began
        failed = done.stderr.strip()[-300:] if done.returncode else ""
        if round_ or failed:
            yield Figure(case.shape, case.threads, 0, 1, "whole", "fastslm", seconds, failed)
        if failed:
            return


def _operators(case: Case, setup: Setup) -> Iterator[Figure]:
    what = "operator in an answer" if case.tokens else "operator in a prompt"
    for peer, files in setup.peers(case).items():
        for rows in case.rows:
            for name, milliseconds in operators.times(files, case, rows).items():
                yield Figure(case.shape, case.threads, case.prompt, rows, what, peer.name, milliseconds, part=name)
