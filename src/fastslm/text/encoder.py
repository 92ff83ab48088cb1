"""Who encodes a text: the `tokenizers` library, or our kernel once so much text came that it pays to load it.

The ids are the same. To load the kernel (numba, tables) takes as long as the library needs for about a million
characters, so it is loaded when the library was given as many; short texts are the library's at all times.
"""

from __future__ import annotations

from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any

from fastslm import runtime

if TYPE_CHECKING:
    from fastslm.text.byte_level import ByteLevelEncoder

SHORT = 2048
"""Characters below which a text is not worth the kernel's preparations."""

BREAK_EVEN = 1 << 20
"""Characters of longer texts before the kernel is loaded."""

LIBRARY_S_PER_CHARACTER = 4e-7
"""What the library needs about; no text waits longer for the kernel to be loaded."""


class Encoder:
    """Encodes texts of one tokenizer of the library. Usable from any thread."""

    def __init__(self, inner: Any) -> None:
        """Nothing is loaded yet."""
        self._inner = inner
        self._given = 0
        self._lock = Lock()
        self._loading: Future[ByteLevelEncoder | None] | None = None

    def encode(self, text: str) -> list[int]:
        """Token ids, without special tokens that are not in the text. Raises TypeError, UnicodeEncodeError."""
        kernel = self._kernel(text) if isinstance(text, str) and len(text) >= SHORT else None
        if kernel is not None:
            return kernel.encode(text)
        return list(self._inner.encode(text, add_special_tokens=False).ids)

    def _kernel(self, text: str) -> ByteLevelEncoder | None:
        """The kernel if it understands this tokenizer, and is loaded or will be sooner than the library is done."""
        self._given += len(text)
        if self._given < BREAK_EVEN:
            return None
        with self._lock:
            if self._loading is None:
                self._loading = Future()
                Thread(target=self._load, args=(self._loading,), name="fastslm-encoder", daemon=True).start()
        try:
            return self._loading.result(len(text) * LIBRARY_S_PER_CHARACTER)
        except FutureTimeout:
            return None

    def _load(self, future: Future[ByteLevelEncoder | None]) -> None:
        from fastslm.text.byte_level import ByteLevelEncoder

        try:
            future.set_result(ByteLevelEncoder(self._inner))
        except BaseException:  # noqa: BLE001  # not understood, no compiler, a panic of the library: it goes on as before
            future.set_result(None)
        runtime.give_back_memory()
