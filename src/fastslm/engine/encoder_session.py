"""Run an encoder's graph: token ids of several texts in, vectors of their tokens or scores out.

``EncoderSession`` is what ``Encoder`` sees; ``OrtEncoder`` is ONNX Runtime on a model folder, be the graph ours or one
that Optimum wrote.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fastslm import runtime
from fastslm.engine.session import open_graph
from fastslm.errors import FormatError, GenerationFailed
from fastslm.text.pairs import Encoded

Floats = npt.NDArray[np.float32]

INPUTS = frozenset({"input_ids", "attention_mask", "token_type_ids"})
TOKENS = ("last_hidden_state", "token_embeddings")
SCORES = ("logits",)


class EncoderSession(Protocol):
    """A loaded encoder."""

    def run(self, batch: Sequence[Encoded], pad_id: int) -> tuple[Floats, Floats]:
        """Encode some texts at once.

        Returns:
            Vectors [texts, tokens, width] or scores [texts, labels], and the mask [texts, tokens] of what is no
            padding.

        Raises:
            GenerationFailed: the graph failed.
        """


class OrtEncoder:
    """ONNX Runtime on the CPU."""

    def __init__(self, path: Path, *, threads: int, classifies: bool, with_ours: bool) -> None:
        """Load a graph.

        Raises:
            FileMissing: there is none.
            UnsupportedModel: it needs our operators, which do not load here.
            FormatError: ONNX Runtime does not accept it, or it is no encoder's.
        """
        self._inner = open_graph(path, threads, with_ours=with_ours)
        self._inputs = [value.name for value in self._inner.get_inputs()]
        outputs = [value.name for value in self._inner.get_outputs()]
        wanted = SCORES if classifies else TOKENS
        found = [name for name in wanted if name in outputs]
        if not found or "input_ids" not in self._inputs or not set(self._inputs) <= INPUTS:
            message = f"`{path}` has inputs {self._inputs} and outputs {outputs}, expected an encoder's: {wanted[0]}"
            raise FormatError(message, subject=str(path), expected=wanted, found=outputs)
        self._output = found[0]

    def run(self, batch: Sequence[Encoded], pad_id: int) -> tuple[Floats, Floats]:
        """See ``EncoderSession``."""
        shape = (len(batch), max(len(each) for each in batch))
        arrays = {name: np.zeros(shape, np.int64) for name in INPUTS}
        arrays["input_ids"].fill(pad_id)
        for row, each in enumerate(batch):
            arrays["input_ids"][row, : len(each)] = each.ids
            arrays["token_type_ids"][row, : len(each)] = each.kinds
            arrays["attention_mask"][row, : len(each)] = 1
        try:
            (found,) = self._inner.run([self._output], {name: arrays[name] for name in self._inputs})
        except Exception as error:  # whatever class ONNX Runtime raises
            raise GenerationFailed(f"ONNX Runtime failed on {shape} tokens: {runtime.first_line(error)}") from error
        return np.asarray(found, np.float32), arrays["attention_mask"].astype(np.float32)
