"""What a conversion may be told. Light, so that faces can import it early."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from fastslm.errors import UsageError
from fastslm.machine import usable_cpus

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Precision = Literal["auto", "fp32", "int8", "mixed", "int4", "int4-fast", "exact"]

Target = Literal["auto", "native", "portable"]
"""What runs the graph: operators of our own, or those that every ONNX Runtime has."""

PLAIN: tuple[Precision, ...] = ("fp32", "int8", "mixed", "int4", "int4-fast")
"""What any model can be converted to, from the most bits to the fewest."""

Backend = Literal["native", "optimum"]
"""Who writes the graph: this package, or Optimum's exporter."""

SEARCHED: tuple[Precision, ...] = ("mixed", "int4", "int4-fast")
"""Precisions whose codes come from a search, which a calibration can guide."""

MAX_CONTEXT = 32768
"""Most positions a converted model takes unless told otherwise.

The rotary tables grow with it (32,768 positions of head size 128 are 16 MB), and so does what a KV cache may reserve.
"""


@dataclass(frozen=True)
class Calibration:
    """What a text shows of the inputs of each matrix.

    Attributes:
        digest: SHA-256 of the text.
        mean_squares: by tensor, the mean square of each column's input.
    """

    digest: str
    mean_squares: Mapping[str, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class ConvertOptions:
    """Settings of one conversion.

    Attributes:
        name, commit: written to the manifest: what was asked for, and which version of it.
        precision: ``fp32``, ``int8``, ``mixed``, ``int4``, ``int4-fast`` (see ``encoding``), ``exact`` (keep the
            numbers of a quantised GGUF) or ``auto``: ``exact`` for a quantised source, else ``int4``,
            of encoders ``int8``.
        context_length: most positions of prompt and answer together; more than the model's own are refused.
            None for the model's own, but at most ``MAX_CONTEXT``.
        target: ``native``, for the operators of this package, ``portable``, or ``auto``: ``native`` where they load.
        backend: ``native``, or ``optimum`` for architectures that we do not write ourselves.
        threads: threads that quantise, 0 for one per CPU that we may use (at most 8).
        calibration: weights the errors of the columns of a matrix; None for all the same.
    """

    name: str
    commit: str
    precision: Precision = "auto"
    context_length: int | None = None
    target: Target = "auto"
    threads: int = 0
    backend: Backend = "native"
    calibration: Calibration | None = None

    def __post_init__(self) -> None:
        _demand("precision", self.precision, get_args(Precision))
        _demand("target", self.target, get_args(Target))
        _demand("backend", self.backend, get_args(Backend))
        length = self.context_length
        if length is not None and (type(length) is not int or length < 1):
            message = f"context length is `{length}`, expected a whole number of at least 1"
            raise UsageError(message, name="context_length", value=length)
        if self.threads < 0:
            raise UsageError(f"threads is `{self.threads}`, expected at least 0", name="threads", value=self.threads)

    @property
    def worker_count(self) -> int:
        """Threads to start."""
        return self.threads or min(8, usable_cpus())


def _demand(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        message = f"{name} is `{value}`, expected one of {', '.join(allowed)}"
        raise UsageError(message, name=name, value=value, allowed=allowed)
