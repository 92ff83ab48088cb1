"""What each target of a conversion is made of."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from fastslm import ops
from fastslm.export.decoder.attention import AttentionBuilder
from fastslm.export.decoder.build import Operators
from fastslm.export.layers import Layers
from fastslm.export.native.attention import NativeAttention
from fastslm.export.native.layers import NativeLayers
from fastslm.export.native.mixture import add_packed_mixture
from fastslm.export.options import Target

TARGETS: Mapping[str, Operators] = MappingProxyType(
    {
        "native": Operators(NativeLayers, NativeAttention, add_packed_mixture),
        "portable": Operators(Layers, AttentionBuilder, for_others=True),
    }
)


def resolve_target(wanted: Target) -> Literal["native", "portable"]:
    """What ``auto`` means here: ``native`` where our operators load, else ``portable``.

    Raises:
        UsageError: ``FASTSLM_ISA`` names an instruction set that does not run here.
    """
    if wanted == "auto":
        return "portable" if ops.why_unusable() else "native"
    return wanted
