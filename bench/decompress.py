"""Unpacking to disk: who is how fast, on weights that compress a little, as models do."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.download import Wishes, finish_process, start_process
from bench.report import report, table
from bench.unpackers import PEERS, present

MB = 1_000_000
SIZE_MB = 400
FRAME_BYTES = 4 << 20


@dataclass(frozen=True)
class Run:
    """One measurement; a failed one says why."""

    case: str
    peer: str
    seconds: float
    rate_mb_s: float
    cpu_s_per_gb: float
    failed: str = ""


def weights(size: int) -> bytes:
    """Normal numbers in bf16: their exponents repeat, their mantissas do not."""
    import numpy as np

    made = np.random.default_rng(1).standard_normal(size // 2, dtype=np.float32) * np.float32(0.02)
    return bytes((made.view(np.uint32) >> 16).astype(np.uint16).tobytes())


def vocabulary(size: int) -> bytes:
    """Text as in a tokenizer.json, which compresses well."""
    lines = (f'"{hash_of(number):x}": {number}, ' for number in range(size // 16))
    return "".join(lines).encode()[:size]


def hash_of(number: int) -> int:
    """Not random, and not regular."""
    return number * 2654435761 % (1 << 32)


def pack_gz(data: bytes) -> bytes:
    """One member, a fast level."""
    return gzip.compress(data, 1, mtime=0)


def pack_zst(data: bytes, frame: int = 1 << 40) -> bytes:
    """One frame, or one for each ``frame`` bytes."""
    import zstandard

    packer = zstandard.ZstdCompressor(level=3)
    return b"".join(packer.compress(data[at : at + frame]) for at in range(0, len(data), frame))


def pack_zip(data: bytes) -> bytes:
    """Two deflated members."""
    out, half = io.BytesIO(), len(data) // 2
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("a.bin", data[:half])
        archive.writestr("b.bin", data[half:])
    return out.getvalue()


def pack_tar(data: bytes) -> bytes:
    """Two members."""
    out, half = io.BytesIO(), len(data) // 2
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, part in (("a.bin", data[:half]), ("b.bin", data[half:])):
            info = tarfile.TarInfo(name)
            info.size = len(part)
            archive.addfile(info, io.BytesIO(part))
    return out.getvalue()


CASES = {
    "gz": ("gz", "w.gz", weights, pack_gz),
    "gz text": ("gz", "t.gz", vocabulary, pack_gz),
    "zst one frame": ("zst", "one.zst", weights, pack_zst),
    "zst many frames": ("zst", "many.zst", weights, lambda data: pack_zst(data, FRAME_BYTES)),
    "zip": ("zip", "w.zip", weights, pack_zip),
    "tar.gz": ("tar", "w.tar.gz", weights, lambda data: pack_gz(pack_tar(data))),
    "tar.zst": ("tar", "w.tar.zst", weights, lambda data: pack_zst(pack_tar(data), FRAME_BYTES)),
}
"""Kind of archive, file name, what is packed, and how."""


def _measure(case: str, peer: str, archive: Path, size: int) -> Run:
    with tempfile.TemporaryDirectory(dir=archive.parent) as folder:
        began = time.monotonic()
        child = start_process(PEERS[peer][2](archive, Path(folder)))
        good, used = finish_process(child, 300)
        seconds = time.monotonic() - began
        out, err = child.communicate()
        if good and out.strip().endswith("}"):
            seconds = json.loads(out.splitlines()[-1])["seconds"]
        written = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    whole = good and written == size
    return Run(
        case=case,
        peer=peer,
        seconds=round(seconds, 3),
        rate_mb_s=round(size / MB / seconds, 1),
        cpu_s_per_gb=round((used.ru_utime + used.ru_stime) / (size / 1e9), 3),
        failed="" if whole else (err.strip().splitlines() or ["not everything was written"])[-1][:200],
    )


def run_case(name: str, scratch: Path, wishes: Wishes) -> Iterator[Run]:
    """Every peer in turn, again and again; the archive is in the page cache for all."""
    kind, file, make, pack = CASES[name]
    data = make(max(2, round(SIZE_MB * wishes.scale)) * MB)
    archive = scratch / file
    archive.write_bytes(pack(data))
    for _ in range(wishes.repeat):
        for peer in present(kind):
            if not wishes.peers or peer in wishes.peers:
                yield _measure(name, peer, archive, len(data))
    archive.unlink()


def main(cases: Sequence[str], wishes: Wishes, output: Path | None) -> None:
    """Run the cases, see ``report``."""
    report(output, lambda scratch: (run for name in cases or CASES for run in run_case(name, scratch, wishes)), table)
