"""Run a piece of the command line and turn every way it can end into an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

from fastslm.cli.failure import INTERRUPTED, outcome
from fastslm.cli.output import Output
from fastslm.errors import FastSLMError


def guarded(action: Callable[[], int], *, quiet: bool, debug: bool) -> int:
    """Do ``action`` and return its exit code.

    Returns:
        What it returned, the code of its error's class (``fastslm.cli.failure``), or 130 when interrupted.
        With ``debug`` an error shows its traceback.
    """
    prepare_streams()
    output = Output(quiet=quiet)
    try:
        code = action()
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        _silence_stdout()
        return 1
    except KeyboardInterrupt:
        output.error("interrupted")
        return INTERRUPTED.exit_code
    except FastSLMError as error:
        row = outcome(error)
        output.error(error.message, row.hint)
        _show_traceback(debug)
        return row.exit_code
    except Exception as error:  # noqa: BLE001  # the program's edge: whatever it is, one sentence and exit code 1
        output.error(f"unexpected {type(error).__name__}: {error}", "the same command with --debug shows the traceback")
        _show_traceback(debug)
        _silence_stdout()  # a full disk behind it would complain once more at exit
        return 1


def run_command(name: str, function: Callable[..., Any], words: list[str]) -> int:
    """Parse ``words`` for ``function`` and run it. Returns what it returned, 0 for nothing, 2 for wrong usage."""
    import typer

    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(epilog="--debug shows the traceback of an error.")(function)
    try:
        result = typer.main.get_command(app).main(args=words, prog_name=f"fastslm {name}", standalone_mode=False)
    except typer.Exit as end:
        if end.exit_code == INTERRUPTED.exit_code:  # how some versions of Typer tell of Ctrl-C
            raise KeyboardInterrupt from None
        return end.exit_code
    except typer.Abort:
        raise KeyboardInterrupt from None
    except Exception as error:
        if _is_usage_error(error):
            return _show_usage_error(error)
        raise
    if result == INTERRUPTED.exit_code:
        raise KeyboardInterrupt
    return result if isinstance(result, int) else 0


def prepare_streams() -> None:
    """Closed standard streams become the null device; a character that a stream cannot show is written escaped."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115  # for the whole run
        elif mode == "w" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _show_traceback(debug: bool) -> None:
    if debug:
        traceback.print_exc()


def _is_usage_error(error: Exception) -> bool:
    """Whether the option parser refused the words (its class differs between Typer's generations)."""
    return any(kind.__name__ == "ClickException" for kind in type(error).__mro__)


def _show_usage_error(error: Any) -> int:
    context = getattr(error, "ctx", None)
    message = str(error.format_message()).rstrip(".")
    Output().error(message, f"`{context.command_path} --help` tells more" if context else "")
    return int(error.exit_code)


def _silence_stdout() -> None:
    """The reader of our output has gone; keep the interpreter from complaining when it flushes at exit."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):  # a test's stand-in for stdout has no number
        return
