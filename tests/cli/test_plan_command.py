"""What a model would cost is told before it is downloaded, and what cannot work is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from cli.conftest import Run
from fastslm import machine
from support.hub_server import FakeHub
from support.tiny_files import TinyLlama, write_llama_gguf


@pytest.fixture(autouse=True)
def known_bandwidth(tmp_path: Path) -> None:
    """Measuring takes half a second; one test in ``tests/plan`` does it."""
    from fastslm.config import Settings
    from fastslm.store.machine_file import MachineFile

    settings = Settings.from_environment()
    MachineFile(settings.machine_file).note_bandwidth(machine.inspect_cores().threads, 10e9)


def small_machine(monkeypatch: pytest.MonkeyPatch, memory_bytes: int) -> None:
    here = dataclasses.replace(machine.inspect(), memory_bytes=memory_bytes, available_bytes=memory_bytes)
    monkeypatch.setattr(machine, "inspect", lambda: here)


def test_a_plan_fetches_headers_only(fastslm: Run, hub: FakeHub) -> None:
    """Every precision with its figures; nothing is downloaded or registered."""
    shown = fastslm("plan", "tiny/llama", "--json")
    assert shown.code == 0, shown.err
    plan = shown.data
    assert plan["download"]["cached_bytes"] == 0
    assert plan["precision"] == "exact"
    assert {each["precision"] for each in plan["estimates"]} == {"fp32", "int8", "mixed", "int4", "int4-fast", "exact"}
    sizes = {each["precision"]: each["disk_bytes"] for each in plan["estimates"]}
    assert sizes["int4"] < sizes["int8"] < sizes["fp32"]
    assert all(each["tokens_per_s"] > 0 for each in plan["estimates"])
    assert fastslm("list", "--json").data == []
    text = fastslm("plan", "tiny/llama").out
    assert "TOKENS/S" in text
    assert "* exact" in text.replace("  ", " ").replace("  ", " ")


def test_a_plan_knows_what_is_here(fastslm: Run, hub: FakeHub) -> None:
    """After the pull nothing is missing, no disk is needed, and no network either."""
    fastslm("pull", "tiny/llama")
    hub.close_for_good()
    plan = fastslm("plan", "tiny/llama", "--json").data
    assert plan["download"]["missing_bytes"] == 0
    assert plan["converted"]
    assert plan["disk_peak_bytes"] == 0


def test_the_disk_is_what_the_conversion_takes(fastslm: Run, hub: FakeHub) -> None:
    """Planned and real sizes of the converted weights are the same."""
    planned = fastslm("plan", "tiny/llama", "--json", "--precision", "int8").data
    folder = Path(fastslm("pull", "tiny/llama", "--precision", "int8").out.strip())
    real = sum((folder / name).stat().st_size for name in ("model.onnx", "model.onnx.data"))
    assert next(e for e in planned["estimates"] if e["precision"] == "int8")["disk_bytes"] == real


def test_files_folders_conversions_and_the_demo_can_be_planned(
    fastslm: Run, tiny_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each without the network; the demo's shape is known before it is here."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert fastslm("plan", tiny_file, "--json").data["download"]["missing_bytes"] == 0
    folder = Path(fastslm("pull", tiny_file).out.strip())
    converted = fastslm("plan", str(folder), "--json").data
    assert converted["converted"]
    assert [each["precision"] for each in converted["estimates"]] == ["exact"]
    demo = fastslm("plan", "demo", "--json").data
    assert demo["parameters"] == pytest.approx(135e6, rel=0.01)
    assert demo["download"]["missing_bytes"] == 92871040


def test_what_cannot_work_is_refused_with_both_numbers(
    fastslm: Run, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 4, the figures all the same; `--force` only tells."""
    small_machine(monkeypatch, 1_000_000)
    shown = fastslm("plan", "tiny/llama", "--json")
    assert shown.code == 4
    assert not shown.data["fits"]
    assert "1.0 MB" in shown.err
    assert "no precision fits" in shown.err
    assert fastslm("plan", "tiny/llama", "--force").code == 0


