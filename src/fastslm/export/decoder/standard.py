"""What most families have in common: how a configuration spells the sizes, and how the parts of a layer are named."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from fastslm.export.decoder.shape import (
    Activation,
    Attention,
    AttentionShape,
    Embedding,
    FeedForward,
    Head,
    Linear,
    Mixture,
    Norm,
)
from fastslm.export.decoder.tensors import Run, Tensor
from fastslm.export.hparams import Hparams, unsupported
from fastslm.export.rope import Rope, read_rope, rope_section

ACTIVATIONS: dict[str, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}

HEAD = "lm_head"
FULL, SLIDING = "full_attention", "sliding_attention"
MAX_LAYERS, MAX_HEADS, MAX_HEAD_DIM, MAX_EXPERTS = 512, 512, 1024, 32768
"""Far above every model there is; what a configuration may make us enumerate before its tensors are looked at."""


@dataclass(frozen=True)
class Sizes:
    """Widths, depth and context of a decoder, under the names of Llama's configuration."""

    hidden: int
    inner: int
    vocab: int
    layers: int
    context: int


def read_sizes(config: Hparams, *, inner: int | None = None) -> Sizes:
    """The sizes. Raises FormatError.

    Args:
        inner: width of the feed-forward layer where the configuration may leave it out.
    """
    return Sizes(
        hidden=config.count("hidden_size"),
        inner=config.count("intermediate_size", inner),
        vocab=config.count("vocab_size"),
        layers=read_depth(config),
        context=config.count("max_position_embeddings"),
    )


def read_depth(config: Hparams) -> int:
    """How many layers. Raises FormatError, and UnsupportedModel for a number that nobody has trained."""
    layers = config.count("num_hidden_layers")
    if layers > MAX_LAYERS:
        raise unsupported("num_hidden_layers", layers, f"at most {MAX_LAYERS}")
    return layers


