"""``fastslm convert``: an ONNX folder of a model that is on this machine."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastslm.cli.options import (
    Calibrate,
    Context,
    Json,
    Name,
    Precision,
    PrecisionOption,
    Quality,
    QualityOption,
    Quiet,
    Target,
    TargetOption,
)
from fastslm.cli.output import Output

if TYPE_CHECKING:
    from fastslm.export.options import Backend as Choice

BACKEND_HELP = "Who writes the graph: native, or optimum, which knows more architectures (extra `export`)"


class Backend(str, Enum):
    """Writers of graphs."""

    NATIVE = "native"
    OPTIMUM = "optimum"

    @property
    def choice(self) -> Choice:
        """The word that the library takes."""
        return self.value


def command(
    model: Name,
    *,
    output_folder: Annotated[Path | None, typer.Option("--output", "-o", help="Write here, not into the store")] = None,
    precision: PrecisionOption = Precision.AUTO,
    context: Context = None,
    backend: Annotated[Backend, typer.Option("--backend", help=BACKEND_HELP)] = Backend.NATIVE,
    target: TargetOption = Target.AUTO,
    quality: QualityOption = Quality.AUTO,
    calibrate: Calibrate = None,
    force: Annotated[bool, typer.Option("--force", help="Keep a result whose quality is out of bounds")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Convert a model that is on this machine to ONNX; prints the folder. The network is not used."""
    from dataclasses import asdict

    from fastslm import api
    from fastslm.store.manifest import ModelManifest

    output = Output(as_json=as_json, quiet=quiet)
    with output.progress() as progress:
        folder = api.convert(
            model,
            precision=precision.choice,
            context_length=context,
            target=target.choice,
            output=output_folder,
            backend=backend.choice,
            quality=quality.choice,
            calibrate=calibrate,
            force=force,
            progress=progress,
            notice=output.remark,
        )
    output.data({"folder": str(folder), **asdict(ModelManifest.read(folder))}, str(folder))
