"""Downloads over lines made of user space: which peer is how fast, and at what cost."""

from __future__ import annotations

import hashlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.peers import PEERS, Order, environment, present
from bench.report import report, table

RELAY = Path(__file__).parent.parent / "tests" / "support" / "relay.py"
MB = 1_000_000
HOME: dict[str, object] = {"rate": 4 * MB, "link": 60 * MB, "delay_s": 0.04}


@dataclass(frozen=True)
class Case:
    """A line, the sizes of the files in MB, and what the peers are given."""

    line: Mapping[str, object]
    sizes: Sequence[float] = (400,)
    kill_at: float = 0
    peers: Sequence[str] = tuple(PEERS)
    options: Sequence[tuple[str, Mapping[str, object]]] = (("fastslm", {}),)
    timeout_s: float = 300


TWELVE = (3, 5, 8, 12, 16, 20, 25, 32, 45, 64, 100, 200)
FIXED: list[tuple[str, Mapping[str, object]]] = [
    (f"fastslm fixed {n}", {"connections": n, "adaptive": False}) for n in (1, 2, 4, 8, 16)
]
CRAWL = HOME | {"bad_every": 8, "bad_after": 2 * MB}

CASES = {
    "relay": Case(HOME),
    "12 files": Case(HOME, TWELVE),
    "favours one": Case({"link": 20 * MB, "delay_s": 0.04}, (200,), options=[("fastslm", {}), *FIXED]),
    "loopback": Case({}, (4000,)),
    "crawl": Case(CRAWL),
    "stall": Case(CRAWL | {"bad_kind": "stall"}),
    "kill": Case(HOME, kill_at=0.5, peers=("fastslm", "aria2", "huggingface_hub")),
}


@dataclass(frozen=True)
class Run:
    """One measurement; a failed one says why."""

    case: str
    peer: str
    seconds: float
    rate_mb_s: float
    cpu_s_per_gb: float
    rss_mb: float
    wire_excess: float = 0
    fetched_again: float = 0
    failed: str = ""
    facts: dict[str, object] = field(default_factory=dict)


