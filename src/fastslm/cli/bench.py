"""``fastslm bench``: how fast a model is on this machine."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastslm.cli.options import Context, Json, KVCacheOption, Name, Precision, PrecisionOption, Quiet, Threads
from fastslm.cli.output import Output, amount, table

if TYPE_CHECKING:
    from fastslm.engine.measure import Measurement, Speed, Spread


def command(
    model: Name,
    *,
    prompt: Annotated[
        list[int] | None, typer.Option("--prompt", "-p", min=2, help="Tokens of the prompt (repeatable; default: 512)")
    ] = None,
    tokens: Annotated[int, typer.Option("--tokens", "-n", min=1, help="Tokens written after it")] = 64,
    repeat: Annotated[int, typer.Option("--repeat", "-r", min=1, help="How often")] = 3,
    precision: PrecisionOption = Precision.AUTO,
    context: Context = None,
    threads: Threads = 0,
    kv_cache: KVCacheOption = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure how fast a model reads prompts and writes answers here, and what memory it takes."""
    from fastslm import api
    from fastslm.engine.measure import MeasureOptions

    output = Output(as_json=as_json, quiet=quiet)
    options = MeasureOptions(tuple(dict.fromkeys(prompt or [512])), tokens, repeat)
    how: dict[str, Any] = {"precision": precision.choice, "threads": threads, "context_length": context}
    how |= {"kv_cache": kv_cache and kv_cache.choice, "notice": output.remark}
    with output.progress() as progress, api.load(model, **how, progress=progress) as loaded:
        measured = loaded.measure(options, progress=progress)
    output.data({"model": model, **_record(measured)}, _shown(measured))


def _record(measured: Measurement) -> dict[str, object]:
    rates = [{"bytes_per_s": speed.bytes_per_s, "bandwidth_share": measured.share(speed)} for speed in measured.speeds]
    speeds = [{**asdict(speed), **rate} for speed, rate in zip(measured.speeds, rates, strict=True)]
    return {**asdict(measured), "speeds": speeds}


def _shown(measured: Measurement) -> str:
    headings = ["prompt", "reads", "writes", "memory read", "share of bandwidth"]
    anonymous = measured.anonymous_bytes
    lines = [
        f"{measured.precision}, {measured.target}, {measured.isa}, {_counted(measured.threads, 'thread')}, "
        f"KV cache {measured.kv_cache}",
        f"loaded in {measured.load_s * 1000:.0f} ms; memory {amount(measured.rss_bytes)}"
        + (f", of which {amount(anonymous)} are not pages of files" if anonymous is not None else ""),
        "",
        table(headings, [_row(measured, speed) for speed in measured.speeds]),
    ]
    return "\n".join(lines)


def _row(measured: Measurement, speed: Speed) -> list[str]:
    share = measured.share(speed)
    rate = f"{speed.bytes_per_s / 1e9:.1f} GB/s" if speed.bytes_per_s else "not known"
    return [
        f"{speed.prompt_tokens} tokens",
        _rate(speed.prefill_tokens_per_s),
        _rate(speed.decode_tokens_per_s),
        rate,
        "not known" if share is None else f"{share:.0%}",
    ]


def _rate(spread: Spread) -> str:
    return f"{spread.median:.1f} tokens/s ({spread.lowest:.1f} to {spread.highest:.1f})"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
