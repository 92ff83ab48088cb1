"""A machine's life with downloads: many pulls, each with its own bad luck, and what must hold after every one.

Random, but the same for the same seed. As a program (``python -m support.life FOLDER ENDPOINT CONNECTIONS``) it is one
pull in a process of its own, which the story kills.
"""

from __future__ import annotations

import hashlib
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from fastslm import _native
from fastslm.config import Settings
from fastslm.errors import FastSLMError
from fastslm.hub import Wishes, fetch_model, parse, transfer
from support.hub_server import FakeHub, Fault

REPO = "life/model"
SIZES = {
    "config.json": 300,
    "chat_template.jinja": 0,
    "tokenizer.json": 70_000,
    "piece.safetensors": 1 << 20,
    "model.safetensors": (2 << 20) + 77,
}
KILLS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


def settings_in(folder: Path, endpoint: str, connections: int) -> Settings:
    """Everything in one folder."""
    return Settings(home=folder / "home", hub_cache=folder / "cache", endpoint=endpoint, connections=connections)


def hurried(settings: Settings, url: str) -> _native.DownloadOptions:
    """The engine's options, with waits that suit a test."""
    return _native.DownloadOptions(
        connections=settings.connections,
        piece_bytes=64 << 10,
        stall_timeout_s=1,
        max_attempts=3,
        backoff_s=0.005,
        journal_interval_s=0.01,
    )


def fetch_all(settings: Settings) -> Path:
    """Pull every file of the repository."""
    return fetch_model(parse(REPO), settings, Wishes(include=("*",))).path


class Life:
    """The story; ``lived`` counts how its pulls ended."""

    def __init__(self, hub: FakeHub, folder: Path, seed: int) -> None:
        self.hub = hub
        self.folder = folder
        self.random = random.Random(seed)
        self.lived: Counter[str] = Counter()
        self.files: dict[str, bytes] = {}
        self.publish()

    def publish(self) -> None:
        """A new commit in which some files are others."""
        changed = [name for name in SIZES if name not in self.files or self.random.random() < 0.4]
        self.files |= {name: self.random.randbytes(SIZES[name]) for name in changed}
        if REPO in self.hub.repos:
            self.hub.repos[REPO].commit(self.files)
        else:
            self.hub.add_repo(REPO, self.files)

    def pull(self) -> None:
        """One day: perhaps a new commit, some faults, a pull that may be killed."""
        self.hub.clear()
        if self.random.random() < 0.3:
            self.publish()
        for _ in range(self.random.randrange(4)):
            self.hub.add_fault(self._fault())
        connections = self.random.choice((1, 2, 8))
        if self.random.random() < 0.25:
            self._pull_and_kill(connections)
        else:
            self._pull_here(connections)

    def pull_in_peace(self) -> Path:
        """The last one, without faults; the folder of the snapshot."""
        self.hub.clear()
        return fetch_all(self.settings(4))

    def settings(self, connections: int) -> Settings:
        """Those of its machine."""
        return settings_in(self.folder, self.hub.endpoint, connections)

    def _fault(self) -> Fault:
        kinds = ("status", "drop", "shift", "whole", "flip", "slow")
        path = self.random.choice([name for name in SIZES if SIZES[name]])
        fault = Fault(self.random.choice(kinds), path=path, skip=self.random.randrange(3))
        fault.times = self.random.choice((1, 1, 2, 1000))
        fault.status = self.random.choice((403, 404, 408, 416, 429, 500, 503))
        fault.offset = self.random.randrange(SIZES[path])
        fault.delay_s = 0.005
        fault.origin = "cdn" if path.endswith(".safetensors") else "hub"
        fault.method = "GET"
        return fault

    def _pull_here(self, connections: int) -> None:
        try:
            fetch_all(self.settings(connections))
        except FastSLMError as error:
            self.lived[type(error).__name__] += 1
        else:
            self.lived["good"] += 1

    def _pull_and_kill(self, connections: int) -> None:
        self.hub.add_fault(Fault("slow", path="model.safetensors", delay_s=0.01))
        kill = self.random.choice(KILLS)
        words = [str(self.folder), self.hub.endpoint, str(connections)]
        with subprocess.Popen(
            [sys.executable, "-m", "support.life", *words], cwd=Path(__file__).parents[1], stderr=subprocess.DEVNULL
        ) as child:
            self._await_first_request()
            time.sleep(self.random.random() * 0.3)
            child.send_signal(kill)
            try:
                child.wait(20)
            finally:
                child.kill()
        self.lived[kill.name if child.returncode else "good before it was killed"] += 1

    def _await_first_request(self) -> None:
        for _ in range(400):
            if self.hub.log("hub"):
                return
            time.sleep(0.02)
        raise AssertionError("the pull asked for nothing in 8 seconds")


def wrong_blobs(cache: Path) -> list[Path]:
    """Published files whose bytes are not those of their name."""
    return [path for path in cache.glob("models--*/blobs/*") if path.name not in hashes(path.read_bytes())]


def held() -> dict[str, int]:
    """What this process holds of the machine: threads, and open files by their kind."""
    kinds = Counter(threads=sum(1 for _ in Path("/proc/self/task").iterdir()))
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            kinds[str(link.readlink()).partition(":")[0]] += 1
    return dict(kinds)


def hashes(data: bytes) -> set[str]:
    """Names that a blob with this content may have."""
    return {hashlib.sha256(data).hexdigest(), hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()}


def main() -> None:
    """One pull."""
    transfer._options = hurried
    folder, endpoint, connections = sys.argv[1:]
    fetch_all(settings_in(Path(folder), endpoint, int(connections)))


if __name__ == "__main__":
    main()
