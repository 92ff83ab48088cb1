"""``fastslm can-convert``: will this model be converted, and how."""

from __future__ import annotations

from fastslm.cli.options import Json, Name, Quiet
from fastslm.cli.output import Output


def command(model: Name, *, as_json: Json = False, quiet: Quiet = False) -> int:
    """Say whether a model can be converted, from its config.json alone. Exit code 1 when it can not."""
    from dataclasses import asdict

    from fastslm.verdict import Verdict, can_convert

    def sentence(verdict: Verdict) -> str:
        if not verdict.convertible:
            return f"no: {verdict.reason}"
        if verdict.backend == "optimum":
            return f"yes: with `--backend optimum`, because {verdict.reason}"
        sizes = f"{verdict.num_layers} layers, context {verdict.context_length}"
        return f"yes: {verdict.backend}, architecture `{verdict.architecture}` ({verdict.family or 'other'}), {sizes}"

    verdict = can_convert(model)
    Output(as_json=as_json, quiet=quiet).data(asdict(verdict), sentence(verdict))
    return 0 if verdict.convertible else 1
