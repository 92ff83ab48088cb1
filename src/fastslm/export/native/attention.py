"""Attention as our own operator; what it does not do stays with the stock one, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence

from fastslm.export.decoder.attention import AttentionBuilder
from fastslm.export.decoder.shape import Attention, AttentionShape
from fastslm.ops import DOMAIN


class NativeAttention(AttentionBuilder):
    """``AttentionBuilder`` for the target ``native``."""

    def attend(self, index: int, attention: Attention, values: Sequence[str]) -> str:
        """See ``AttentionBuilder``. Linear biases are added by the stock operator only."""
        shape, graph, name = attention.shape, self.layers.graph, f"layers.{index}/attention"
        if shape.alibi_scale is not None:
            return super().attend(index, attention, values)
        query, others = values[0], [*values[1:], *[""] * (3 - len(values))]
        if attention.query_norm:
            query = graph.node("Reshape", [query, graph.shape(-1, shape.query_rows)], f"{query}/2d")
        tables = self.tables[attention.rope] if attention.rope else ("", "")
        operands = [query, *others, *self.kv_inputs(index, shape), "seqlens_k", *tables]
        results = [name, *self.kv_outputs(index, shape)]
        graph.nodes("Attention", operands, results, domain=DOMAIN, **_options(shape))
        return name


def _options(shape: AttentionShape) -> dict[str, float | int]:
    return {
        "heads": shape.heads,
        "kv_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "window": shape.window or 0,
        "scale": shape.scale or 0.0,
        "soft_cap": shape.softcap or 0.0,
    }
