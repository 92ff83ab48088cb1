"""Where the time of a step goes: ONNX Runtime's own profile of our graphs, summed by operator."""

from __future__ import annotations

import json
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from bench.generate.cases import Case
from bench.generate.engines.fastslm import Batch
from fastslm import ops, runtime
from fastslm.store.manifest import GRAPH_NAME, ModelManifest


def times(folder: Path, case: Case, rows: int) -> dict[str, float]:
    """Milliseconds of each operator in a step, medians; keys and values are zeros, which cost as much as others."""
    manifest = ModelManifest.read(folder)
    past, length = (case.prompt, 1) if case.tokens else (0, case.prompt)
    with tempfile.TemporaryDirectory() as scratch:
        session = _session(folder, manifest, case.threads, Path(scratch) / "profile")
        step = Batch(session, manifest, rows, past + length).step(length)
        for _ in range(case.repeat + 1):
            step(np.ones((rows, length), np.int64), past)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    del session
    return _medians(events, case.repeat)


def _session(folder: Path, manifest: ModelManifest, threads: int, profile: Path) -> Any:
    library = runtime.onnxruntime()
    options = library.SessionOptions()
    options.intra_op_num_threads, options.enable_mem_pattern = threads, False
    options.enable_profiling, options.profile_file_prefix = True, str(profile)
    if manifest.target == "native":
        ops.register(options)
    return library.InferenceSession(str(folder / GRAPH_NAME), options, providers=["CPUExecutionProvider"])


def _medians(events: list[dict[str, Any]], repeat: int) -> dict[str, float]:
    """Sum of the nodes of each operator, median over the steps after the first; the head is told apart."""
    nodes: dict[tuple[str, str], list[int]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            operator = event["args"]["op_name"]
            name = "head" if "lm_head" in event["name"] or "logits" in event["name"] else operator
            nodes[name, event["name"]].append(event["dur"])
    steps: dict[str, list[float]] = defaultdict(lambda: [0.0] * repeat)
    for (name, _), durations in nodes.items():
        for turn, duration in enumerate(durations[-repeat:]):
            steps[name][turn] += duration / 1000
    return {name: statistics.median(values) for name, values in sorted(steps.items())}
