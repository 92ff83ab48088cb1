"""Options that several commands share, each defined once."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fastslm.config import Settings
    from fastslm.export.options import Precision as Choice
    from fastslm.export.options import Target as TargetChoice
    from fastslm.fidelity import Quality as QualityChoice
    from fastslm.ops import CacheFormat


class Target(str, Enum):
    """Targets that a user may ask for."""

    AUTO = "auto"
    NATIVE = "native"
    PORTABLE = "portable"

    @property
    def choice(self) -> TargetChoice:
        """The word that the library takes."""
        return self.value


class KVCacheFormat(str, Enum):
    """Formats of the KV cache."""

    F32 = "f32"
    F16 = "f16"
    INT16 = "int16"
    INT8 = "int8"

    @property
    def choice(self) -> CacheFormat:
        """The word that the library takes."""
        return self.value


class Quality(str, Enum):
    """When a result is compared with its floats."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"

    @property
    def choice(self) -> QualityChoice:
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
    "GGUF, else int4, of encoders int8"
)

Name = Annotated[str, typer.Argument(metavar="MODEL", help="org/name[@revision], a short name, a path, a URL, or demo")]
TargetOption = Annotated[
    Target,
    typer.Option("--target", help="native (our own operators), portable (stock ones), or auto: native where it runs"),
]
PrecisionOption = Annotated[Precision, typer.Option("--precision", help=PRECISION_HELP)]
KVCacheOption = Annotated[
    KVCacheFormat | None,
    typer.Option(
        "--kv-cache", help="How keys and values are kept: int16 (default), f32, f16, or int8 for long contexts"
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no remarks")]
Force = Annotated[bool, typer.Option("--force", help="Even when it does not fit")]
QualityOption = Annotated[
    Quality,
    typer.Option("--quality", help="Compare with the floats it is made from: always, never, or auto where it is cheap"),
]
Calibrate = Annotated[
    Path | None, typer.Option("--calibrate", metavar="FILE", help="A text like those that the model will work on")
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more")]
Threads = Annotated[int, typer.Option("--threads", "-t", min=0, help="Threads, 0 for what suits this machine")]
Polite = Annotated[
    bool, typer.Option("--polite", help="Let other programs go first: lower priority, and one core left free")
]
Context = Annotated[
    int | None,
    typer.Option("--context", min=16, help="Positions of prompt and answer together (default: the model's own)"),
]

LimitRate = Annotated[
    str | None,
    typer.Option("--limit-rate", metavar="RATE", help="Bytes per second of the download, such as 500K or 5M"),
]
MaxConnections = Annotated[
    int | None, typer.Option("--max-connections", min=1, max=256, help="Most connections at a time (default: 16)")
]
Mirrors = Annotated[
    list[str] | None,
    typer.Option("--mirror", metavar="URL", help="Another hub with the same files, used at the same time (repeatable)"),
]


def download_settings(limit_rate: str | None, max_connections: int | None, mirrors: list[str] | None) -> Settings:
    """The settings of the environment, with what the command line says about downloads.

    Raises:
        UsageError: a rate or an address that cannot be meant.
    """
    from dataclasses import replace

    from fastslm.config import Settings, checked_endpoint, rate_of

    settings = Settings.from_environment()
    if limit_rate is not None:
        settings = replace(settings, limit_rate=rate_of(limit_rate, "--limit-rate"))
    if max_connections is not None:
        settings = replace(settings, connections=max_connections)
    return replace(settings, mirrors=tuple(checked_endpoint(mirror, "--mirror") for mirror in mirrors or ()))