def test_the_precision_that_would_fit_is_named(fastslm: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of floats that is too large as it is."""
    source = tmp_path / "wide.gguf"
    write_llama_gguf(source, TinyLlama(hidden=512, intermediate=2048, layers=4, quant="F32"))
    sizes = fastslm("plan", str(source), "--json").data["estimates"]
    need = {each["precision"]: each["memory_bytes"] for each in sizes}
    small_machine(monkeypatch, (need["fp32"] + need["int8"]) // 2)
    shown = fastslm("plan", str(source), "--precision", "fp32")
    assert shown.code == 4
    assert "int8 fits" in shown.err


def test_a_context_that_was_asked_for_must_fit(fastslm: Run, tiny_file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the wish, a shorter one will do, and the longest is told."""
    long = fastslm("plan", tiny_file, "--json").data["estimates"][-1]
    small_machine(monkeypatch, long["memory_bytes"] - long["memory"]["kv_bytes"] // 4)
    assert fastslm("plan", tiny_file, "--context", "128").code == 4
    assert fastslm("plan", tiny_file, "--context", "32").code == 0


def test_pull_refuses_before_the_first_byte_of_the_weights(
    fastslm: Run, hub: FakeHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nothing is left in the cache; `--force` and `--no-convert` go on."""
    small_machine(monkeypatch, 1_000_000)
    shown = fastslm("pull", "tiny/llama")
    assert shown.code == 4, shown.err
    assert "needs" in shown.err
    assert not list((tmp_path / "hf-home").rglob("blobs/*"))
    assert fastslm("pull", "tiny/llama", "--no-convert").code == 0
    assert fastslm("pull", "tiny/llama").code == 4
    assert fastslm("pull", "tiny/llama", "--force").code == 0


def test_pull_refuses_an_architecture_before_downloading_it(
    fastslm: Run, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hours of download for a model that cannot be converted would be the worst answer."""
    from support.tiny_files import safetensors_bytes

    files = {
        "config.json": json.dumps({"model_type": "mamba"}).encode(),
        "model.safetensors": safetensors_bytes(
            {"t": {"dtype": "U8", "shape": [90000], "data_offsets": [0, 90000]}}, bytes(90000)
        ),
    }
    hub.add_repo("tiny/mamba", files)
    small_machine(monkeypatch, 1_000_000)
    shown = fastslm("pull", "tiny/mamba")
    assert shown.code == 1
    assert "mamba" in shown.err
    assert all(request.range for request in hub.log("cdn", "GET")), "the whole file was asked for"
    assert fastslm("plan", "tiny/mamba").code == 1


def test_an_answer_teaches_the_next_plan(fastslm: Run, tiny_file: str, tmp_path: Path) -> None:
    """`run` notes its speed once the answer is long enough; another number of threads does not count."""
    path = tmp_path / "fastslm-home" / "machine.json"
    fastslm("run", tiny_file, "hello", "-n", "24", "--temperature", "0", "--raw", "--threads", "1")
    assert "runs" not in json.loads(path.read_text())
    first = fastslm("plan", tiny_file, "--json").data["estimates"][-1]["tokens_per_s"]
    for _ in range(3):
        shown = fastslm("run", tiny_file, "hello", "-n", "24", "--temperature", "0", "--raw", "--json")
    assert shown.data["usage"]["completion_tokens"] >= 8, "the tiny model stopped early"
    assert len(json.loads(path.read_text())["runs"]["llama/exact/native"]) == 3
    assert fastslm("plan", tiny_file, "--json").data["estimates"][-1]["tokens_per_s"] != first


def test_exact_needs_a_quantised_model(fastslm: Run, tmp_path: Path) -> None:
    """The same words as a conversion would use."""
    write_llama_gguf(tmp_path / "f.gguf", TinyLlama(quant="F32"))
    shown = fastslm("plan", str(tmp_path / "f.gguf"), "--precision", "exact")
    assert shown.code == 2
    assert "exact" in shown.err
