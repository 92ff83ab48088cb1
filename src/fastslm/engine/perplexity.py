"""How well a model predicts a text: exp of the mean negative log likelihood of its tokens.

The plain definition, which llama.cpp's logits give too: every token of a window but the first is predicted from
all tokens before it in that window. A text longer than the context is cut into windows that do not overlap.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastslm.engine.session import Logits, Session
from fastslm.errors import GenerationFailed, UsageError
from fastslm.progress import Progress, ProgressCallback, silent

LOGITS_PER_STEP = 1 << 22
"""Most logits computed at once: 16 MB, and twice that in float64."""


@dataclass(frozen=True)
class Perplexity:
    """Result of an evaluation.

    Attributes:
        perplexity: exp of ``mean_nll``.
        mean_nll: mean negative log likelihood of a predicted token, in nats.
        tokens: tokens of the text that were used.
        predicted_tokens: those of them that were predicted: all but the first of each window.
        window: tokens per window.
    """

    perplexity: float
    mean_nll: float
    tokens: int
    predicted_tokens: int
    window: int


def perplexity(session: Session, ids: Sequence[int], *, progress: ProgressCallback = silent) -> Perplexity:
    """Perplexity of the token ids.

    Raises:
        UsageError: there are fewer than two.
        GenerationFailed: the model failed or gave logits that are not numbers.
    """
    if len(ids) < 2:
        raise UsageError(f"the text has {len(ids)} tokens, expected at least 2", name="text", value=len(ids))
    window = min(session.context_length, len(ids))
    total, predicted = 0.0, 0
    for start in range(0, len(ids), window):
        part = ids[start : start + window]
        total += _window_nll(session, part, progress, (start, len(ids)))
        predicted += len(part) - 1
    mean = total / predicted
    return Perplexity(math.exp(mean), mean, len(ids), predicted, window)


def _window_nll(session: Session, ids: Sequence[int], progress: ProgressCallback, place: tuple[int, int]) -> float:
    cache = session.new_cache()
    chunk = max(1, min(256, LOGITS_PER_STEP // session.vocab_size))
    total = 0.0
    for start in range(0, len(ids) - 1, chunk):
        stop = min(start + chunk, len(ids) - 1)
        logits = session.forward(cache, ids[start:stop], every_position=True)
        total += negative_log_likelihood(logits, np.asarray(ids[start + 1 : stop + 1]))
        progress(Progress("evaluating", place[0] + stop + 1, place[1], "tokens"))
    return total


def negative_log_likelihood(logits: Logits, targets: npt.NDArray[np.int64]) -> float:
    """Sum over rows of ``-log softmax(logits)[target]``, in float64.

    Raises:
        GenerationFailed: a row has NaN or infinity where it matters.
    """
    total = 0.0
    for row, target in zip(logits.astype(np.float64), targets, strict=True):
        best = row.max()
        if not (np.isfinite(best) and np.isfinite(row[target])):
            raise GenerationFailed("the model gave logits that are NaN or infinite")
        total += float(best + np.log(np.exp(row - best).sum()) - row[target])
    return total
