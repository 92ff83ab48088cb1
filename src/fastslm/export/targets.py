"""What each target of a conversion is made of."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from fastslm.export.decoder.attention import AttentionBuilder
from fastslm.export.decoder.build import Operators
from fastslm.export.layers import Layers
from fastslm.export.native.attention import NativeAttention
from fastslm.export.native.layers import NativeLayers
from fastslm.export.options import Target

TARGETS: Mapping[Target, Operators] = MappingProxyType(
    {"native": Operators(NativeLayers, NativeAttention), "portable": Operators(Layers, AttentionBuilder)}
)
