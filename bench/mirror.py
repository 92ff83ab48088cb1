"""A bf16 model from a fastslm mirror over one line: ours packed, ours plain, the official client, and curl.

The weights are Gaussian, layer by layer with its own deviation, rounded to bfloat16, as those of a trained model are
nearly: what counts for packing is the entropy of the exponents.
"""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.download import RELAY, Wishes, finish_process, program, start_process
from bench.peers import Command, environment, python
from bench.report import report

MB = 1_000_000
LINK = {"link": 60 * MB, "delay_s": 0.001}
CASES = {"classroom": LINK}
REPO, COMMIT, FILE = "bench/bf16", "0123456789abcdef0123456789abcdef01234567", "model.safetensors"
SIDE = 2048

OURS = """
import huggingface_hub, huggingface_hub.utils, json, pathlib, sys, time
from fastslm.config import Settings
from fastslm.hub import Wishes, fetch_model, parse
endpoint, folder, packed = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3] == "packed"
settings = Settings(home=folder / "home", hub_cache=folder / "hub", endpoint=endpoint, packed=packed)
began = time.monotonic()
fetched = fetch_model(parse("bench/bf16"), settings, Wishes(include=("*",)))
seconds = time.monotonic() - began
file = str(fetched.path / "model.safetensors")
print(json.dumps({"seconds": seconds, "wire_bytes": fetched.wire_bytes, "file": file}))
"""

OFFICIAL = """
import json, sys, time
from huggingface_hub import snapshot_download
began = time.monotonic()
folder = snapshot_download("bench/bf16", endpoint=sys.argv[1], cache_dir=sys.argv[2])
print(json.dumps({"seconds": time.monotonic() - began, "file": folder + "/model.safetensors"}))
"""


@dataclass(frozen=True)
class Run:
    """One measurement; ``link_share`` is the rate at which the file grew over the link's raw rate."""

    case: str
    peer: str
    seconds: float
    rate_mb_s: float
    link_share: float
    wire_share: float
    cpu_s_per_gb: float
    mirror_cpu_s_per_gb: float
    mirror_rss_mb: float
    failed: str = ""


def make_cache(root: Path, megabytes: float) -> tuple[str, int]:
    """A Hugging Face cache with one model; its SHA-256 and its size."""
    layers = max(1, round(megabytes * MB / (2 * SIDE * SIDE)))
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    each = 2 * SIDE * SIDE
    for layer in range(layers):
        offsets = [layer * each, (layer + 1) * each]
        header[f"model.layers.{layer}.weight"] = {"dtype": "BF16", "shape": [SIDE, SIDE], "data_offsets": offsets}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    blobs = root / "models--bench--bf16" / "blobs"
    blobs.mkdir(parents=True)
    digest, size = hashlib.sha256(), 8 + len(text) + layers * each
    with (blobs / "new").open("wb") as file:
        for block in (struct.pack("<Q", len(text)) + text, *(_layer(layer) for layer in range(layers))):
            digest.update(block)
            file.write(block)
    (blobs / "new").rename(blobs / digest.hexdigest())
    snapshot = blobs.parent / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / FILE).symlink_to(f"../../blobs/{digest.hexdigest()}")
    (blobs.parent / "refs").mkdir()
    (blobs.parent / "refs" / "main").write_text(COMMIT, encoding="ascii")
    return digest.hexdigest(), size


