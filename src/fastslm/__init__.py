"""Language models on the CPU you have: from a model's name to its first token as fast as line, disk and CPU allow.

    import fastslm

    model = fastslm.load("demo")
    print(model.chat([{"role": "user", "content": "Why is the sky blue?"}]).text)

``can_convert`` says whether a model will do, ``pull`` fetches and converts, ``convert`` makes an ONNX folder of files
at hand, ``load`` gives a ``Model``. Everything is loaded on first use: importing this package costs a few milliseconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastslm._native import __version__
    from fastslm.api import convert, load, plan, pull
    from fastslm.config import Settings
    from fastslm.engine.generate import Step
    from fastslm.engine.model import Model
    from fastslm.engine.request import Result
    from fastslm.errors import FastSLMError
    from fastslm.progress import Progress
    from fastslm.verdict import can_convert

_HOMES = {
    "FastSLMError": "fastslm.errors",
    "Model": "fastslm.engine.model",
    "Progress": "fastslm.progress",
    "Result": "fastslm.engine.request",
    "Settings": "fastslm.config",
    "Step": "fastslm.engine.generate",
    "__version__": "fastslm._native",
    "can_convert": "fastslm.verdict",
    "convert": "fastslm.api",
    "load": "fastslm.api",
    "plan": "fastslm.api",
    "pull": "fastslm.api",
}

__all__ = [
    "FastSLMError",
    "Model",
    "Progress",
    "Result",
    "Settings",
    "Step",
    "__version__",
    "can_convert",
    "convert",
    "load",
    "plan",
    "pull",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module `fastslm` has no attribute `{name}`")
    value: object = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
