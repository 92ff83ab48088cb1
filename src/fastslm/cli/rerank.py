"""``fastslm rerank``: which texts answer a query best."""

from __future__ import annotations

from typing import Annotated

import typer

from fastslm.cli.options import Json, Name, Precision, PrecisionOption, Quiet, Threads
from fastslm.cli.output import Output
from fastslm.cli.texts import read_texts


def command(
    model: Name,
    query: Annotated[str, typer.Argument(help="What is looked for")],
    texts: Annotated[list[str] | None, typer.Argument(metavar="[TEXT]…", help="`-` reads lines from stdin")] = None,
    *,
    top: Annotated[int | None, typer.Option("--top", min=1, help="Only so many of the best")] = None,
    precision: PrecisionOption = Precision.AUTO,
    threads: Threads = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Put texts in the order in which they answer a query, best first: score and text on each line.

    A cross-encoder looks at query and text together; another encoder compares their vectors by the cosine.
    """
    from dataclasses import asdict

    from fastslm import api

    output = Output(as_json=as_json, quiet=quiet)
    listed = read_texts(texts or ())
    with (
        output.progress() as progress,
        api.load(model, precision=precision.choice, threads=threads, progress=progress, notice=output.remark) as loaded,
    ):
        ranked = loaded.rerank(query, listed, top=top, progress=progress)
    lines = (f"{each.score:.4f}  {each.text}" for each in ranked)
    results = [asdict(each) for each in ranked]
    output.data({"model": model, "query": query, "results": results}, "\n".join(lines))
