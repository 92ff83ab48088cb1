"""``fastslm run``: ask a model once, or talk to it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastslm.cli.chat import Conversation, talk
from fastslm.cli.options import (
    Context,
    Json,
    KVCacheOption,
    Name,
    Polite,
    Precision,
    PrecisionOption,
    Quiet,
    Threads,
    Verbose,
)
from fastslm.cli.output import Output
from fastslm.errors import UsageError

if TYPE_CHECKING:
    from fastslm.engine.model import Model
    from fastslm.engine.stats import Timings


def command(
    model: Name,
    prompt: Annotated[str | None, typer.Argument(help="What to ask; `-` reads it from stdin")] = None,
    *,
    system: Annotated[str | None, typer.Option(help="System message")] = None,
    temperature: Annotated[float | None, typer.Option(help="0 is greedy")] = None,
    top_k: Annotated[int | None, typer.Option(help="Keep the k best tokens, 0 for all")] = None,
    top_p: Annotated[float | None, typer.Option(help="Keep the best tokens up to this probability")] = None,
    min_p: Annotated[float | None, typer.Option(help="Drop tokens below this share of the best")] = None,
    repetition_penalty: Annotated[float | None, typer.Option(help="Above 1 discourages repeating")] = None,
    presence_penalty: Annotated[float | None, typer.Option(help="Flat penalty for tokens already used")] = None,
    frequency_penalty: Annotated[float | None, typer.Option(help="Penalty for each earlier use")] = None,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", "-n", help="Longest answer in tokens")] = None,
    stop: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="End the answer before this text (repeatable)")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed, same answer")] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Continue the prompt as it is, without a chat template")] = False,
    precision: PrecisionOption = Precision.AUTO,
    context: Context = None,
    threads: Threads = 0,
    polite: Polite = False,
    kv_cache: KVCacheOption = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Ask a model once, or talk to it when no prompt is given. A model that is not here yet is pulled first."""
    output = Output(as_json=as_json, quiet=quiet, verbose=verbose)
    question = _question(prompt)
    if question is None and (as_json or raw):
        raise UsageError("`--json` and `--raw` need a prompt, found none", name="prompt")
    request = _given(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, seed=seed, stop=stop)
    request |= _given(repetition_penalty=repetition_penalty, presence_penalty=presence_penalty)
    request |= _given(frequency_penalty=frequency_penalty, max_tokens=max_tokens)
    _check(request)
    how: dict[str, Any] = {"precision": precision.choice, "threads": threads, "context_length": context}
    how |= {"polite": polite, "kv_cache": kv_cache and kv_cache.choice}
    with _load(model, how, greedy=temperature == 0, output=output) as loaded:
        conversation = Conversation(
            loaded, system=system, sampling=request, raw=raw, answered=_recorder(loaded, usual=not (threads or polite))
        )
        if question is None:
            talk(conversation, output)
        else:
            answer_once(conversation, question, model, output)


def _given(**options: object) -> dict[str, Any]:
    """The options that have a value; the others keep the model's own defaults."""
    return {name: value for name, value in options.items() if value is not None}


def _check(request: dict[str, Any]) -> None:
    """Refuse values that are not possible before anything is loaded or fetched."""
    from fastslm.engine.generate import GenerationOptions
    from fastslm.engine.sampler import SamplingOptions

    lengths = {name: request[name] for name in ("max_tokens",) if name in request}
    sampling = {name: value for name, value in request.items() if name not in ("max_tokens", "stop")}
    GenerationOptions(sampling=SamplingOptions(**sampling), **lengths)


def _load(model: str, how: Mapping[str, Any], *, greedy: bool, output: Output) -> Model:
    from fastslm import api
    from fastslm.engine.sampler import preload_kernels

    if not greedy:
        preload_kernels()  # in a thread, while the model loads
    with output.progress() as progress:
        return api.load(model, **how, progress=progress, notice=output.remark)


def _recorder(loaded: Model, *, usual: bool) -> Callable[[Timings], None]:
    """Remembers the speed of answers as usual, with the number of threads that suits, for later plans."""
    from fastslm import api
    from fastslm.config import Settings

    settings = Settings.from_environment()
    if settings.threads or not usual:
        return lambda timings: None
    return lambda timings: api.remember_speed(loaded.manifest, timings, settings)


def _question(prompt: str | None) -> str | None:
    """The prompt from the command line or from stdin; None when a person sits at the keyboard."""
    if prompt is not None and prompt != "-":
        text: str | None = prompt
    elif prompt == "-" or not sys.stdin.isatty():
        text = sys.stdin.read().rstrip("\n")
    else:
        text = None
    if text is not None and not text.strip():
        raise UsageError("the prompt is empty", name="prompt", value=text)
    return text


def answer_once(conversation: Conversation, question: str, name: str, output: Output) -> None:
    """Stream the answer, or print it whole as JSON."""
    if not output.as_json:
        conversation.ask(question, output)
        return
    result = conversation.ask_quietly(question)
    output.data(result_record(name, result), result.text)


def result_record(name: str, result: Any) -> dict[str, object]:
    """What ``--json`` shows of a result."""
    from dataclasses import asdict

    return {
        "model": name,
        "text": result.text,
        "finish_reason": result.finish_reason,
        "usage": asdict(result.usage),
        "timings": asdict(result.timings),
    }
