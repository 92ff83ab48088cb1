"""The one way our kernels are compiled: lazily, cached on disk, without the GIL.

Numba looks for a writable cache folder itself: `NUMBA_CACHE_DIR`, then the package's own `__pycache__`, then the
user's cache folder. Its cache notices changes of the outermost function's file only, so kernels that call each
other live in one file. Importing this module imports numba (about a third of a second): import kernels late.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from numba import njit

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """Compile at the first call; the plain Python function stays reachable as ``.py_func``.

    A product and the sum it goes into are rounded once, where the processor can do it: the one difference to Python.
    Where no folder can be written at all, the kernel is compiled anew in every process instead of failing.
    """
    return _compiled(function, {"contract"})


def summed(function: Function) -> Function:
    """As ``compiled``, for a loop that adds floats: they may be added in any order, so by vector instructions.

    Let it do nothing else: the licence holds for all arithmetic in it (not in the kernels that it calls).
    """
    return _compiled(function, {"contract", "reassoc", "nsz"})


def _compiled(function: Function, licences: set[str]) -> Function:
    flags: dict[str, object] = {"nogil": True, "boundscheck": False, "error_model": "numpy", "no_cfunc_wrapper": True}
    flags |= {"fastmath": licences}  # where nothing is said, numba takes what the first caller was given
    try:
        return njit(cache=True, **flags)(function)  # type: ignore[no-any-return]
    except RuntimeError:  # what numba raises when every place for its cache is refused
        return njit(**flags)(function)  # type: ignore[no-any-return]
