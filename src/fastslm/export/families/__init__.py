"""Model families that we write graphs for: one table from ``model_type`` to the module that knows it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Protocol

from fastslm.export.families import llama
from fastslm.export.families.shape import DecoderShape
from fastslm.export.hparams import Hparams, unsupported
from fastslm.export.layers import Layers
from fastslm.export.matrices import WantedTensor


class Family(Protocol):
    """What every family module provides."""

    def read_shape(self, config: Hparams, tensors: Collection[str]) -> DecoderShape:
        """Dimensions and options. ``tensors`` are the names that the model has.

        Raises:
            FormatError: a value is missing or has no meaning.
            UnsupportedModel: a value asks for something that this family does not do.
        """

    def wanted_tensors(self, shape: DecoderShape) -> Iterator[WantedTensor]:
        """Every tensor that ``build`` reads."""

    def build(self, shape: DecoderShape, layers: Layers) -> None:
        """Add the whole decoder, from token ids to logits, to a graph."""


FAMILIES: Mapping[str, Family] = MappingProxyType({"llama": llama, "mistral": llama, "qwen2": llama})


def family_of(config: Hparams) -> Family:
    """The module for a configuration.

    Raises:
        UnsupportedModel: none of ours, or the weights are quantised in a way that we do not read.
    """
    if config.get("quantization_config") is not None:
        method = config.section("quantization_config").get("quant_method", "unknown")
        raise unsupported("quantization_config.quant_method", method, "a model with plain or GGUF weights")
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise unsupported("model_type", kind, *FAMILIES)
    return FAMILIES[kind]
