"""Each thing that can go wrong gives one clear sentence, the right exit code, and loses nothing that was good."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from cli.conftest import Run
from fastslm import errors
from fastslm.cli.failure import OUTCOMES, outcome
from support.hub_server import FakeHub, Fault


def sentence(err: str) -> str:
    """The one error line."""
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, err
    assert "Traceback" not in err
    return lines[0]


def test_an_unknown_command_gives_the_nearest_one(fastslm: Run) -> None:
    """Exit code 2 and a suggestion."""
    shown = fastslm("pul", "demo")
    assert shown.code == 2
    assert "did you mean `pull`" in sentence(shown.err)


@pytest.mark.parametrize("words", [["run"], ["run", "demo", "x", "--nope"], ["run", "demo", "x", "-n", "many"]])
def test_wrong_usage_is_exit_code_2(fastslm: Run, words: list[str]) -> None:
    """The option parser's own complaints look like every other error."""
    shown = fastslm(*words)
    assert shown.code == 2
    sentence(shown.err)


def test_options_may_stand_before_the_command(fastslm: Run) -> None:
    """`fastslm --json list` means `fastslm list --json`."""
    assert fastslm("--json", "-q", "list").data == []


def test_values_that_are_not_possible_are_refused_before_anything_is_fetched(fastslm: Run, hub: FakeHub) -> None:
    """Nobody waits for a download to learn of a typing error."""
    for words in (["--temperature", "-1"], ["-n", "0"], ["--top-p", "7"]):
        shown = fastslm("run", "tiny/llama", "hello", *words)
        assert shown.code == 2, shown.err
        sentence(shown.err)
    assert hub.log() == []


def test_show_of_a_missing_precision_says_so(fastslm: Run, tiny_file: str) -> None:
    """The model is here, that precision is not."""
    fastslm("pull", tiny_file)
    assert "in precision `fp32`" in sentence(fastslm("show", tiny_file, "--precision", "fp32").err)


def test_a_device_is_no_text(fastslm: Run, tiny_file: str) -> None:
    """/dev/zero would never end."""
    assert fastslm("eval", tiny_file, "--text", "/dev/zero").code == 3


def test_an_empty_prompt_is_refused(fastslm: Run, tiny_file: str) -> None:
    """Nothing to answer."""
    assert fastslm("run", tiny_file, "  ").code == 2


def test_a_short_name_with_a_typing_error_gives_the_nearest(fastslm: Run) -> None:
    """Exit code 3 and what may have been meant."""
    shown = fastslm("pull", "smolm2:135m")
    assert shown.code == 3
    assert "did you mean `smollm2:135m`" in shown.err


@pytest.mark.parametrize("name", ["tiny/nothing", "tiny/llama@nowhere"])
def test_an_unknown_repository_or_revision_leaves_no_trace(fastslm: Run, hub: FakeHub, name: str) -> None:
    """Exit code 3, and `list` does not fill with typing errors."""
    shown = fastslm("pull", name)
    assert shown.code == 3, shown.err
    sentence(shown.err)
    assert fastslm("list", "--json").data == []


def test_a_gated_repository_is_exit_code_7(fastslm: Run, hub: FakeHub, tiny_gguf: bytes) -> None:
    """The hint says how to get access."""
    hub.add_repo("tiny/gated", {"tiny.gguf": tiny_gguf}, gated=True)
    shown = fastslm("pull", "tiny/gated")
    assert shown.code == 7, shown.err
    assert "tiny/gated" in sentence(shown.err)
    assert "HF_TOKEN" in shown.err


def test_a_flipped_byte_is_exit_code_6_and_nothing_is_published(fastslm: Run, hub: FakeHub, tmp_path: Path) -> None:
    """The damaged file is not kept; the next pull, from a sound line, succeeds."""
    hub.add_fault(Fault("flip", path="gguf", offset=5000))
    shown = fastslm("pull", "tiny/llama")
    assert shown.code == 6, shown.err
    assert "SHA-256" in sentence(shown.err) or "hash" in sentence(shown.err).lower()
    assert not list((tmp_path / "hf-home").rglob("snapshots/*/*.gguf"))
    assert fastslm("list", "--json").data[0]["state"] == "failed"
    hub.clear()
    assert fastslm("pull", "tiny/llama").code == 0


def test_a_wrong_content_range_is_survived(fastslm: Run, hub: FakeHub) -> None:
    """Bytes of another range are never written; the piece is asked for again."""
    hub.add_fault(Fault("shift", path="gguf", times=1))
    assert fastslm("pull", "tiny/llama").code == 0