def _layer(number: int) -> bytes:
    rng = np.random.default_rng(number)
    deviation = np.float32(0.01 * (1 + number % 7))
    bits = (rng.standard_normal((SIDE, SIDE), dtype=np.float32) * deviation).view(np.uint32)
    return bytes((((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)).tobytes())


def _ours(how: str, endpoint: str, folder: Path) -> Command:
    return python(OURS, endpoint, str(folder), how)


def _official(endpoint: str, folder: Path) -> Command:
    quiet = {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    return python(OFFICIAL, endpoint, str(folder), **quiet)


def _curl(endpoint: str, folder: Path) -> Command:
    return ["curl", "-sSf", "-o", str(folder / FILE), f"{endpoint}/{REPO}/resolve/main/{FILE}"], {}


PEERS = {
    "fastslm": lambda endpoint, folder: _ours("packed", endpoint, folder),
    "fastslm plain": lambda endpoint, folder: _ours("plain", endpoint, folder),
    "huggingface_hub": _official,
    "curl": _curl,
}


@contextmanager
def _mirror(cache: Path) -> Iterator[tuple[int, int]]:
    """A mirror in a process of its own: its port and process."""
    command = [sys.executable, "-m", "fastslm", "mirror", "--port", "0", "--quiet"]
    changes = {"HF_HUB_CACHE": str(cache)}
    with subprocess.Popen(command, env=environment(changes), stdout=subprocess.PIPE, text=True) as made:
        assert made.stdout is not None
        try:
            yield int(made.stdout.readline().rpartition(":")[2]), made.pid
        finally:
            made.terminate()
            try:
                made.wait(10)
            except subprocess.TimeoutExpired:
                made.kill()


def _used(pid: int) -> tuple[float, float]:
    """Processor seconds and the most megabytes of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    most = next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), int(most) / 1024


def _measure(peer: str, cache: Path, expected: tuple[str, int]) -> Run:
    digest, size = expected
    with (
        tempfile.TemporaryDirectory(dir=cache.parent) as folder,
        _mirror(cache) as (port, pid),
        program(str(RELAY), f"127.0.0.1:{port}", json.dumps(LINK)) as relay,
    ):
        command, changes = PEERS[peer](f"http://127.0.0.1:{relay}", Path(folder))
        began = time.monotonic()
        child = start_process(command, changes)
        good, used = finish_process(child, 300)
        seconds = time.monotonic() - began
        out, err = child.communicate()
        facts = json.loads(out.splitlines()[-1]) if good and out.strip() else {}
        seconds = facts.get("seconds", seconds)
        file = Path(facts.get("file", Path(folder) / FILE))
        right = good and hashlib.sha256(file.read_bytes()).hexdigest() == digest
        mirror_cpu, mirror_rss = _used(pid)
    return Run(
        case=next(iter(CASES)),
        peer=peer,
        seconds=round(seconds, 3),
        rate_mb_s=round(size / MB / seconds, 2),
        link_share=round(size / seconds / LINK["link"], 3),
        wire_share=round(facts.get("wire_bytes", size) / size, 4),
        cpu_s_per_gb=round((used.ru_utime + used.ru_stime) / (size / 1e9), 3),
        mirror_cpu_s_per_gb=round(mirror_cpu / (size / 1e9), 3),
        mirror_rss_mb=round(mirror_rss, 1),
        failed="" if right else (err.strip().splitlines() or ["wrong bytes"])[-1][:200],
    )


def summary(runs: Sequence[Run]) -> list[str]:
    """Medians and spread for each peer."""
    lines = ["peer                seconds (spread)        MB/s   x link   bytes sent   cpu s/GB   mirror cpu s/GB"]
    for peer in dict.fromkeys(run.peer for run in runs):
        good = [run for run in runs if run.peer == peer and not run.failed]
        if not good:
            lines.append(f"{peer:18}  failed")
            continue
        seconds = [run.seconds for run in good]
        spread = f"({min(seconds):.2f}-{max(seconds):.2f})"
        lines.append(
            f"{peer:18} {statistics.median(seconds):8.2f} {spread:14} {_middle(good, 'rate_mb_s'):8.1f}"
            f" {_middle(good, 'link_share'):8.3f} {_middle(good, 'wire_share'):12.3f}"
            f" {_middle(good, 'cpu_s_per_gb'):10.2f} {_middle(good, 'mirror_cpu_s_per_gb'):17.2f}"
        )
    return lines


def _middle(runs: Sequence[Run], name: str) -> float:
    return float(statistics.median(getattr(run, name) for run in runs))


def main(cases: Sequence[str], wishes: Wishes, output: Path | None) -> None:
    """Every peer in turn, again and again in the one case, see ``report``."""
    report(output, lambda scratch: _runs(scratch, wishes), summary, line=LINK)


def _runs(scratch: Path, wishes: Wishes) -> Iterator[Run]:
    expected = make_cache(scratch / "hub", 600 * wishes.scale)
    for _ in range(wishes.repeat):
        for peer in [peer for peer in PEERS if not wishes.peers or peer in wishes.peers]:
            yield _measure(peer, scratch / "hub", expected)
