"""What a decoder is made of, as a family reads it from a configuration: the whole difference between families.

Law: every tensor that the graph reads is named in here, so that the files are checked before anything is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from fastslm.export.decoder.tensors import Tensor
from fastslm.export.rope import Rope

Activation = Literal["silu", "gelu", "gelu_tanh", "relu", "clamped_silu"]
"""``clamped_silu`` is for gated layers only: g / (1 + exp(-1.702 g)) * (u + 1), g at most 7 and u from -7 to 7."""


@dataclass(frozen=True)
class Linear:
    """One linear layer: matrices [rows, columns] below each other, with a bias for each or none."""

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...] = ()

    @property
    def name(self) -> str:
        """Name of its result in the graph."""
        first, *others = (weight.key.removesuffix(".weight") for weight in self.weights)
        return "+".join([first, *(other.rpartition(".")[2] for other in others)])

    def tensors(self) -> Iterator[Tensor]:
        """What it reads."""
        yield from (*self.weights, *self.biases)


@dataclass(frozen=True)
class Norm:
    """A norm over the last ``width`` numbers.

    Attributes:
        name: module name; also names the result.
        centred: LayerNorm, which subtracts the mean; else the root mean square norm.
        weight, bias: None for ones and zeros.
    """

    name: str
    width: int
    epsilon: float
    centred: bool = False
    weight: Tensor | None = None
    bias: Tensor | None = None

    def tensors(self) -> Iterator[Tensor]:
        """What it reads."""
        yield from (tensor for tensor in (self.weight, self.bias) if tensor is not None)


@dataclass(frozen=True)
class AttentionShape:
    """Heads of one attention layer.

    Attributes:
        heads, kv_heads, head_dim: sizes; ``kv_heads`` divides ``heads``.
        window: how many positions a token sees, itself included, or None for all.
        scale: what scores are multiplied by, None for 1 / sqrt(head_dim).
        softcap: bound of the scores, or None.
        alibi_scale: factor on the linear biases of Press et al. (2022), or None for no such biases.
    """

    heads: int
    kv_heads: int
    head_dim: int
    window: int | None = None
    scale: float | None = None
    softcap: float | None = None
    alibi_scale: float | None = None

    @property
    def query_rows(self) -> int:
        """Width of all queries."""
        return self.heads * self.head_dim

    @property
    def key_rows(self) -> int:
        """Width of all keys, or of all values."""
        return self.kv_heads * self.head_dim


@dataclass(frozen=True)
class Attention:
    """One attention layer.

    Attributes:
        inputs: one layer for query, key and value one after the other, or three.
        query_norm, key_norm: as wide as a head, or as all heads together; they need three ``inputs``.
        clip: bound of every number of query, key and value, or None.
        rope: None when positions do not turn the heads.
        sinks: a score for each head that takes part in the softmax and has no value, or None.
    """

    shape: AttentionShape
    inputs: tuple[Linear, ...]
    output: Linear
    rope: Rope | None = None
    query_norm: Norm | None = None
    key_norm: Norm | None = None
    clip: float | None = None
    sinks: Tensor | None = None

    def windowed(self, window: int | None) -> Attention:
        """The same layer with a sliding window."""
        return replace(self, shape=replace(self.shape, window=window))

    def tensors(self) -> Iterator[Tensor]:
        """What it reads."""
        for part in (*self.inputs, self.output, self.query_norm, self.key_norm):
            yield from part.tensors() if part else ()
        if self.sinks:
            yield self.sinks


@dataclass(frozen=True)
class ShortConv:
    """output(c * conv(b * x)), where b, c and x are a third of ``gates`` each; conv sees the last few positions.

    Attributes:
        taps: [width, 1, positions], a weight for each channel and position, the present one last.
        head_dim: how wide the pieces are in which the cache holds b * x: as those of keys.
        bias: of the convolution.
    """

    name: str
    gates: Linear
    taps: Tensor
    output: Linear
    head_dim: int
    bias: Tensor | None = None

    @property
    def heads(self) -> int:
        """Pieces of the width."""
        return self.taps.shape[0] // self.head_dim

    def tensors(self) -> Iterator[Tensor]:
        """What it reads."""
        yield from (*self.gates.tensors(), self.taps, *self.output.tensors())
        if self.bias:
            yield self.bias


@dataclass(frozen=True)
class FeedForward:
    """down(activation(up(x))), or down(activation(gate(x)) * up(x))."""

    up: Linear
    down: Linear
    activation: Activation
    gate: Linear | None = None

    def tensors(self) -> Iterator[Tensor]:
        """What it reads."""
        for part in (self.gate, self.up, self.down):
            yield from part.tensors() if part else ()


@dataclass(frozen=True)
class Mixture:
    """Many feed-forward layers, the experts, of which each token goes to a few; their results are added by shares.

    Attributes:
        router: gives every expert a score, of which a softmax makes shares.
        experts: alike in everything but their numbers.
        chosen: experts of one token, those with the best scores.
        normalised: whether the shares of the chosen ones are made to add up to one.
        shared: another layer that every token goes to, or None.
        shared_gate: gives its share before the logistic function; None for all of it.
    """

    router: Linear
    experts: tuple[FeedForward, ...]
    chosen: int
    normalised: bool = True
    shared: FeedForward | None = None
    shared_gate: Linear | None = None

    @property
    def name(self) -> str:
        """Name of its result in the graph."""
        return f"{self.router.name}/experts"

    def tensors(self) -> Iterator[Tensor]:
        """What it reads."""
        for part in (self.router, *self.experts, self.shared, self.shared_gate):
            yield from part.tensors() if part else ()


@dataclass(frozen=True)
class Block:
    """One layer. Norms that a family does not have are None.

    Attributes:
        attention: or the convolution in its place.
        parallel: attention and feed-forward read the same hidden state; without ``before_feed_forward`` they share
            ``before_attention``.
        residual_scale: factor on what either of them adds to the hidden state.
    """

    attention: Attention | ShortConv
    feed_forward: FeedForward | Mixture
    before_attention: Norm | None = None
    after_attention: Norm | None = None
    before_feed_forward: Norm | None = None
    after_feed_forward: Norm | None = None
    parallel: bool = False
    residual_scale: float = 1.0

    def tensors(self) -> Iterator[Tensor]:
        """What it reads."""
        norms = (self.before_attention, self.after_attention, self.before_feed_forward, self.after_feed_forward)
        for part in (self.attention, self.feed_forward, *norms):
            yield from part.tensors() if part else ()


@dataclass(frozen=True)
class Embedding:
    """Token embedding [vocabulary, width], scaled; ``positions`` are learned ones, row ``first_position`` the first."""

    weight: Tensor
    scale: float = 1.0
    positions: Tensor | None = None
    first_position: int = 0
    norm: Norm | None = None

    def tensors(self) -> Iterator[Tensor]:
        """What it reads."""
        yield self.weight
        if self.positions:
            yield self.positions
        yield from self.norm.tensors() if self.norm else ()


@dataclass(frozen=True)
class Head:
    """The output layer; ``linear`` None means the embedding matrix. Logits are scaled, then bounded by ``softcap``."""

    linear: Linear | None = None
    scale: float = 1.0
    softcap: float | None = None

    def tensors(self) -> Iterator[Tensor]:
        """What it reads."""
        yield from self.linear.tensors() if self.linear else ()


@dataclass(frozen=True)
class DecoderShape:
    """One decoder.

    Attributes:
        context_length: positions that it takes at most.
        usual_context: positions that it is converted for when nobody asks for more; 0 for ``context_length``.
    """

    embedding: Embedding
    blocks: tuple[Block, ...]
    head: Head
    context_length: int
    final_norm: Norm | None = None
    usual_context: int = 0

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding."""
        return self.embedding.weight.shape[0]

    @property
    def num_layers(self) -> int:
        """Depth."""
        return len(self.blocks)

    @property
    def attention(self) -> AttentionShape:
        """Heads; their sizes are the same in every layer that has some, and one has."""
        return self.attentions[0].shape

    @property
    def attentions(self) -> tuple[Attention, ...]:
        """The layers that attend."""
        return tuple(block.attention for block in self.blocks if isinstance(block.attention, Attention))

    @property
    def tensor_count(self) -> int:
        """How many tensors the graph reads; parts of one count by themselves."""
        return len({tensor.key for tensor in self.tensors()})

    def limited(self, wanted: int | None, most: int) -> DecoderShape:
        """For as many positions as wanted, else for the usual number but not for more than ``most``.

        A window that shows all of them is no window.
        """
        length = min(self.context_length, wanted or min(most, self.usual_context or self.context_length))

        def without_needless_window(_: int, attention: Attention) -> Attention:
            window = attention.shape.window
            return attention.windowed(None) if window is not None and window >= length else attention

        return replace(self.with_attention(without_needless_window), context_length=length)

    def with_attention(self, change: Callable[[int, Attention], Attention]) -> DecoderShape:
        """The same decoder with every attention changed; ``change`` is told the layer's number."""
        changed = (
            replace(block, attention=change(i, block.attention)) if isinstance(block.attention, Attention) else block
            for i, block in enumerate(self.blocks)
        )
        return replace(self, blocks=tuple(changed))

    def with_feed_forward(self, change: Callable[[int], FeedForward | Mixture]) -> DecoderShape:
        """The same decoder with another feed-forward part in every layer; ``change`` is told the layer's number."""
        changed = (replace(block, feed_forward=change(i)) for i, block in enumerate(self.blocks))
        return replace(self, blocks=tuple(changed))

    def tensors(self) -> Iterator[Tensor]:
        """What the graph reads, in order."""
        for part in (self.embedding, *self.blocks, self.final_norm, self.head):
            yield from part.tensors() if part else ()
