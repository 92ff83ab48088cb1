"""Model families that we write graphs for: one table from ``model_type`` to what reads its configuration."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from fastslm.errors import UnsupportedModel
from fastslm.export.decoder import build as decoder
from fastslm.export.decoder.build import Operators
from fastslm.export.decoder.shape import DecoderShape
from fastslm.export.encoder import build as encoder
from fastslm.export.encoder.shape import EncoderShape
from fastslm.export.families.decoders import (
    bloom,
    falcon,
    gemma,
    gpt2,
    gpt_neox,
    gpt_oss,
    granite,
    lfm2,
    llama,
    mistral,
    mixtral,
    olmo,
    opt,
    phi,
    phi3,
    qwen,
    qwen_moe,
    smollm3,
    stablelm,
    starcoder2,
)
from fastslm.export.families.encoders import bert, distilbert, modernbert, mpnet, nomic, roberta
from fastslm.export.graph import Graph
from fastslm.export.hparams import Hparams, unsupported
from fastslm.export.matrices import MatrixWriter, WantedTensor

Shape = DecoderShape | EncoderShape


@dataclass(frozen=True)
class Family:
    """One family.

    Attributes:
        models: what people call its members.
        native_only: its layers need operators of our own.
        read_shape: dimensions and options from a configuration and the names of the model's tensors (none, when only
            the configuration is known). Raises FormatError for a value that is missing or has no meaning, and
            UnsupportedModel for one that asks for something that this family does not do.
    """

    models: str
    read_shape: Callable[[Hparams, Collection[str]], Shape]
    native_only: bool = False

    def check_target(self, target: str) -> None:
        """Raise UnsupportedModel when a graph for this target cannot hold it."""
        if self.native_only and target != "native":
            message = f"`{target}` graphs cannot hold {self.models}, expected the target `native`"
            raise UnsupportedModel(message, feature=f"target={target}")

    def wanted_tensors(self, shape: Shape) -> Iterator[WantedTensor]:
        """Every tensor that ``build`` reads."""
        return decoder.wanted_tensors(shape)

    def ignored(self, shape: Shape) -> tuple[str, ...]:
        """Beginnings of tensor names that may be there unread."""
        return shape.ignored if isinstance(shape, EncoderShape) else ()

    def build(self, shape: Shape, graph: Graph, matrices: MatrixWriter, operators: Operators) -> None:
        """Add the whole model, from token ids to logits, vectors or scores, to a graph."""
        if isinstance(shape, EncoderShape):
            encoder.build(shape, graph, matrices, operators.layers)
        else:
            decoder.build(shape, graph, matrices, operators)


FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "llama": Family("Llama 2, 3, 3.1 and 3.2, TinyLlama, SmolLM, SmolLM2, Falcon3", llama.read_shape),
        "mistral": Family("Mistral 7B", mistral.read_shape),
        "mixtral": Family("Mixtral 8x7B and 8x22B", mixtral.read_shape),
        "qwen2": Family("Qwen2, Qwen2.5, DeepSeek-R1-Distill-Qwen", qwen.read_shape2),
        "qwen3": Family("Qwen3", qwen.read_shape3),
        "qwen2_moe": Family("Qwen1.5-MoE, Qwen2-MoE", qwen_moe.read_shape2),
        "qwen3_moe": Family("Qwen3-MoE", qwen_moe.read_shape3),
        "phi3": Family("Phi-3, Phi-3.5, Phi-4 and Phi-4-mini", phi3.read_shape),
        "gemma": Family("Gemma 1, CodeGemma", gemma.read_shape1),
        "gemma2": Family("Gemma 2", gemma.read_shape2),
        "gemma3_text": Family("Gemma 3 270M and 1B", gemma.read_shape3),
        "gpt2": Family("GPT-2, DistilGPT-2", gpt2.read_shape),
        "gpt_neox": Family("GPT-NeoX, Pythia", gpt_neox.read_shape),
        "phi": Family("Phi-1, Phi-1.5, Phi-2", phi.read_shape),
        "stablelm": Family("StableLM 3B, StableLM 2 1.6B, Zephyr", stablelm.read_shape),
        "starcoder2": Family("StarCoder2", starcoder2.read_shape),
        "olmo": Family("OLMo 1", olmo.read_shape1),
        "olmo2": Family("OLMo 2", olmo.read_shape2),
        "granite": Family("Granite 3", granite.read_shape),
        "smollm3": Family("SmolLM3", smollm3.read_shape),
        "gpt_oss": Family("gpt-oss 20B and 120B", gpt_oss.read_shape),
        "lfm2": Family("LFM2", lfm2.read_shape, native_only=True),
        "opt": Family("OPT, except 350M", opt.read_shape),
        "falcon": Family("Falcon 7B and RW-1B, Falcon 2", falcon.read_shape),
        "bloom": Family("BLOOM, BLOOMZ", bloom.read_shape),
    }
)
"""Models that continue a text."""

ENCODERS: Mapping[str, Family] = MappingProxyType(
    {
        "bert": Family("BERT, MiniLM, BGE, E5, GTE, Arctic Embed 1, MS MARCO cross-encoders", bert.read_shape),
        "roberta": Family("RoBERTa, all-distilroberta", roberta.read_shape),
        "xlm-roberta": Family("XLM-R, multilingual E5, BGE-M3 (dense), BGE rerankers", roberta.read_shape),
        "distilbert": Family("DistilBERT", distilbert.read_shape),
        "mpnet": Family("MPNet, all-mpnet-base", mpnet.read_shape),
        "nomic_bert": Family("Nomic Embed 1 and 1.5", nomic.read_shape),
        "modernbert": Family("ModernBERT, GTE ModernBERT and its reranker", modernbert.read_shape),
    }
)
"""Models that turn a text into a vector or into scores."""


NOT_YET: Mapping[str, str] = MappingProxyType(
    {
        "lfm2_moe": "its router chooses experts by the logistic function and a bias of its own",
    }
)
"""Decoders that people ask for and that we do not write: what keeps us from it."""


def default_precision(model_type: object) -> Literal["int4", "int8"]:
    """What plain floats become unless told otherwise.

    Most matrices of an encoder keep 8 bits anyway: ``int4`` of MiniLM-L6 is 6 % smaller and loses twelve times as much.
    """
    return "int8" if model_type in ENCODERS else "int4"


def family_of(config: Hparams) -> Family:
    """The family of a configuration.

    Raises:
        UnsupportedModel: none of ours, or the weights are quantised in a way that we do not read.
    """
    kind = config.get("model_type")
    if isinstance(kind, str) and kind in NOT_YET:
        raise UnsupportedModel(f"`model_type` `{kind}` is not supported: {NOT_YET[kind]}", feature=f"model_type={kind}")
    if config.get("quantization_config") is not None:
        method = config.section("quantization_config").get("quant_method", "unknown")
        raise unsupported("quantization_config.quant_method", method, "a model with plain or GGUF weights")
    known = {**FAMILIES, **ENCODERS}
    if not isinstance(kind, str) or kind not in known:
        raise unsupported("model_type", kind, *known)
    return known[kind]
