"""The command line: a chooser that loads only the module of the command that was asked for.

Data goes to stdout, everything else to stderr. Exit codes: see ``fastslm.cli.failure``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

COMMANDS = {
    "pull": "Download a model, check it and make it ready to run",
    "plan": "Tell what a model needs before it is downloaded",
    "run": "Ask a model once, or talk to it",
    "convert": "Make an ONNX folder of a model that is on this machine",
    "list": "Show the models on this machine and their state",
    "show": "Show what is known of one model",
    "cp": "Give a model a second name",
    "rm": "Remove a model",
    "verify": "Check the files on this machine by their hashes, and repair them",
    "df": "Show what takes room on the disk",
    "gc": "Remove what nobody needs any more",
    "import": "Bring in a model from a file, a folder, another program, or a bundle",
    "bundle": "Put a model into one file for a machine without a network",
    "eval": "Measure the perplexity of a model on a text",
    "doctor": "Check this machine, its libraries, folders and line",
}
"""Name of each command and its line of help."""

MODULES = {
    "cp": "copy",
    "df": "usage",
    "eval": "evaluate",
    "gc": "garbage",
    "import": "bring_in",
    "list": "listing",
    "rm": "remove",
}
"""Modules whose name is not the command's, because Python has a use for that word."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        if len(words) > 1 and words[1] in COMMANDS:
            return _run(words[1], ["--help"])
        sys.stdout.write(overview())
        return 0
    if words[0] in ("-V", "--version", "version"):
        from fastslm._native import __version__

        sys.stdout.write(f"fastslm {__version__}\n")
        return 0
    if words[0] not in COMMANDS:
        return _unknown(words[0])
    return _run(words[0], words[1:])


def overview() -> str:
    """The help of ``fastslm`` itself, made of the table above."""
    lines = [f"  {name:<9}{text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "Usage: fastslm COMMAND [OPTIONS] …",
            "",
            "Language models on the CPU you have.",
            "",
            "Commands:",
            *lines,
            "",
            "`fastslm COMMAND --help` tells more. Try: fastslm run demo",
            "",
        ]
    )


def _run(name: str, words: list[str]) -> int:
    from fastslm.cli.runner import run_command

    module = import_module(f"fastslm.cli.{MODULES.get(name, name)}")
    return run_command(name, module.command, words)


def _unknown(word: str) -> int:
    from difflib import get_close_matches

    near = get_close_matches(word, COMMANDS, n=1)
    hint = f"; did you mean `{near[0]}`" if near else ""
    sys.stderr.write(f"error: there is no command `{word}`{hint}\nhint: `fastslm --help` lists the commands\n")
    return 2
