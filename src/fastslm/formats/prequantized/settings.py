"""What ``quantization_config`` says of the weights of a model, checked against what we read.

GPTQ (Frantar et al. 2022) as AutoGPTQ and GPTQModel write it, AWQ (Lin et al. 2023) as AutoAWQ does for its GEMM
kernel. MXFP4 is that of gpt-oss, whose experts are read by ``formats.stacked``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from fastslm.errors import FormatError, UnsupportedModel
from fastslm.formats import checked_json

KEY = "quantization_config"
BLOCK = 32
WHOLE_ROW = -1
MXFP4_MODEL = "gpt_oss"
"""The one model whose MXFP4 weights we know where to find."""


@dataclass(frozen=True)
class Settings:
    """How the weights are packed.

    Attributes:
        group_size: neighbouring weights of a row that share a scale; ``WHOLE_ROW`` for all.
        added: what the stored zero points lack.
        sorts_inputs: groups may be of inputs that are no neighbours (act-order), ``x.g_idx`` says which.
    """

    method: Literal["gptq", "awq", "mxfp4"]
    group_size: int
    added: int
    sorts_inputs: bool = False


def read_settings(config: Mapping[str, Any]) -> Settings | None:
    """The settings of a model's ``config.json``, None for plain weights.

    Raises:
        UnsupportedModel: weights in a form that we do not read.
        FormatError: a value has no meaning.
    """
    found = checked_json.get(config, KEY, dict, "config.json")
    if not found:
        return None
    method = found.get("quant_method", "unknown")
    if method == "mxfp4":
        return _mxfp4(config)
    if method not in ("gptq", "awq"):
        expected = "expected plain floats, GPTQ, AWQ, MXFP4 or GGUF"
        message = f"the weights are quantised by {checked_json.shorten(method)}, {expected}"
        raise UnsupportedModel(message, feature=str(method)[:60])
    _demand(found, "bits", (4,), 4)
    size = checked_json.get(found, "group_size", int, KEY) or 128
    if size != WHOLE_ROW and (size < BLOCK or size % BLOCK):
        raise _unsupported("group_size", size, f"a multiple of {BLOCK}, or {WHOLE_ROW}")
    return _gptq(found, size) if method == "gptq" else _awq(found, size)


def plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of the same model with weights that need no explanation."""
    return {key: value for key, value in config.items() if key != KEY}


def _gptq(found: Mapping[str, Any], size: int) -> Settings:
    _demand(found, "desc_act", (False, True), False)
    _demand(found, "pack_dtype", ("int32",), "int32")
    _demand(found, "checkpoint_format", ("gptq", "gptq_v2"), "gptq")
    added = 0 if found.get("checkpoint_format") == "gptq_v2" else 1
    return Settings("gptq", size, added, sorts_inputs=bool(found.get("desc_act")))


def _awq(found: Mapping[str, Any], size: int) -> Settings:
    _demand(found, "zero_point", (True,), True)
    if str(found.get("version", "gemm")).lower() != "gemm":
        raise _unsupported("version", found["version"], "gemm")
    return Settings("awq", size, 0)


def _mxfp4(config: Mapping[str, Any]) -> Settings:
    kind = config.get("model_type")
    if kind != MXFP4_MODEL:
        message = f"the weights of {checked_json.quoted(str(kind))} are quantised by `mxfp4`, expected `{MXFP4_MODEL}`"
        raise UnsupportedModel(message, feature="mxfp4")
    return Settings("mxfp4", BLOCK, 0)


def _demand(found: Mapping[str, Any], key: str, allowed: tuple[object, ...], default: object) -> None:
    value = found.get(key)
    value = default if value is None else value
    if not isinstance(value, (str, int, bool)):
        raise FormatError(f"`{KEY}.{key}` is {checked_json.shorten(value)}, expected {allowed[0]}", subject=key)
    if value not in allowed:
        raise _unsupported(key, value, " or ".join(str(each) for each in allowed))


def _unsupported(key: str, value: object, expected: str) -> UnsupportedModel:
    message = f"`{KEY}.{key}` is {checked_json.shorten(value)}, expected {expected}"
    return UnsupportedModel(message, feature=f"{key}={value}"[:60])
