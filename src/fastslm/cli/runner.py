"""Run one command function under Typer and turn every way it can end into an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

from fastslm.cli.failure import INTERRUPTED, outcome
from fastslm.cli.output import Output
from fastslm.errors import FastSLMError


def run_command(name: str, function: Callable[..., Any], words: list[str]) -> int:
    """Parse ``words`` for ``function`` and run it.

    Returns:
        Its exit code: 0, the code of the error's class (``fastslm.cli.failure``), 2 for wrong usage, 130 when
        interrupted. With ``--debug`` among the words an error shows its traceback.
    """
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    output = Output(quiet="--quiet" in words or "-q" in words)
    try:
        return _invoke(name, function, words)
    except BrokenPipeError:
        _silence_stdout()
        return 1
    except KeyboardInterrupt:
        output.error("interrupted")
        return INTERRUPTED.exit_code
    except FastSLMError as error:
        row = outcome(error)
        output.error(error.message, row.hint)
        if debug:
            traceback.print_exc()
        return row.exit_code
    except Exception as error:  # noqa: BLE001  # the program's edge: whatever it is, one sentence and exit code 1
        output.error(f"unexpected {type(error).__name__}: {error}", "the same command with --debug shows the traceback")
        if debug:
            traceback.print_exc()
        return 1


def _invoke(name: str, function: Callable[..., Any], words: list[str]) -> int:
    import typer

    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(epilog="--debug shows the traceback of an error.")(function)
    try:
        result = typer.main.get_command(app).main(args=words, prog_name=f"fastslm {name}", standalone_mode=False)
    except typer.Exit as end:
        return end.exit_code
    except typer.Abort:
        raise KeyboardInterrupt from None
    except Exception as error:
        if _is_usage_error(error):
            return _show_usage_error(error)
        raise
    return result if isinstance(result, int) else 0


def _is_usage_error(error: Exception) -> bool:
    """Whether the option parser refused the words (its class differs between Typer's generations)."""
    return any(kind.__name__ == "ClickException" for kind in type(error).__mro__)


def _show_usage_error(error: Any) -> int:
    context = getattr(error, "ctx", None)
    Output().error(error.format_message(), f"`{context.command_path} --help` tells more" if context else "")
    return int(error.exit_code)


def _silence_stdout() -> None:
    """The reader of our output has gone; keep the interpreter from complaining when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
