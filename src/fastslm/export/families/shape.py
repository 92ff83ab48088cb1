"""Dimensions and options of a decoder, as a family reads them from a configuration."""

from __future__ import annotations

from dataclasses import dataclass

from fastslm.export.layers import AttentionShape


@dataclass(frozen=True)
class DecoderShape:
    """One decoder.

    Attributes:
        hidden_size, intermediate_size, vocab_size, num_layers: widths and depth.
        attention: heads of every layer.
        norm_epsilon: added to the mean square in every norm.
        context_length: positions that the graph's rotary tables hold.
        frequencies: inverse rotary frequencies, one per pair of head dimensions.
        tied: the head is the embedding matrix.
        biases: projections that have a bias, by their last name (``q_proj``, …).
    """

    hidden_size: int
    intermediate_size: int
    vocab_size: int
    num_layers: int
    attention: AttentionShape
    norm_epsilon: float
    context_length: int
    frequencies: tuple[float, ...]
    tied: bool
    biases: frozenset[str]
