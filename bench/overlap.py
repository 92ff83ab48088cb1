"""A pull beside its halves: download only, conversion only, and both at once, from a server on this machine.

The line is held to a rate by the download itself, so that no helper takes the processors. ``convert`` is measured on
what ``download`` brought. Disk is the most that cache and models took together at any time.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import shapes
from bench.convert import MODELS, size_mb
from bench.download import Wishes, note_of, program
from bench.report import Cost, report
from bench.server import REPO
from fastslm._native import hash_file

MB = 1_000_000
SHAPE = "llama-3.2-1b"
SHARDS = 5
TIMEOUT_S = 900


@dataclass(frozen=True)
class Case:
    """How fast the line is, in MB/s (0 for as fast as it can), and in how many files the weights come."""

    rate: int
    shards: int = 1


CASES = {"100 MB/s": Case(100), "300 MB/s": Case(300), "no limit": Case(0), "100 MB/s, 5 files": Case(100, SHARDS)}
PEERS = ("download", "convert", "pull", "pull, discarding")


@dataclass(frozen=True)
class Run(Cost):
    """One measurement; ``share`` is the time of a pull over the longer of its halves, measured just before."""

    share: float = 0.0
    failed: str = ""


def sharded(source: Path, folder: Path, shards: int) -> Path:
    """The model in several files, about as large as each other."""
    if (folder / "model.safetensors.index.json").is_file():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path in source.glob("*.json"):
        shutil.copy(path, folder)
    weights = source / "model.safetensors"
    with weights.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = {name: each for name, each in json.loads(file.read(length)).items() if name != "__metadata__"}
        order = sorted(header, key=lambda name: int(header[name]["data_offsets"][0]))
        share = weights.stat().st_size / shards
        weight_map: dict[str, str] = {}
        groups: list[list[str]] = [[] for _ in range(shards)]
        for name in order:
            groups[min(shards - 1, int(header[name]["data_offsets"][0] / share))].append(name)
        for number, names in enumerate(groups, 1):
            target = f"model-{number:05d}-of-{shards:05d}.safetensors"
            weight_map |= dict.fromkeys(names, target)
            base = header[names[0]]["data_offsets"][0]
            part = {
                name: {**header[name], "data_offsets": [at - base for at in header[name]["data_offsets"]]}
                for name in names
            }
            text = json.dumps(part).encode()
            file.seek(8 + length + base)
            with (folder / target).open("wb") as made:
                made.write(len(text).to_bytes(8, "little") + text)
                left = header[names[-1]]["data_offsets"][1] - base
                while left:
                    block = file.read(min(left, 8 * MB))
                    made.write(block)
                    left -= len(block)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}), encoding="utf-8")
    return folder


def note_hashes(folder: Path) -> None:
    """What the server announces."""
    for path in folder.iterdir():
        if path.suffix in (".json", ".safetensors") and not note_of(path).exists():
            note_of(path).write_text(hash_file(str(path), "sha256"), encoding="utf-8")


def _command(peer: str, rate: int) -> list[str]:
    if peer == "convert":
        return ["convert", REPO]
    limit = ["--limit-rate", f"{rate}M"] if rate else []
    extra = {"download": ["--no-convert"], "pull, discarding": ["--discard-source"]}.get(peer, [])
    return ["pull", REPO, *limit, *extra]


def measure(name: str, peer: str, port: int, home: Path) -> Run:
    """One command on its own."""
    command = [sys.executable, "-m", "fastslm", *_command(peer, CASES[name].rate), "--quiet", "--precision", "int4"]
    command = [word for word in command if peer != "download" or word not in ("--precision", "int4")]
    command += ["--quality", "never"] if peer != "download" else []
    places = {"HF_ENDPOINT": f"http://127.0.0.1:{port}", "HF_HOME": str(home / "hf"), "FASTSLM_HOME": str(home / "own")}
    began, disk = time.monotonic(), 0.0
    with (home / "errors").open("w+", encoding="utf-8") as errors:
        child = subprocess.Popen(command, env={**os.environ, **places}, stdout=subprocess.DEVNULL, stderr=errors)
        while True:
            pid, status, used = os.wait4(child.pid, os.WNOHANG)
            disk = max(disk, size_mb(home))
            if pid:
                break
            if time.monotonic() > began + TIMEOUT_S:
                child.kill()
            time.sleep(0.02)
        seconds = time.monotonic() - began
        child.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        failed = (errors.read().strip().splitlines() or ["no message"])[-1][:200] if child.returncode else ""
    figures = (seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, disk)
    seconds, cpu_s, rss_mb, disk = (round(each, 1) for each in figures)
    return Run(name, peer, seconds, cpu_s, rss_mb, disk, failed=failed)


def run_case(name: str, wishes: Wishes) -> Iterator[Run]:
    """Download, conversion of that, and the two kinds of pull, in turn."""
    source = shapes.write(SHAPE, MODELS / SHAPE)
    if CASES[name].shards > 1:
        source = sharded(source, MODELS / f"{SHAPE}-{CASES[name].shards}", CASES[name].shards)
    note_hashes(source)
    with program("-m", "bench.server", str(source)) as port:
        for _ in range(wishes.repeat):
            with tempfile.TemporaryDirectory(dir=MODELS) as folder:
                halves = [measure(name, peer, port, Path(folder)) for peer in PEERS[:2]]
            yield from halves
            longer = max(run.seconds for run in halves)
            for peer in PEERS[2:]:
                with tempfile.TemporaryDirectory(dir=MODELS) as folder:
                    run = measure(name, peer, port, Path(folder))
                yield Run(**{**vars(run), "share": round(run.seconds / longer, 3)})


def table(runs: Sequence[Run]) -> list[str]:
    """Medians of each case and command."""
    lines = [f"{'line':18} {'command':18} {'s':>7} {'cpu s':>7} {'RSS MB':>8} {'disk MB':>8} {'of the longer':>14}"]
    for case in dict.fromkeys(run.case for run in runs):
        for peer in PEERS:
            own = [run for run in runs if (run.case, run.peer) == (case, peer) and not run.failed]
            if not own:
                lines.append(f"{case:18} {peer:18} failed")
                continue
            middle = {
                key: statistics.median(getattr(run, key) for run in own) for key in vars(own[0]) if key in FIGURES
            }
            share = f"{middle['share']:14.2f}" if middle["share"] else ""
            figures = (
                f"{middle['seconds']:7.1f} {middle['cpu_s']:7.1f} {middle['rss_mb']:8.0f} {middle['disk_mb']:8.0f}"
            )
            lines.append(f"{case:18} {peer:18} {figures} {share}".rstrip())
    return lines


FIGURES = ("seconds", "cpu_s", "rss_mb", "disk_mb", "share")


def main(cases: Sequence[str], wishes: Wishes, output: Path | None) -> None:
    """Run the cases, see ``report``."""
    report(output, lambda _: (run for name in cases or CASES for run in run_case(name, wishes)), table)
