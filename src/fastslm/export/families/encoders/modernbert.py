"""ModernBERT (Warner et al. 2024): rotation, norms before the parts, a window in two of three layers, gated layers."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from fastslm.export.decoder.shape import Attention, FeedForward, Norm
from fastslm.export.decoder.standard import (
    FULL,
    SLIDING,
    Sizes,
    layer_norm,
    linear,
    matrix,
    prefix_of,
    read_activation,
    read_attention,
    read_sizes,
    reordered,
)
from fastslm.export.encoder.shape import Classifier, Embedding, EncoderShape, Layer
from fastslm.export.families.encoders.standard import is_classifier, other_uses, read_labels
from fastslm.export.hparams import Hparams, unsupported
from fastslm.export.rope import Rope, read_rope

THETAS = {FULL: ("global_rope_theta", 160_000.0), SLIDING: ("local_rope_theta", 10_000.0)}


def read_shape(config: Hparams, tensors: Collection[str]) -> EncoderShape:
    """See ``Family``."""
    sizes = read_sizes(config)
    prefix = prefix_of(tensors, "model.", "embeddings.tok_embeddings.weight")
    kinds = _kinds(config, sizes.layers)
    embedding = Embedding(
        words=matrix(f"{prefix}embeddings.tok_embeddings", sizes.vocab, sizes.hidden),
        norm=_norm(config, f"{prefix}embeddings.norm"),
    )
    layers = tuple(_layer(config, sizes, f"{prefix}layers.{index}", kind) for index, kind in enumerate(kinds))
    return EncoderShape(
        embedding=embedding,
        layers=(replace(layers[0], attention_norm=None), *layers[1:]),
        context_length=sizes.context,
        final_norm=_norm(config, f"{prefix}final_norm"),
        classifier=_classifier(config) if is_classifier(config, tensors) else None,
        ignored=(*other_uses(prefix), "decoder."),
    )


def _kinds(config: Hparams, layers: int) -> list[str]:
    every = config.count("global_attn_every_n_layers", 3)
    kinds = config.get("layer_types", [SLIDING if index % every else FULL for index in range(layers)])
    if not isinstance(kinds, list) or len(kinds) != layers or not set(kinds) <= {FULL, SLIDING}:
        raise unsupported("layer_types", kinds, f"a list of {layers} times {FULL} or {SLIDING}")
    return kinds


def _layer(config: Hparams, sizes: Sizes, prefix: str, kind: str) -> Layer:
    hidden, inner, shape = sizes.hidden, sizes.inner, read_attention(config)
    biased, wide = config.flag("attention_bias"), config.flag("mlp_bias")
    fused = linear(f"{prefix}.attn.Wqkv", 3 * hidden, hidden, bias=biased)
    inputs = tuple(reordered(fused, ((part * hidden, (part + 1) * hidden),)) for part in range(3))
    both = linear(f"{prefix}.mlp.Wi", 2 * inner, hidden, bias=wide)
    gate, up = reordered(both, ((0, inner),)), reordered(both, ((inner, 2 * inner),))
    down = linear(f"{prefix}.mlp.Wo", hidden, inner, bias=wide)
    window = config.count("local_attention", 128) // 2 if kind == SLIDING else None
    output = linear(f"{prefix}.attn.Wo", hidden, hidden, bias=biased)
    return Layer(
        attention=Attention(replace(shape, window=window), inputs, output, _rope(config, kind, shape.head_dim)),
        feed_forward=FeedForward(up, down, read_activation(config, "hidden_activation", "gelu"), gate),
        attention_norm=_norm(config, f"{prefix}.attn_norm"),
        feed_forward_norm=_norm(config, f"{prefix}.mlp_norm"),
        before=True,
    )


def _rope(config: Hparams, kind: str, head_dim: int) -> Rope:
    newer = config.section("rope_parameters").get(kind)
    if newer is not None:
        return read_rope(Hparams({"rope_parameters": newer}), head_dim)
    key, usual = THETAS[kind]
    scaling = config.get("rope_scaling")
    return read_rope(Hparams({"rope_theta": config.number(key, usual), "rope_scaling": scaling}), head_dim)


def _norm(config: Hparams, name: str) -> Norm:
    bias = config.flag("norm_bias")
    return layer_norm(name, config.count("hidden_size"), config.number("norm_eps", 1e-5), bias=bias)


def _classifier(config: Hparams) -> Classifier:
    hidden = config.count("hidden_size")
    config.demand("classifier_pooling", "cls", "mean", default="cls")
    return Classifier(
        dense=linear("head.dense", hidden, hidden, bias=config.flag("classifier_bias")),
        activation=read_activation(config, "classifier_activation", "gelu"),
        output=linear("classifier", read_labels(config), hidden, bias=True),
        norm=_norm(config, "head.norm"),
        pooling=config.get("classifier_pooling", "cls"),
    )
