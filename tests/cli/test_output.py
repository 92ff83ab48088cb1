"""What is printed where, and how numbers look."""

from __future__ import annotations

import io
import json
from datetime import datetime, timedelta, timezone

import pytest

from fastslm.cli.output import Output, amount, share, table
from fastslm.cli.records import age
from fastslm.progress import Progress


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def streams() -> tuple[Terminal, Terminal]:
    return Terminal(), Terminal()


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (98_362_432, "98.4 MB"),
        (999_900_000, "1.0 GB"),
        (10**15, "1000 TB"),
    ],
)
def test_bytes_are_shown_as_disks_are_sold(count: int, text: str) -> None:
    """Three digits at most, decimal units."""
    assert amount(count) == text


def test_a_share_names_its_unit_once() -> None:
    """Not `45 tensors of 272 tensors`."""
    assert share(Progress("converting", 45, 272, "tensors")) == "45 of 272 tensors"
    assert share(Progress("downloading", 3_100_000, 98_400_000)) == "3.1 MB of 98.4 MB"
    assert share(Progress("downloading", 3_100_000, 0)) == "3.1 MB"


def test_tables_line_up_without_trailing_blanks() -> None:
    """Scripts can split at two blanks."""
    assert table(("A", "BB"), [("xxx", "y")]) == "A    BB\nxxx  y"


def test_data_goes_to_stdout_and_the_rest_to_stderr(streams: tuple[Terminal, Terminal]) -> None:
    """A pipe sees the result only; JSON is the same value."""
    out, err = streams
    Output(stdout=out, stderr=err).data({"a": "é"}, "text")
    Output(stdout=out, stderr=err).remark("remark")
    Output(as_json=True, stdout=out, stderr=err).data({"a": "é"}, "text")
    assert out.getvalue().startswith("text\n")
    assert json.loads(out.getvalue().removeprefix("text\n")) == {"a": "é"}
    assert err.getvalue() == "remark\n"


def test_quiet_hides_everything_but_errors(streams: tuple[Terminal, Terminal]) -> None:
    """No progress, no remarks, no hints."""
    out, err = streams
    output = Output(quiet=True, stdout=out, stderr=err)
    output.remark("remark")
    with output.progress() as progress:
        progress(Progress("downloading", 1, 2))
    output.error("it broke", "try again")
    assert err.getvalue() == "error: it broke\n"


def test_bars_are_drawn_on_a_terminal_once_there_is_progress(
    streams: tuple[Terminal, Terminal], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing flickers when a model is simply loaded."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    out, err = streams
    with Output(stdout=out, stderr=err).progress():
        pass
    assert err.getvalue() == ""
    with Output(stdout=out, stderr=err).progress() as progress:
        progress(Progress("downloading", 1_000_000, 2_000_000))
        progress(Progress("converting", 1, 2, "tensors"))
    assert "Downloading" in err.getvalue()
    assert "Converting" in err.getvalue()


@pytest.mark.parametrize("variable", [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_plain_terminals_get_plain_lines(
    streams: tuple[Terminal, Terminal], monkeypatch: pytest.MonkeyPatch, variable: tuple[str, str]
) -> None:
    """No colour and no moving bars."""
    monkeypatch.setenv(*variable)
    out, err = streams
    with Output(stdout=out, stderr=err).progress() as progress:
        progress(Progress("downloading", 0, 2_000_000, detail="model.gguf"))
        progress(Progress("downloading", 1, 2_000_000, detail="model.gguf"))
    assert err.getvalue() == "Downloading model.gguf (2.0 MB)\n"


@pytest.mark.parametrize(
    ("seconds", "text"), [(5, "just now"), (61, "1 minute ago"), (7300, "2 hours ago"), (90000, "1 day ago")]
)
def test_ages_are_said_in_the_largest_unit(seconds: int, text: str) -> None:
    """As people say it."""
    now = datetime(2026, 5, 1, tzinfo=timezone.utc)
    then = (now - timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")
    assert age(then, now) == text


def test_an_age_that_cannot_be_read_is_a_dash() -> None:
    """An old registry does not break the list."""
    assert age("") == "-"
