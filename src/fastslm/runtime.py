"""What runs below us: ONNX Runtime, imported late and told not to record its use, and the C library. Floor 1."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any


def onnxruntime() -> Any:
    """The library. Its import alone writes files into the home folder unless it is told not to."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime as library

    library.disable_telemetry_events()  # where the program had imported it before
    return library


def give_back_memory() -> None:
    """Return what the C library keeps of freed memory to the system, in about a millisecond; glibc only."""
    import ctypes

    with suppress(OSError, AttributeError, TypeError):  # no such function, or no C library that can be asked
        ctypes.CDLL(None).malloc_trim(0)


def first_line(error: Exception) -> str:
    """What an error of ONNX Runtime says, short enough for one sentence."""
    return str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
