"""``fastslm eval``: perplexity of a model on a text."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from fastslm.cli.options import Json, KVCacheOption, Name, Precision, PrecisionOption, Quiet, Threads
from fastslm.cli.output import Output


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
    from fastslm.engine.quality.options import read_text

    output = Output(as_json=as_json, quiet=quiet)
    content, kept = read_text(text), kv_cache and kv_cache.choice
    how: dict[str, Any] = {"precision": precision.choice, "threads": threads, "kv_cache": kept, "notice": output.remark}
    with output.progress() as progress, api.load(model, **how, progress=progress) as loaded:
        report = loaded.perplexity(content, tokens, progress=progress)
    record = {"model": model, "text": str(text), **asdict(report)}
    output.data(record, f"perplexity {report.perplexity:.4f} over {report.tokens} tokens")
