"""``fastslm embed``: vectors of texts."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from fastslm.cli.options import Json, Name, Polite, Precision, PrecisionOption, Quiet, Threads
from fastslm.cli.output import Output
from fastslm.cli.texts import read_texts


def command(
    model: Name,
    texts: Annotated[list[str] | None, typer.Argument(metavar="[TEXT]…", help="`-` reads lines from stdin")] = None,
    *,
    prompt: Annotated[str | None, typer.Option("--prompt", help="Name of one of the model's prompts")] = None,
    precision: PrecisionOption = Precision.AUTO,
    threads: Threads = 0,
    polite: Polite = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Turn texts into vectors: a line of numbers for each, in the order of the texts."""
    from fastslm import api

    output = Output(as_json=as_json, quiet=quiet)
    listed = read_texts(texts or ())
    how: dict[str, Any] = {"precision": precision.choice, "threads": threads, "polite": polite, "notice": output.remark}
    with output.progress() as progress, api.load(model, **how, progress=progress) as loaded:
        vectors = loaded.embed(listed, prompt=prompt, progress=progress).tolist()
    rows = [{"text": text, "vector": vector} for text, vector in zip(listed, vectors, strict=True)]
    lines = (" ".join(f"{number:.7g}" for number in vector) for vector in vectors)
    output.data({"model": model, "width": len(vectors[0]), "vectors": rows}, "\n".join(lines))
