"""Model files that cannot be converted: one sentence that names what is wrong, an exit code, nothing half-written."""

from __future__ import annotations

import errno
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastslm.config import Settings
from fastslm.export.weights import WeightsFile
from fastslm.store.registry import Registry
from support.float_model import CONFIG, float_model
from support.memory_source import random_tensors
from support.tiny_files import safetensors_bytes, write_safetensors

Run = Callable[..., Any]
Spoil = Callable[[Path, dict[str, np.ndarray]], None]

DOWN = "model.layers.1.mlp.down_proj.weight"


def _write(folder: Path, tensors: dict[str, np.ndarray]) -> None:
    write_safetensors(folder / "model.safetensors", {name: ("F32", value) for name, value in tensors.items()})


def unknown_architecture(folder: Path, tensors: dict[str, np.ndarray]) -> None:
    (folder / "config.json").write_text(json.dumps({**CONFIG, "model_type": "zebra"}), encoding="utf-8")


def missing_tensor(folder: Path, tensors: dict[str, np.ndarray]) -> None:
    _write(folder, {name: value for name, value in tensors.items() if name != DOWN})


def wrong_shape(folder: Path, tensors: dict[str, np.ndarray]) -> None:
    _write(folder, {**tensors, DOWN: tensors[DOWN][:, :-32]})


def not_a_number(folder: Path, tensors: dict[str, np.ndarray]) -> None:
    tensors[DOWN][3, 4] = np.nan
    _write(folder, tensors)


def infinite_norm(folder: Path, tensors: dict[str, np.ndarray]) -> None:
    tensors["model.norm.weight"][7] = -np.inf
    _write(folder, tensors)


def truncated(folder: Path, tensors: dict[str, np.ndarray]) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def missing_shard(folder: Path, tensors: dict[str, np.ndarray]) -> None:
    """The index names two shards, the second never arrived."""
    names = list(tensors)
    first, second = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    (folder / "model.safetensors").unlink()
    write_safetensors(folder / first, {name: ("F32", tensors[name]) for name in names[:5]})
    weights = {name: first if name in names[:5] else second for name in names}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weights}), encoding="utf-8")


def truncated_shard(folder: Path, tensors: dict[str, np.ndarray]) -> None:
    missing_shard(folder, tensors)
    second = folder / "model-00002-of-00002.safetensors"
    write_safetensors(second, {name: ("F32", value) for name, value in list(tensors.items())[5:]})
    second.write_bytes(second.read_bytes()[:-1000])


def unknown_type(folder: Path, tensors: dict[str, np.ndarray]) -> None:
    entry = {"dtype": "F8_E9", "shape": [4], "data_offsets": [0, 4]}
    (folder / "model.safetensors").write_bytes(safetensors_bytes({DOWN: entry}, struct.pack("<f", 1.0)))


BAD: dict[str, tuple[Spoil, int, str]] = {
    "unknown architecture": (unknown_architecture, 1, "zebra"),
    "missing tensor": (missing_tensor, 6, f"tensor `{DOWN}` is missing"),
    "wrong shape": (wrong_shape, 6, f"tensor `{DOWN}` has shape `[64, 64]`, expected [64, 96]"),
    "not a number": (not_a_number, 1, f"tensor `{DOWN}` holds `nan`, expected finite numbers"),
    "infinite norm": (infinite_norm, 1, "tensor `model.norm.weight` holds `-inf`, expected finite numbers"),
    "truncated": (truncated, 6, "model.safetensors"),
    "missing shard": (missing_shard, 3, "model-00002-of-00002.safetensors"),
    "truncated shard": (truncated_shard, 6, "model-00002-of-00002.safetensors"),
    "unknown type": (unknown_type, 6, DOWN),
}


def check_refused(shown: Any, code: int, sentence: str, settings: Settings) -> None:
    told = [line for line in shown.err.splitlines() if line.strip()]
    assert (shown.code, shown.out) == (code, "")
    assert any(sentence in line for line in told), told
    assert len(told) <= 2, "a sentence and a hint"
    assert "Traceback" not in shown.err
    files = [path for path in settings.models_dir.rglob("*") if path.is_file() and ".locks" not in path.parts]
    assert files == []
    assert [(entry.state, bool(entry.cause)) for entry in Registry(settings.registry_file).list()] == [("failed", True)]


@pytest.mark.parametrize("precision", ["int4", "fp32"])
@pytest.mark.parametrize("case", list(BAD))
def test_bad_files_are_refused_in_a_sentence(
    fastslm: Run, settings: Settings, tmp_path: Path, case: str, precision: str
) -> None:
    spoil, code, sentence = BAD[case]
    folder = float_model(tmp_path / "bad")
    spoil(folder, random_tensors(CONFIG, seed=3))
    shown = fastslm("convert", str(folder), "--precision", precision, "--quiet")
    check_refused(shown, code, sentence, settings)


@pytest.mark.parametrize("after", [0, 3, 10])
def test_a_full_disk_is_exit_code_4(
    fastslm: Run, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """At the first tensor or a later one."""
    folder, real, calls = float_model(tmp_path / "sound"), WeightsFile.write, []

    def write(self: WeightsFile, *rest: Any) -> None:
        calls.append(1)
        if len(calls) > after:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(self, *rest)

    monkeypatch.setattr(WeightsFile, "write", write)
    shown = fastslm("convert", str(folder), "--precision", "int4", "--quiet")
    check_refused(shown, 4, "is full", settings)


def test_a_disk_that_is_too_full_for_the_floats_only_costs_the_figures(
    fastslm: Run, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model itself is there; who insisted on figures is told the reason."""
    folder, real = float_model(tmp_path / "sound"), WeightsFile.write

    def write(self: WeightsFile, *rest: Any) -> None:
        if self.path.parent.name == "floats":
            raise OSError(errno.ENOSPC, "No space left on device")
        real(self, *rest)

    monkeypatch.setattr(WeightsFile, "write", write)
    shown = fastslm("convert", str(folder), "--precision", "int8", "--json")
    assert shown.data["quality"] is None
    assert "so the quality is not measured" in shown.err
    assert fastslm("convert", str(folder), "--precision", "int8", "--quality", "always").code == 4
