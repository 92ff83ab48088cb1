"""A contestant's process: asked, waited for, and stopped while the others have their turn."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from bench.generate.peers import Peer

ROOT = Path(__file__).parent.parent.parent
TIMEOUT_S = 900


class Failure(Exception):
    """A contestant said why it cannot go on, or ended, or is too slow."""


class Contestant:
    """A worker that computes only while it is asked; ``seconds`` is what its start and imports took."""

    def __init__(self, peer: Peer, python: str, rows: int = 1) -> None:
        self.peer, self.rows = peer, rows
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115  # until ``close``
        path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        quiet = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONPATH": os.pathsep.join(path)}
        began = time.perf_counter()
        self._process = subprocess.Popen(
            [python, "-m", "bench.generate.worker", peer.engine],
            cwd=ROOT,
            env={**os.environ, **quiet, **dict(peer.variables)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        self._left = b""
        try:
            self._answer()
        except Failure:
            self.close()
            raise
        self.seconds = time.perf_counter() - began

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._process.pid

    def ask(self, what: str, **request: object) -> dict[str, Any]:
        """Wake it, ask it, wait for its answer, and put it to sleep. Raises Failure."""
        assert self._process.stdin is not None
        self._signal(signal.SIGCONT)
        try:
            self._process.stdin.write(json.dumps({"do": what, **request}).encode() + b"\n")
            self._process.stdin.flush()
            return self._answer()
        except BrokenPipeError:
            raise Failure(self._last_words()) from None
        finally:
            self._signal(signal.SIGSTOP)

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None and not stream.closed:
                try:
                    stream.close()
                except BrokenPipeError:
                    continue

    def __enter__(self) -> Contestant:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def _signal(self, number: signal.Signals) -> None:
        if self._process.poll() is None:
            self._process.send_signal(number)

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        deadline = time.monotonic() + TIMEOUT_S
        descriptor = self._process.stdout.fileno()
        while b"\n" not in self._left:
            ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise Failure(f"no answer within {TIMEOUT_S} s")
            piece = os.read(descriptor, 1 << 16)
            if not piece:
                raise Failure(self._last_words())
            self._left += piece
        line, _, self._left = self._left.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        if "failed" in answer:
            raise Failure(answer["failed"])
        return answer

    def _last_words(self) -> str:
        self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines() or ["no message"]
        return f"ended with {self._process.returncode}: {lines[-1]}"[:300]
