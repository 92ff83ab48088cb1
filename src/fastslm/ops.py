"""Our operators for ONNX Runtime: where their library is, whether it loads, and which instruction set it runs on.

``FASTSLM_ISA`` forces one; the library reads it once, when a process first registers it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

from fastslm import runtime
from fastslm.errors import FileMissing, UnsupportedModel

DOMAIN = "fastslm"
"""The operators' domain in graphs."""

CacheFormat = Literal["f32", "f16", "int16", "int8"]
"""How the attention operator can store keys and values; int16 with a scale per head, int8 with one for every 32."""

CACHE_FORMATS: tuple[CacheFormat, ...] = get_args(CacheFormat)

DEFAULT_CACHE_FORMAT: CacheFormat = "int16"
"""Half the memory of float32, nearer to it than float16, and multiplied by matrix units where there are any."""


def cache_row_bytes(format_: CacheFormat, head_dim: int) -> int:
    """Bytes of one position of one head, by which the operator tells the formats apart."""
    scales = 2 * -(-head_dim // 32)
    sizes = {"f32": 4 * head_dim, "f16": 2 * head_dim, "int16": 2 * head_dim + 4, "int8": head_dim + scales}
    return sizes[format_]


def library_path() -> Path:
    """The shared library, for ``SessionOptions.register_custom_ops_library``.

    Raises:
        FileMissing: this installation has none, so only graphs of stock operators run.
    """
    from fastslm import _native

    folder = Path(_native.__file__).parent
    for suffix in (".so", ".dylib", ".dll"):
        for name in (f"libfastslm_ops{suffix}", f"fastslm_ops{suffix}"):
            if (folder / name).is_file():
                return folder / name
    raise FileMissing(f"`{folder}` holds no library of operators", what="file", name="libfastslm_ops")


def layout_version() -> int:
    """Layout of packed weights that this release writes and runs; the operators refuse any other."""
    from fastslm import _native

    return _native.packed_layout_version()


def register(options: Any) -> None:
    """Add the operators to the options of a session.

    Raises:
        UnsupportedModel: the library is missing, or this ONNX Runtime does not take it.
        UsageError: ``FASTSLM_ISA`` names an instruction set that does not run here.
    """
    active_isa()
    try:
        options.register_custom_ops_library(str(library_path()))
    except Exception as error:  # whatever class ONNX Runtime raises
        message = f"our operators cannot be loaded: {runtime.first_line(error)}"
        raise UnsupportedModel(message, feature="operators") from error


def why_unusable() -> str:
    """Why no session here can have the operators; nothing when it can.

    Raises:
        UsageError: as ``register``.
    """
    try:
        register(runtime.onnxruntime().SessionOptions())
    except UnsupportedModel as error:
        return str(error)
    return ""


def available_isas() -> list[str]:
    """Instruction sets that the operators are written for and this machine supports, best first."""
    from fastslm import _native

    return _native.available_isas()


def active_isa() -> str:
    """The instruction set that a session would use.

    Raises:
        UsageError: ``FASTSLM_ISA`` names one that is unknown or does not run here.
    """
    from fastslm import _native

    return _native.active_isa()
