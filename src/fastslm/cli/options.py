"""Options that several commands share, each defined once."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fastslm.export.options import Precision as Choice
    from fastslm.export.options import Target as TargetChoice


class Target(str, Enum):
    """Targets that a user may ask for."""

    AUTO = "auto"
    NATIVE = "native"
    PORTABLE = "portable"

    @property
    def choice(self) -> TargetChoice:
        """The word that the library takes."""
        return self.value


class Precision(str, Enum):
    """Precisions that a user may ask for."""

    AUTO = "auto"
    FP32 = "fp32"
    INT8 = "int8"
    MIXED = "mixed"
    INT4 = "int4"
    INT4_FAST = "int4-fast"
    EXACT = "exact"

    @property
    def choice(self) -> Choice:
        """The word that the library takes."""
        return self.value


PRECISION_HELP = (
    "fp32, int8, mixed, int4, int4-fast, exact (the source's own quantised blocks), or auto: exact for a quantised "
    "GGUF, else int4"
)

Name = Annotated[str, typer.Argument(metavar="MODEL", help="org/name[@revision], a short name, a path, a URL, or demo")]
TargetOption = Annotated[
    Target,
    typer.Option("--target", help="native (our own operators), portable (stock ones), or auto: native where it runs"),
]
PrecisionOption = Annotated[Precision, typer.Option("--precision", help=PRECISION_HELP)]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no remarks")]
Force = Annotated[bool, typer.Option("--force", help="Even when it does not fit")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more")]
Threads = Annotated[int, typer.Option("--threads", "-t", min=0, help="Threads, 0 for what suits this machine")]
Context = Annotated[
    int | None,
    typer.Option("--context", min=16, help="Positions of prompt and answer together (default: the model's own)"),
]
