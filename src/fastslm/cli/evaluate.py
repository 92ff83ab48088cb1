"""``fastslm eval``: perplexity of a model on a text."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from fastslm.cli.options import Json, KVCacheOption, Name, Precision, PrecisionOption, Quiet, Threads
from fastslm.cli.output import Output
from fastslm.errors import FileMissing, FormatError


def command(
    model: Name,
    *,
    text: Annotated[Path, typer.Option("--text", help="A UTF-8 text file")],
    tokens: Annotated[int, typer.Option("--tokens", min=2, help="How many tokens of it to use")] = 1024,
    precision: PrecisionOption = Precision.AUTO,
    threads: Threads = 0,
    kv_cache: KVCacheOption = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure the perplexity of a model: exp of the mean negative log likelihood of the text's tokens."""
    from fastslm import api

    output = Output(as_json=as_json, quiet=quiet)
    content, kept = read_text(text), kv_cache and kv_cache.choice
    how: dict[str, Any] = {"precision": precision.choice, "threads": threads, "kv_cache": kept, "notice": output.remark}
    with output.progress() as progress, api.load(model, **how, progress=progress) as loaded:
        report = loaded.perplexity(content, tokens, progress=progress)
    record = {"model": model, "text": str(text), **asdict(report)}
    output.data(record, f"perplexity {report.perplexity:.4f} over {report.tokens} tokens")


def read_text(path: Path) -> str:
    """The file's text.

    Raises:
        FileMissing, FormatError: there is no such file, or it is not UTF-8.
    """
    if not path.is_file():  # a device would never end
        raise FileMissing(f"there is no text file `{path}`", what="file", name=str(path))
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        message = f"`{path}` is not UTF-8 text: byte {error.start} is 0x{error.object[error.start]:02x}"
        raise FormatError(message, subject=str(path)) from None
