"""``fastslm mirror``: serve this machine's models to others, in the hub's own protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fastslm.cli.options import Quiet
from fastslm.cli.output import Output, amount

if TYPE_CHECKING:
    from fastslm.mirror.serve import Opening


def command(
    *,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for the whole network")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on, 0 for any that is free")] = 8090,
    upstream: Annotated[
        str | None, typer.Option(metavar="URL", help="Hub to fetch from, once, what is not here")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Serve the models in this machine's Hugging Face cache, read-only. Others use it by HF_ENDPOINT=http://HOST:PORT.

    An upstream is asked without a token: what it hides from anybody is not served. Prints its address; Ctrl-C ends it.
    """
    from fastslm.config import Settings, checked_endpoint
    from fastslm.mirror.serve import Wishes, serve

    output = Output(quiet=quiet)
    wishes = Wishes(host, port, checked_endpoint(upstream, "--upstream") if upstream else "")

    def opened(opening: Opening) -> None:
        for line in remarks(opening):
            output.remark(line)
        output.data(opening.url, opening.url)

    serve(Settings.from_environment(), wishes, opened)


def remarks(opening: Opening) -> list[str]:
    """What the person who starts a mirror should know."""
    total = sum(size for _, size in opening.models)
    lines = [f"Serving {len(opening.models)} models ({amount(total)}) of this machine's Hugging Face cache"]
    if opening.upstream:
        lines.append(f"What is not here is fetched from {opening.upstream} when somebody asks for it")
    if opening.loopback:
        return [*lines, "Only this machine can reach it; --host 0.0.0.0 opens it to the network"]
    lines.append("Whoever reaches this address can download, without a password, also what was gated on the hub:")
    return [*lines, *(f"  {name} ({amount(size)})" for name, size in opening.models)]
