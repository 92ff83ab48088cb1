"""``fastslm rerank``: which texts answer a query best."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from fastslm.cli.options import Json, Name, Polite, Precision, PrecisionOption, Quiet, Threads
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
    polite: Polite = False,
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
    how: dict[str, Any] = {"precision": precision.choice, "threads": threads, "polite": polite, "notice": output.remark}
    with output.progress() as progress, api.load(model, **how, progress=progress) as loaded:
        ranked = loaded.rerank(query, listed, top=top, progress=progress)
    lines = (f"{each.score:.4f}  {each.text}" for each in ranked)
    results = [asdict(each) for each in ranked]
    output.data({"model": model, "query": query, "results": results}, "\n".join(lines))
