"""``fastslm plan``: what a model would cost here, before anything of it is downloaded."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from fastslm.cli.options import Context, Force, Json, Name, Precision, PrecisionOption, Quiet
from fastslm.cli.output import Output, amount, table

if TYPE_CHECKING:
    from fastslm.plan.estimate import Estimate, Plan

HEADINGS = ("", "PRECISION", "DISK", "MEMORY", "OF IT WEIGHTS", "KV CACHE", "TOKENS/S", "FITS")


def command(
    model: Name,
    *,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit")] = None,
    precision: PrecisionOption = Precision.AUTO,
    context: Context = None,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Tell what a model needs: download, disk, memory and speed, for every precision. Only headers are fetched.

    Exit code 4 when the chosen precision cannot work on this machine.
    """
    from fastslm import api

    output = Output(as_json=as_json, quiet=quiet)
    plan = api.plan(model, revision=revision, precision=precision.choice, context_length=context)
    output.data(plan_record(plan), plan_text(plan))
    if plan.machine.available_bytes < plan.choice.memory.peak_bytes <= plan.machine.memory_bytes:
        output.remark(
            f"only {amount(plan.machine.available_bytes)} of memory are free now, other programs use the rest"
        )
    if not force:
        plan.check()


def plan_record(plan: Plan) -> dict[str, object]:
    """What ``--json`` shows."""
    return {
        "name": plan.name,
        "commit": plan.commit,
        "architecture": plan.architecture,
        "parameters": plan.parameters,
        "download": {**asdict(plan.traffic), "missing_bytes": plan.traffic.missing_bytes},
        "disk_peak_bytes": plan.disk_peak_bytes,
        "context_length": plan.context,
        "precision": plan.chosen,
        "converted": plan.converted,
        "fits": plan.fits(plan.choice),
        "alternative": plan.alternative.precision if plan.alternative else None,
        "estimates": [estimate_record(plan, each) for each in plan.estimates],
        "machine": asdict(plan.machine),
    }


def estimate_record(plan: Plan, estimate: Estimate) -> dict[str, object]:
    """One precision."""
    return {
        "precision": estimate.precision,
        "disk_bytes": estimate.footprint.file_bytes,
        "memory_bytes": estimate.memory.peak_bytes,
        "memory": asdict(estimate.memory),
        "streamed_bytes": estimate.footprint.streamed_bytes,
        "tokens_per_s": estimate.tokens_per_s,
        "longest_context": estimate.longest_context,
        "fits": plan.fits(estimate),
    }


def plan_text(plan: Plan) -> str:
    """The same for people."""
    traffic, machine = plan.traffic, plan.machine
    here = f", {amount(traffic.cached_bytes)} of it are here" if traffic.cached_bytes else ""
    size = f", {plan.parameters / 1e6:.0f} M parameters" if plan.parameters else ""
    speed = f", read at {machine.bandwidth / 1e9:.1f} GB/s" if machine.bandwidth else ""
    facts = [
        ("model", f"{plan.name} ({plan.architecture}{size})"),
        ("commit", plan.commit or "-"),
        ("download", f"{amount(traffic.total_bytes)}{here}"),
        ("disk", f"{amount(plan.disk_peak_bytes)} at most, {amount(machine.models_disk_bytes)} are free"),
        ("memory", f"{amount(machine.memory_bytes)}, {amount(machine.available_bytes)} are free{speed}"),
        ("context", f"{plan.context} tokens"),
    ]
    rows = [estimate_row(plan, each) for each in plan.estimates]
    return "\n".join([*(f"{name:<9} {value}" for name, value in facts), "", table(HEADINGS, rows)])


def estimate_row(plan: Plan, estimate: Estimate) -> tuple[str, ...]:
    """One row under ``HEADINGS``; the chosen precision is marked."""
    return (
        "*" if estimate.precision == plan.chosen else "",
        estimate.precision,
        amount(estimate.footprint.file_bytes),
        amount(estimate.memory.peak_bytes),
        amount(estimate.memory.weights_bytes),
        amount(estimate.memory.kv_bytes),
        "-" if estimate.tokens_per_s is None else f"{estimate.tokens_per_s:.1f}",
        fits_text(plan, estimate),
    )


def fits_text(plan: Plan, estimate: Estimate) -> str:
    """Whether memory holds it."""
    if not plan.fits(estimate):
        return "no"
    short = estimate.longest_context < plan.context
    return f"up to {estimate.longest_context} tokens" if short else "yes"
