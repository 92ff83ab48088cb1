"""How much memory a model takes while it answers: resident bytes of the process, file pages included.

The constants were fitted to real runs; a test of the demo model holds them to 10 %.
"""

from __future__ import annotations

from dataclasses import dataclass

from fastslm.export.footprint import Footprint

PROCESS_BYTES = 104_000_000
"""Python, ONNX Runtime, Numba and our own code with nothing loaded."""

TOKENIZER_FACTOR = 10
"""Bytes that the tokenizers library keeps for each byte of ``tokenizer.json``."""

CHUNK_TOKENS = 512
"""Most tokens of a prompt that are computed at once, as the engine does it."""

LIVE_ROWS = {"native": 1.4, "portable": 2.2}
"""Intermediate results that live at the same time, in units of one layer's linear results, by target."""


@dataclass(frozen=True)
class MemoryNeed:
    """Parts of the memory for one context, in bytes.

    Attributes:
        fixed_bytes: the process and the tokenizer.
        weights_bytes: as the runtime holds them.
        loading_bytes: on top of that for a moment while the model loads.
        kv_bytes: keys and values of the whole context.
        activation_bytes: of a chunk of the prompt.
    """

    fixed_bytes: int
    weights_bytes: int
    loading_bytes: int
    kv_bytes: int
    activation_bytes: int

    @property
    def peak_bytes(self) -> int:
        """The most that is needed at any time."""
        answering = self.kv_bytes + self.activation_bytes
        return self.fixed_bytes + self.weights_bytes + max(self.loading_bytes, answering)


def memory_need(footprint: Footprint, context: int, tokenizer_bytes: int) -> MemoryNeed:
    """What a conversation that fills ``context`` positions takes."""
    return MemoryNeed(
        fixed_bytes=PROCESS_BYTES + TOKENIZER_FACTOR * tokenizer_bytes,
        weights_bytes=footprint.heap_bytes + footprint.mapped_bytes,
        loading_bytes=footprint.passing_bytes,
        kv_bytes=footprint.kv_bytes * context,
        activation_bytes=int(min(context, CHUNK_TOKENS) * footprint.row_bytes * LIVE_ROWS[footprint.kind.target]),
    )


def longest_context(footprint: Footprint, tokenizer_bytes: int, available_bytes: int) -> int:
    """Most positions, up to the model's own, that fit into so much memory; 0 when not even the weights do."""

    def fits(context: int) -> bool:
        return memory_need(footprint, context, tokenizer_bytes).peak_bytes <= available_bytes

    low, high = 0, footprint.context_length
    if not fits(1):
        return 0
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low
