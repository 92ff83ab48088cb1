"""The command line: a chooser that loads only the module of the command that was asked for.

Data goes to stdout, everything else to stderr. Exit codes: see ``fastslm.cli.failure``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from itertools import takewhile

COMMANDS = {
    "pull": "Download a model, check it and make it ready to run",
    "cancel": "Give up a download, wherever it runs",
    "plan": "Tell what a model needs before it is downloaded",
    "run": "Ask a model once, or talk to it",
    "embed": "Turn texts into vectors with an encoder",
    "rerank": "Put texts in the order in which they answer a query",
    "convert": "Make an ONNX folder of a model that is on this machine",
    "can-convert": "Say whether a model can be converted, from its configuration alone",
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
    "bench": "Measure how fast a model is on this machine",
    "mirror": "Serve this machine's models to others, as a hub would",
    "doctor": "Check this machine, its libraries, folders and line",
}
"""Name of each command and its line of help."""

MODULES = {
    "can-convert": "can_convert",
    "cp": "copy",
    "df": "usage",
    "eval": "evaluate",
    "gc": "garbage",
    "import": "bring_in",
    "list": "listing",
    "rm": "remove",
}
"""Modules whose name is not the command's, because Python has a use for that word."""


GLOBAL_OPTIONS = frozenset({"--debug", "--json", "--quiet", "-q", "--verbose", "-v"})
"""Options that may stand before the command as well."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    from fastslm.cli.runner import guarded

    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    return guarded(lambda: _dispatch(words), quiet="--quiet" in words or "-q" in words, debug=debug)


def _dispatch(words: list[str]) -> int:
    leading = list(takewhile(GLOBAL_OPTIONS.__contains__, words))
    rest = words[len(leading) :]
    if not rest or rest[0] in ("-h", "--help", "help"):
        if len(rest) > 1 and rest[1] in COMMANDS:
            return _run(rest[1], ["--help"])
        sys.stdout.write(overview())
        return 0
    if rest[0] in ("-V", "--version", "version"):
        from fastslm._native import __version__

        sys.stdout.write(f"fastslm {__version__}\n")
        return 0
    if rest[0] not in COMMANDS:
        return _unknown(rest[0])
    return _run(rest[0], [*rest[1:], *leading])


def overview() -> str:
    """The help of ``fastslm`` itself, made of the table above."""
    lines = [f"  {name:<13}{text}" for name, text in COMMANDS.items()]
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
