"""SmolLM3: the Llama block, but every fourth layer does not turn its heads (Yang et al. 2025, "Rope to Nope")."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from fastslm.export.decoder.shape import DecoderShape
from fastslm.export.families.decoders import llama
from fastslm.export.hparams import Hparams, unsupported

INTERVAL = 4


def read_shape(config: Hparams, tensors: Collection[str]) -> DecoderShape:
    """See ``Family``."""
    config.demand("use_sliding_window", False, default=False)
    shape = llama.read_shape(config, tensors)
    turns = _turning_layers(config, shape.num_layers)
    return shape.with_attention(lambda index, attention: attention if turns[index] else replace(attention, rope=None))


def _turning_layers(config: Hparams, layers: int) -> list[bool]:
    """``no_rope_layers`` holds a 1 for every layer that does turn its heads."""
    interval = config.count("no_rope_layer_interval", INTERVAL)
    found = config.get("no_rope_layers", [int((index + 1) % interval != 0) for index in range(layers)])
    if not isinstance(found, list) or len(found) != layers:
        raise unsupported("no_rope_layers", found, f"a list of {layers}")
    return [bool(each) for each in found]
