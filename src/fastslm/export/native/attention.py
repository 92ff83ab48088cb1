"""Attention as our own operator. Its cache is bytes, so that the format of keys and values is chosen at load."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fastslm.export.decoder.attention import AttentionBuilder, add_norm_weights, alibi_slopes
from fastslm.export.decoder.shape import Attention, AttentionShape, Norm, ShortConv
from fastslm.export.graph import Dimension
from fastslm.ops import DOMAIN


class NativeAttention(AttentionBuilder):
    """``AttentionBuilder`` for the target ``native``."""

    def attend(self, index: int, attention: Attention, values: Sequence[str]) -> str:
        """See ``AttentionBuilder``."""
        shape, graph, name = attention.shape, self.layers.graph, f"layers.{index}/attention"
        query, others = values[0], [*values[1:], *[""] * (3 - len(values))]
        if attention.query_norm and not self.norms_inside(attention):
            query = graph.node("Reshape", [query, graph.shape(-1, shape.query_rows)], f"{query}/2d")
        tables = self.tables[attention.rope] if attention.rope else ("", "")
        operands = [query, *others, *self.kv_inputs(index, shape), "seqlens_k", *tables]
        operands += [*self._norms(attention), self.sinks(attention), self._slopes(shape)]
        results = [name, *self.kv_outputs(index, shape)]
        graph.nodes("Attention", operands, results, domain=DOMAIN, **_options(attention))
        return name

    def convolve(self, index: int, convolution: ShortConv, gates: str) -> str:
        """See ``AttentionBuilder``: what it looks back at is kept like keys, and there are no values."""
        graph, matrices, name = self.layers.graph, self.layers.matrices, f"layers.{index}/convolution"
        size: list[Dimension] = ["batch", convolution.heads, "capacity", "row_bytes"]
        past = graph.input(f"past_key_values.{index}.key", np.uint8, size)
        present = f"present.{index}.key"
        graph.output(present, np.uint8, size)
        taps = np.ascontiguousarray(matrices.vector(convolution.taps.key)[:, 0].T)
        bias = self.layers.vector(convolution.bias.key) if convolution.bias else ""
        operands = [gates, past, "seqlens_k", graph.weight(f"{convolution.name}.taps", taps), bias]
        options = {"heads": convolution.heads, "head_dim": convolution.head_dim}
        graph.nodes("ShortConv", operands, [name, present], domain=DOMAIN, **options)
        return name

    def norms_inside(self, attention: Attention) -> bool:
        """See ``AttentionBuilder``: root mean square norms of single heads are."""
        norms = [norm for norm in (attention.query_norm, attention.key_norm) if norm]
        same_epsilon = len({norm.epsilon for norm in norms}) == 1
        return same_epsilon and all(_is_simple(norm, attention.shape.head_dim) for norm in norms)

    def kv_type(self, shape: AttentionShape) -> tuple[npt.DTypeLike, Sequence[Dimension]]:
        """See ``AttentionBuilder``: bytes, whose number in a row tells the format."""
        return np.uint8, ["batch", shape.kv_heads, "capacity", "row_bytes"]

    def _norms(self, attention: Attention) -> list[str]:
        if not self.norms_inside(attention):
            return ["", ""]
        norms = (attention.query_norm, attention.key_norm)
        return [add_norm_weights(self.layers, norm).weight if norm else "" for norm in norms]

    def _slopes(self, shape: AttentionShape) -> str:
        if shape.alibi_scale is None:
            return ""
        slopes = (alibi_slopes(shape.heads) * shape.alibi_scale).astype(np.float32)
        return self.layers.graph.constant("alibi/slopes", slopes)


def _is_simple(norm: Norm, head_dim: int) -> bool:
    return norm.width == head_dim and not norm.centred and norm.bias is None


def _options(attention: Attention) -> dict[str, float | int]:
    shape, norm = attention.shape, attention.query_norm or attention.key_norm
    return {
        "heads": shape.heads,
        "kv_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "window": shape.window or 0,
        "scale": shape.scale or 0.0,
        "soft_cap": shape.softcap or 0.0,
        "epsilon": norm.epsilon if norm else 1e-6,
    }
