"""The commands of a first hour: pull, run, list, show, eval, convert, rm, each as a person or a script sees it."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from cli.conftest import Run
from support.hub_server import FakeHub


def test_pull_prints_the_folder_and_is_done_at_once_the_second_time(fastslm: Run, hub: FakeHub) -> None:
    """Progress goes to stderr, the folder to stdout; nothing is fetched twice."""
    first = fastslm("pull", "tiny/llama")
    assert first.code == 0, first.err
    assert (Path(first.out.strip()) / "model.onnx").is_file()
    assert "Downloading" in first.err
    hub.clear()
    again = fastslm("pull", "tiny/llama", "--json")
    assert again.data["wire_bytes"] == 0
    assert hub.log("cdn") == []


def test_pull_without_conversion_stops_after_the_download(fastslm: Run, hub: FakeHub) -> None:
    """`--no-convert` leaves verified files in the hub cache; `convert` goes on without the network."""
    pulled = fastslm("pull", "tiny/llama", "--no-convert", "--quiet")
    assert pulled.err == ""
    source = Path(pulled.out.strip())
    assert source.name == "tiny.Q8_0.gguf"
    assert sorted(p.name for p in source.parent.iterdir()) == ["README.md", "tiny.Q8_0.gguf"]
    assert [e["state"] for e in fastslm("list", "--json").data] == ["downloaded"]
    hub.close_for_good()
    converted = fastslm("convert", "tiny/llama", "--json")
    assert converted.code == 0, converted.err
    assert converted.data["precision"] == "exact"
    assert fastslm("list", "--json").data[0]["state"] == "ready"


def test_run_answers_a_prompt_of_the_command_line(fastslm: Run, tiny_file: str) -> None:
    """The answer is on stdout, streamed; a model that is not here yet is converted first."""
    shown = fastslm("run", tiny_file, "hello", "--temperature", "0", "-n", "8")
    assert shown.code == 0, shown.err
    assert shown.out.endswith("\n")
    assert "Converting" in shown.err
    record = fastslm("run", tiny_file, "hello", "--temperature", "0", "-n", "8", "--json").data
    assert record["text"] == shown.out.removesuffix("\n")
    assert record["usage"]["completion_tokens"] <= 8
    assert record["finish_reason"] in ("length", "stop")


def test_run_reads_the_prompt_from_stdin(fastslm: Run, tiny_file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe is a prompt, with `-` and without."""
    answers = []
    for words in ((), ("-",)):
        monkeypatch.setattr(sys, "stdin", io.StringIO("hello\n"))
        answers.append(fastslm("run", tiny_file, *words, "--temperature", "0", "-n", "4", "-q").out)
    assert answers[0] == answers[1] == fastslm("run", tiny_file, "hello", "--temperature", "0", "-n", "4").out


def test_same_seed_same_answer(fastslm: Run, tiny_file: str) -> None:
    """A sampled answer can be had again."""
    words = ("run", tiny_file, "hello", "--temperature", "1", "--seed", "5", "-n", "12", "--json")
    first, second = fastslm(*words), fastslm(*words)
    assert first.code == 0, first.err
    assert first.data["text"] == second.data["text"]


def test_show_tells_what_was_converted(fastslm: Run, tiny_file: str) -> None:
    """Architecture, precision and context come from the folder itself."""
    fastslm("pull", tiny_file, "--context", "64")
    manifest = fastslm("show", tiny_file, "--json").data["manifest"]
    assert (manifest["architecture"], manifest["precision"], manifest["context_length"]) == ("llama", "exact", 64)
    assert "64 tokens" in fastslm("show", tiny_file).out


def test_several_precisions_live_side_by_side(fastslm: Run, tiny_file: str) -> None:
    """Each precision has its folder and its line; `rm --precision` takes one away."""
    for precision in ("auto", "fp32", "int4"):
        assert fastslm("pull", tiny_file, "--precision", precision).code == 0
    rows = fastslm("list", "--json").data
    assert sorted(row["resolved_precision"] for row in rows) == ["exact", "fp32", "int4"]
    assert fastslm("rm", tiny_file, "--precision", "fp32").code == 0
    assert sorted(row["resolved_precision"] for row in fastslm("list", "--json").data) == ["exact", "int4"]


def test_eval_gives_a_perplexity(fastslm: Run, tiny_file: str, tmp_path: Path) -> None:
    """A random model of 262 tokens is about as surprised as a die with 262 sides, or more."""
    text = tmp_path / "text.txt"
    text.write_text("hello hello shell " * 20)
    record = fastslm("eval", tiny_file, "--text", str(text), "--tokens", "100", "--json").data
    assert record["tokens"] == 100
    assert record["perplexity"] > 50