@contextmanager
def program(*command: str) -> Iterator[int]:
    """A helper process that prints its port and ends with its input."""
    with subprocess.Popen([sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as made:
        assert made.stdout is not None
        assert made.stdin is not None
        try:
            yield int(made.stdout.readline())
        finally:
            made.stdin.close()
            try:
                made.wait(10)
            except subprocess.TimeoutExpired:
                made.kill()


def note_of(path: Path) -> Path:
    """Where the SHA-256 of a served file is noted."""
    return path.with_name(path.name + ".sha256")


def make_files(folder: Path, sizes: Sequence[float]) -> list[tuple[str, str, int]]:
    """Random files with their hashes beside them; those that are there already stay."""
    made = []
    for megabytes in sizes:
        path, size = folder / f"{megabytes:g}mb.bin", int(megabytes * MB)
        note = note_of(path)
        if not note.exists():
            digest = hashlib.sha256()
            with path.open("wb") as file:
                for start in range(0, size, 8 * MB):
                    block = os.urandom(min(8 * MB, size - start))
                    digest.update(block)
                    file.write(block)
            note.write_text(digest.hexdigest(), encoding="utf-8")
        made.append((path.name, note.read_text(encoding="utf-8"), size))
    return made


def start_process(command: Sequence[str], changes: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """A peer, without a proxy and with its output kept."""
    return subprocess.Popen(
        command, env=environment(dict(changes or {})), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish_process(child: subprocess.Popen[str], timeout_s: float) -> tuple[bool, resource.struct_rusage]:
    """Wait with a limit; whether it ended well, and what it used."""
    deadline = time.monotonic() + timeout_s
    while True:
        pid, status, used = os.wait4(child.pid, os.WNOHANG)
        if pid:
            child.returncode = os.waitstatus_to_exitcode(status)
            return child.returncode == 0, used
        if time.monotonic() > deadline:
            child.kill()
            deadline = float("inf")
        time.sleep(0.002)


def _start(peer: str, order: Order) -> subprocess.Popen[str]:
    return start_process(*PEERS[peer.partition(" ")[0]](order))


def _measure(name: str, case: Case, peer: str, order: Order) -> Run:
    total = sum(size for _, _, size in order.files)
    killed_at = _kill_half_way(peer, order, case.kill_at * total) if case.kill_at else 0
    began = time.monotonic()
    child = _start(peer, order)
    good, used = finish_process(child, case.timeout_s)
    seconds = time.monotonic() - began
    out, err = child.communicate()
    facts = json.loads(out.splitlines()[-1]) if good and out.strip().endswith("}") else {}
    seconds = facts.get("seconds", seconds)
    fetched = facts.get("wire_bytes", 0) + facts.get("resumed", 0)
    return Run(
        case=name,
        peer=peer,
        seconds=round(seconds, 3),
        rate_mb_s=round(total / MB / seconds, 2),
        cpu_s_per_gb=round((used.ru_utime + used.ru_stime) / (total / 1e9), 3),
        rss_mb=round(used.ru_maxrss / 1024, 1),
        wire_excess=round(fetched / total - 1, 4) if fetched else 0,
        fetched_again=round((killed_at - facts["resumed"]) / total, 4) if killed_at and "resumed" in facts else 0,
        failed="" if good else (err.strip().splitlines() or ["time is up"])[-1][:200],
        facts=facts,
    )


def _kill_half_way(peer: str, order: Order, enough: float) -> int:
    """Kill the peer once it has written ``enough`` bytes; how many it had written."""
    began = time.monotonic()
    child = _start(peer, order)
    while time.monotonic() - began < 120 and child.poll() is None:
        if _bytes_written(child.pid) >= enough:
            break
        time.sleep(0.005)
    written = _bytes_written(child.pid)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    return written


def _bytes_written(pid: int) -> int:
    """What a process has handed to write calls so far."""
    try:
        found = re.search(r"wchar: (\d+)", Path(f"/proc/{pid}/io").read_text(encoding="utf-8"))
    except OSError:
        return 0
    return int(found.group(1)) if found else 0


@dataclass(frozen=True)
class Wishes:
    """How often each peer runs, how large the files are as a share of the usual size, and which peers (all if none)."""

    repeat: int = 3
    scale: float = 1.0
    peers: Sequence[str] = ()


def run_case(name: str, scratch: Path, wishes: Wishes) -> Iterator[Run]:
    """Every peer in turn, again and again."""
    case = CASES[name]
    source = scratch / "files"
    source.mkdir(exist_ok=True)
    files = make_files(source, [max(1, round(size * wishes.scale)) for size in case.sizes])
    there = present()
    entrants = [(peer, "") for peer in case.peers if peer in there and peer != "fastslm"]
    entrants += [(label, json.dumps(options)) for label, options in case.options]
    for _ in range(wishes.repeat):
        for peer, options in entrants:
            if wishes.peers and peer not in wishes.peers:
                continue
            yield _one(name, peer, options, source, files)


def _one(name: str, peer: str, options: str, source: Path, files: Sequence[tuple[str, str, int]]) -> Run:
    case = CASES[name]
    with tempfile.TemporaryDirectory(dir=source.parent) as folder, program("-m", "bench.server", str(source)) as port:
        target = Path(folder)
        if not case.line:
            return _measure(name, case, peer, Order(port, files, target, options))
        with program(str(RELAY), f"127.0.0.1:{port}", json.dumps(case.line)) as relay:
            return _measure(name, case, peer, Order(relay, files, target, options))


def main(cases: Sequence[str], wishes: Wishes, output: Path | None) -> None:
    """Run the cases, see ``report``."""
    report(output, lambda scratch: (run for name in cases or CASES for run in run_case(name, scratch, wishes)), table)