def test_a_vanished_file_is_told(fastslm: Run, hub: FakeHub) -> None:
    """The listing names it, the server has it no more."""
    hub.add_fault(Fault("status", path="gguf", status=404))
    shown = fastslm("pull", "tiny/llama")
    assert shown.code in (3, 5)
    assert "404" in sentence(shown.err) or "not" in sentence(shown.err)


def test_no_network_is_exit_code_5(fastslm: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens on the port; the address is named."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    shown = fastslm("pull", "tiny/llama")
    assert shown.code == 5, shown.err
    assert "127.0.0.1:9" in sentence(shown.err)


def test_offline_mode_uses_what_is_here_and_says_so_otherwise(
    fastslm: Run, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 5 for what is missing, no request at all for what is there."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert fastslm("pull", "tiny/llama").code == 5
    monkeypatch.delenv("HF_HUB_OFFLINE")
    fastslm("pull", "tiny/llama")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub.clear()
    assert fastslm("run", "tiny/llama", "hello", "-n", "2").code == 0
    assert hub.log() == []


def test_a_truncated_gguf_is_exit_code_6(fastslm: Run, tiny_file: str) -> None:
    """A file cut in the middle names the tensor or the length that is missing."""
    path = Path(tiny_file)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    shown = fastslm("run", tiny_file, "hello")
    assert shown.code == 6, shown.err
    assert "tiny.gguf" in sentence(shown.err)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_cache_names_the_path(fastslm: Run, hub: FakeHub, tmp_path: Path) -> None:
    """Exit code 1 and the folder."""
    (tmp_path / "hf-home").mkdir(mode=0o500)
    shown = fastslm("pull", "tiny/llama")
    assert shown.code == 1
    assert "hf-home" in sentence(shown.err)


def test_a_cache_below_a_file_names_the_path(fastslm: Run, hub: FakeHub, tmp_path: Path) -> None:
    """The same for whoever is root: a folder cannot be made below a file."""
    (tmp_path / "hf-home").write_text("")
    shown = fastslm("pull", "tiny/llama")
    assert shown.code == 1, shown.err
    assert "hf-home" in sentence(shown.err)


def test_a_full_disk_is_exit_code_4_with_both_numbers(
    fastslm: Run, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told before the first byte is fetched."""
    import shutil

    full = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    shown = fastslm("pull", "tiny/llama")
    assert shown.code == 4, shown.err
    assert re.search(r"\d", sentence(shown.err))
    assert hub.log("cdn") == []


def test_a_prompt_that_does_not_fit_gives_both_numbers(fastslm: Run, tiny_file: str) -> None:
    """Exit code 4; nothing is cut silently."""
    shown = fastslm("run", tiny_file, "x" * 500)
    assert shown.code == 4, shown.err
    assert {"500", "128"} <= set(re.findall(r"\d+", sentence(shown.err)))


def test_an_interrupt_is_exit_code_130(fastslm: Run, tiny_file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the middle of an answer ends it without a traceback."""
    from fastslm.engine.model import Model

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    fastslm("pull", tiny_file)
    monkeypatch.setattr(Model, "chat_stream", interrupted)
    assert fastslm("run", tiny_file, "hello").code == 130


def test_an_unexpected_error_tells_how_to_see_more(fastslm: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence; the traceback only with --debug."""
    from fastslm.store.registry import Registry

    def broken(self: Registry) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(Registry, "list", broken)
    shown = fastslm("list")
    assert shown.code == 1
    assert "ZeroDivisionError" in sentence(shown.err)
    assert "--debug" in shown.err
    assert "Traceback" in fastslm("list", "--debug").err


def all_errors(kind: type[errors.FastSLMError] = errors.FastSLMError) -> list[type[errors.FastSLMError]]:
    """The tree, flattened."""
    return [kind, *(error for child in kind.__subclasses__() for error in all_errors(child))]


@pytest.mark.parametrize("kind", all_errors(), ids=lambda k: k.__name__)
def test_every_error_class_has_the_exit_code_of_its_branch(kind: type[errors.FastSLMError]) -> None:
    """The table holds what the tree's docstring promises."""
    drawn = {
        errors.UsageError: 2,
        errors.NotFoundError: 3,
        errors.DoesNotFit: 4,
        errors.NetworkError: 5,
        errors.IntegrityError: 6,
        errors.AccessDenied: 7,
        errors.Cancelled: 130,
    }
    expected = next((code for base, code in drawn.items() if issubclass(kind, base)), 1)
    assert outcome(kind("a message")).exit_code == expected


def test_every_row_of_the_table_is_an_error_of_ours() -> None:
    """No row is dead."""
    assert set(OUTCOMES) <= set(all_errors())