def test_rm_keeps_the_shared_cache_unless_told(fastslm: Run, hub: FakeHub) -> None:
    """What other tools may use stays, and the user is told; `--source` removes it too."""
    source = Path(fastslm("pull", "tiny/llama", "--no-convert").out.strip())
    folder = Path(fastslm("pull", "tiny/llama").out.strip())
    removed = fastslm("rm", "tiny/llama")
    assert removed.code == 0
    assert not folder.exists()
    assert source.exists()
    assert "--source" in removed.err
    fastslm("pull", "tiny/llama")
    assert fastslm("rm", "tiny/llama", "--source", "--json").data["freed_bytes"] > 0
    assert not source.exists()
    assert fastslm("list", "--json").data == []


def test_rm_never_touches_a_file_of_ones_own(fastslm: Run, tiny_file: str) -> None:
    """A local GGUF belongs to the user, even with `--source`."""
    fastslm("pull", tiny_file)
    assert fastslm("rm", tiny_file, "--source").code == 0
    assert Path(tiny_file).exists()


def test_convert_writes_to_a_folder_of_ones_choice(fastslm: Run, tiny_file: str, tmp_path: Path) -> None:
    """The folder runs by its path, the registry is left alone, and a full folder is refused."""
    target = tmp_path / "converted"
    assert fastslm("convert", tiny_file, "--output", str(target), "--precision", "int8").code == 0
    assert fastslm("list", "--json").data == []
    assert fastslm("run", str(target), "hello", "-n", "2", "--temperature", "0").code == 0
    refused = fastslm("convert", tiny_file, "--output", str(target))
    assert refused.code == 2
    assert "is not empty" in refused.err


def test_list_of_nothing_says_what_to_try(fastslm: Run) -> None:
    """A newcomer is told the next step, a script gets an empty list."""
    shown = fastslm("list")
    assert (shown.code, shown.out) == (0, "")
    assert "fastslm pull demo" in shown.err
    assert fastslm("list", "--json").data == []


def test_a_damaged_registry_is_set_aside_and_said_so(fastslm: Run, tiny_file: str, tmp_path: Path) -> None:
    """Nothing is lost silently."""
    fastslm("pull", tiny_file)
    registry = tmp_path / "fastslm-home" / "registry.json"
    registry.write_text("{ not json")
    shown = fastslm("list")
    assert shown.code == 0
    assert "damaged" in shown.err
    assert [p.read_text() for p in registry.parent.glob("registry.json.damaged-*")] == ["{ not json"]


def test_doctor_checks_the_machine(fastslm: Run, hub: FakeHub) -> None:
    """Every check has a status; a healthy machine gives exit code 0."""
    findings = fastslm("doctor", "--json")
    assert findings.code == 0, findings.out
    by_name = {finding["name"]: finding for finding in findings.data}
    assert by_name["processor"]["facts"]["physical_cores"] >= 1
    assert by_name["bandwidth"]["facts"]["read_bytes_per_s"] > 1e8
    assert by_name["hub"]["status"] == "ok"


def test_doctor_reports_a_folder_that_cannot_be_made(
    fastslm: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A home below a plain file can never work: exit code 1 and the path."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FASTSLM_HOME", str(tmp_path / "file" / "home"))
    shown = fastslm("doctor", "--offline")
    assert shown.code == 1
    assert "fastslm home" in next(line for line in shown.out.splitlines() if line.startswith("error"))


def test_json_is_json_for_every_command_that_prints_data(fastslm: Run, tiny_file: str) -> None:
    """Scripts can rely on it."""
    for words in (["pull", tiny_file], ["list"], ["show", tiny_file], ["doctor", "--offline"], ["rm", tiny_file]):
        json.loads(fastslm(*words, "--json").out)


def test_can_convert_answers_in_words_and_by_exit_code(fastslm: Run, tiny_file: str, tmp_path: Path) -> None:
    """Scripts look at the code, people at the sentence; both are the answer, so both go to stdout."""
    shown = fastslm("can-convert", tiny_file)
    assert shown.code == 0
    assert shown.out.startswith("yes: native, architecture `llama` (Llama 2, ")
    (tmp_path / "config.json").write_text('{"model_type": "mamba"}', encoding="utf-8")
    shown = fastslm("can-convert", str(tmp_path), "--json")
    assert (shown.code, shown.err) == (1, "")
    assert (shown.data["convertible"], shown.data["architecture"]) == (False, "mamba")
    assert fastslm("can-convert", str(tmp_path)).out.startswith("no: `model_type` is `mamba`, expected ")
