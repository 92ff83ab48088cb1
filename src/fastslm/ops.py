"""Where our operators for ONNX Runtime are, and which instruction set they run on.

``FASTSLM_ISA`` forces one; the library reads it once, when a process first registers it.
"""

from __future__ import annotations

from pathlib import Path

from fastslm.errors import FileMissing

DOMAIN = "fastslm"
"""The operators' domain in graphs."""

LAYOUT_VERSION = 1
"""Layout of packed weights that this release writes and runs; the operators refuse any other."""


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
