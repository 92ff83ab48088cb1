"""``fastslm doctor``: check this machine, its libraries, folders and line."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from fastslm.cli.options import Json, Quiet
from fastslm.cli.output import Output

MARKS = {"ok": "ok     ", "warning": "warning", "error": "error  "}


def command(
    *,
    offline: Annotated[bool, typer.Option("--offline", help="Do not ask the hub")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Check this machine. Exit code 1 when something that every model needs is broken."""
    from fastslm.config import Settings
    from fastslm.diagnosis import examine

    output = Output(as_json=as_json, quiet=quiet)
    findings = []
    for finding in examine(Settings.from_environment(), online=not offline):
        findings.append(finding)
        if not as_json:
            output.data(None, f"{MARKS[finding.status]}  {finding.name:<13} {finding.text}")
    if as_json:
        output.data([asdict(finding) for finding in findings], "")
    return 1 if any(finding.status == "error" for finding in findings) else 0
