"""A compressed archive over capped connections: the way that people script, step after step, against ours at once."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from bench.decompress import FRAME_BYTES, MB, pack_gz, pack_tar, pack_zst, weights
from bench.download import HOME, RELAY, Wishes, finish_process, note_of, program, start_process
from bench.peers import Order
from bench.report import report, table

SIZE_MB = 200

NAIVE = """
import hashlib, json, pathlib, shutil, sys, tarfile, time, urllib.request
import zstandard
url, folder, digest, size = sys.argv[1:]
began = time.monotonic()
archive = folder + "/" + url.rsplit("/", 1)[-1]
with urllib.request.urlopen(url) as answer, open(archive, "wb") as target:
    shutil.copyfileobj(answer, target, 1 << 20)
got = time.monotonic()
if archive.endswith(".zst"):
    source = zstandard.ZstdDecompressor().stream_reader(open(archive, "rb"), read_across_frames=True)
    tarfile.open(fileobj=source, mode="r|").extractall(folder + "/unpacked", filter="data")
else:
    tarfile.open(archive).extractall(folder + "/unpacked", filter="data")
unpacked = time.monotonic()
shutil.copytree(folder + "/unpacked", folder + "/model")
for path in (pathlib.Path(archive), *pathlib.Path(folder, "model").iterdir()):
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256") if hasattr(hashlib, "file_digest") else hashlib.sha256(file.read())
    assert str(path) != archive or found.hexdigest() == digest
ended = time.monotonic()
steps = {"download": got - began, "unpack": unpacked - got, "rest": ended - unpacked}
print(json.dumps({"seconds": ended - began, **steps}))
"""

OURS = """
import json, os, sys, time
from fastslm import _native
url, folder, digest, size = sys.argv[1:]
began = time.monotonic()
name = url.rsplit("/", 1)[-1]
how = _native.UnpackOptions(format=_native.archive_format(name), folder=folder + "/.new", total_bytes=1 << 40,
                            digests=True)
file = _native.FileRequest(url=url, partial_path=folder + "/p", journal_path=folder + "/j", size_bytes=int(size),
                           hash_algorithm="sha256", expected_hash=digest, unpack=how)
download = _native.Download([file], _native.DownloadOptions())
while not download.wait(0.1):
    pass
[seen] = download.progress().files
if seen.error:
    raise seen.error
os.rename(folder + "/.new", folder + "/model")
print(json.dumps({"seconds": time.monotonic() - began, "files": len(seen.unpacked)}))
"""

PEERS = {"fastslm": OURS, "naive": NAIVE}
CASES: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "naive tar.gz": ("w.tar.gz", lambda data: pack_gz(pack_tar(data))),
    "naive tar.zst": ("w.tar.zst", lambda data: pack_zst(pack_tar(data), FRAME_BYTES)),
}


@dataclass(frozen=True)
class Run:
    """One measurement, with the steps of the naive way in ``facts``; a failed one says why."""

    case: str
    peer: str
    seconds: float
    packed_mb: float
    plain_mb: float
    failed: str
    facts: dict[str, float]


def _measure(case: str, peer: str, archive: Path, plain: int) -> Run:
    digest, size = note_of(archive).read_text(encoding="utf-8"), archive.stat().st_size
    with (
        tempfile.TemporaryDirectory(dir=archive.parent.parent) as folder,
        program("-m", "bench.server", str(archive.parent)) as port,
        program(str(RELAY), f"127.0.0.1:{port}", json.dumps(HOME)) as relay,
    ):
        url = Order(relay, (), Path(folder)).url(archive.name)
        began = time.monotonic()
        child = start_process([sys.executable, "-c", PEERS[peer], url, folder, digest, str(size)])
        good, _ = finish_process(child, 600)
        seconds = time.monotonic() - began
        out, err = child.communicate()
        written = sum(path.stat().st_size for path in (Path(folder) / "model").glob("*"))
    whole = good and written == plain
    facts = json.loads(out.splitlines()[-1]) if whole else {}
    why = "" if whole else (err.strip().splitlines() or ["not everything was written"])[-1][:200]
    took = round(facts.get("seconds", seconds), 3)
    return Run(case, peer, took, round(size / MB, 1), round(plain / MB, 1), why, facts)


def run_case(name: str, scratch: Path, wishes: Wishes) -> Iterator[Run]:
    """Both in turn, again and again."""
    file, pack = CASES[name]
    plain = max(2, round(SIZE_MB * wishes.scale)) * MB
    source = scratch / "files"
    source.mkdir(exist_ok=True)
    archive = source / file
    archive.write_bytes(pack(weights(plain)))
    note_of(archive).write_text(sha256(archive.read_bytes()).hexdigest(), encoding="utf-8")
    for _ in range(wishes.repeat):
        for peer in PEERS:
            if not wishes.peers or peer in wishes.peers:
                yield _measure(name, peer, archive, plain)


def main(cases: Sequence[str], wishes: Wishes, output: Path | None) -> None:
    """Run the cases, see ``report``."""
    report(output, lambda scratch: (run for name in cases or CASES for run in run_case(name, scratch, wishes)), table)