def read_attention(config: Hparams) -> AttentionShape:
    """Numbers and size of the heads; the options of ``AttentionShape`` are the family's business.

    Raises:
        FormatError: a value is missing or has no meaning.
        UnsupportedModel: ONNX Runtime's operator does not take these sizes.
    """
    heads = config.count("num_attention_heads")
    kv_heads = config.count("num_key_value_heads", heads)
    head_dim = config.count("head_dim", max(1, config.count("hidden_size") // heads))
    if heads > MAX_HEADS:
        raise unsupported("num_attention_heads", heads, f"at most {MAX_HEADS}")
    if heads % kv_heads:
        raise unsupported("num_key_value_heads", kv_heads, f"a divisor of {heads} attention heads")
    if head_dim % 8 or head_dim > MAX_HEAD_DIM:
        raise unsupported("head_dim", head_dim, f"a multiple of 8, at most {MAX_HEAD_DIM}")
    return AttentionShape(heads, kv_heads, head_dim)


def read_activation(config: Hparams, key: str, default: str) -> Activation:
    """The function between the two halves of a feed-forward layer. Raises UnsupportedModel."""
    config.demand(key, *ACTIVATIONS, default=default)
    return ACTIVATIONS[config.get(key, default)]


def partial_rope(config: Hparams, head_dim: int, *, default: float = 1.0) -> Rope:
    """The rotation of the first part of a head, as ``partial_rotary_factor`` says. Raises as ``read_rope``."""
    key = "partial_rotary_factor"
    part = rope_section(config).number(key, config.number(key, default))
    return read_rope(config, turned_dimensions(key, part, head_dim))


def turned_dimensions(key: str, part: float, head_dim: int) -> int:
    """How many dimensions of a head positions turn. Raises UnsupportedModel."""
    turned = int(head_dim * part + 1e-6)  # a part that was worked out from whole numbers may lie just below
    if not 2 <= turned <= head_dim or turned % 2:
        raise unsupported(key, part, f"an even part of {head_dim}")
    return turned


def layer_windows(config: Hparams, layers: int, default: Sequence[bool] | None = None) -> tuple[int | None, ...]:
    """The window of every layer: ``sliding_window`` where ``layer_types`` says sliding, None elsewhere.

    Args:
        default: which layers slide in configurations that do not say; None for none.

    Raises:
        UnsupportedModel: another kind of layer, or not one word for each.
    """
    usual = [SLIDING if slides else FULL for slides in default or [False] * layers]
    kinds = config.get("layer_types", usual)
    if not isinstance(kinds, list) or len(kinds) != layers:
        raise unsupported("layer_types", kinds, f"a list of {layers} kinds")
    for kind in kinds:
        if kind not in (FULL, SLIDING):
            raise unsupported("layer_types", kind, FULL, SLIDING)
    if SLIDING not in kinds:
        return (None,) * layers
    window = config.count("sliding_window")
    return tuple(window if kind == SLIDING else None for kind in kinds)


def matrix(name: str, rows: int, columns: int) -> Tensor:
    """The weight of a module that is a matrix."""
    return Tensor(f"{name}.weight", (rows, columns))


def linear(name: str, rows: int, columns: int, *, bias: bool = False) -> Linear:
    """A linear layer of one module."""
    return Linear((matrix(name, rows, columns),), (Tensor(f"{name}.bias", (rows,)),) if bias else ())


def reordered(module: Linear, runs: tuple[Run, ...]) -> Linear:
    """A linear layer with its rows in the order of these runs, those of its matrix and bias alike."""
    weights, biases = (tuple(replace(part, runs=runs) for part in parts) for parts in (module.weights, module.biases))
    return Linear(weights, biases)


def rms_norm(name: str, width: int, epsilon: float, *, added: float = 0.0) -> Norm:
    """Root mean square norm; ``added`` where the files hold weights around zero."""
    return Norm(name, width, epsilon, weight=Tensor(f"{name}.weight", (width,), added=added))


def layer_norm(name: str, width: int, epsilon: float, *, bias: bool = True) -> Norm:
    """LayerNorm with a weight and, mostly, a bias."""
    shift = Tensor(f"{name}.bias", (width,)) if bias else None
    return Norm(name, width, epsilon, centred=True, weight=Tensor(f"{name}.weight", (width,)), bias=shift)


def separate_attention(
    prefix: str, hidden: int, shape: AttentionShape, biased: Collection[str] = (), *, output: str = "o_proj"
) -> Attention:
    """Attention with a module each for query, key, value and output; ``biased`` names those with a bias."""
    sizes = {"q_proj": shape.query_rows, "k_proj": shape.key_rows, "v_proj": shape.key_rows}
    inputs = tuple(linear(f"{prefix}.{part}", rows, hidden, bias=part in biased) for part, rows in sizes.items())
    return Attention(shape, inputs, linear(f"{prefix}.{output}", hidden, shape.query_rows, bias=output in biased))


@dataclass(frozen=True)
class ExpertNames:
    """Modules of a gated feed-forward layer."""

    gate: str = "gate_proj"
    up: str = "up_proj"
    down: str = "down_proj"


LLAMA_NAMES = ExpertNames()


def gated(
    prefix: str, sizes: Sizes, activation: Activation, *, names: ExpertNames = LLAMA_NAMES, bias: bool = False
) -> FeedForward:
    """A gated feed-forward layer."""
    gate, up = (linear(f"{prefix}.{part}", sizes.inner, sizes.hidden, bias=bias) for part in (names.gate, names.up))
    return FeedForward(up, linear(f"{prefix}.{names.down}", sizes.hidden, sizes.inner, bias=bias), activation, gate)


def read_experts(config: Hparams, prefix: str, sizes: Sizes, count: int, names: ExpertNames = LLAMA_NAMES) -> Mixture:
    """A router and ``count`` gated experts of width ``sizes.inner``, none of them with biases.

    Raises:
        FormatError: a value is missing or has no meaning.
        UnsupportedModel: more experts than any model has, or more for a token than there are.
    """
    activation = read_activation(config, "hidden_act", "silu")
    count, chosen = read_expert_counts(config, count, sizes.layers)
    router = linear(f"{prefix}.gate", count, sizes.hidden)
    experts = (gated(f"{prefix}.experts.{i}", sizes, activation, names=names) for i in range(count))
    normalised = config.flag("norm_topk_prob", default=config.get("model_type") == "mixtral")
    return Mixture(router, tuple(experts), chosen, normalised)


def read_expert_counts(config: Hparams, count: int, layers: int) -> tuple[int, int]:
    """How many experts a layer has, which is checked, and how many of them a token goes to. Raises as above."""
    chosen = config.count("num_experts_per_tok")
    if count * layers > MAX_EXPERTS:
        raise unsupported("num_experts", count, f"at most {MAX_EXPERTS} in all {layers} layers")
    if chosen > count:
        raise unsupported("num_experts_per_tok", chosen, f"at most {count}")
    return count, chosen


def embedding(name: str, sizes: Sizes, *, scale: float = 1.0) -> Embedding:
    """A token embedding."""
    return Embedding(matrix(name, sizes.vocab, sizes.hidden), scale=scale)


def head(config: Hparams, tensors: Collection[str], sizes: Sizes, name: str = HEAD, *, bias: bool = False) -> Head:
    """The output layer; where the configuration does not say whether it is the embedding, the files do."""
    if config.flag("tie_word_embeddings", default=f"{name}.weight" not in tensors):
        return Head()
    return Head(linear(name, sizes.vocab, sizes.hidden, bias=bias))


def prefix_of(tensors: Collection[str], prefix: str, first: str) -> str:
    """``prefix``, or nothing in files that were saved without it, as ``first`` (a tensor of every model) shows."""
    return "" if first in tensors else prefix
