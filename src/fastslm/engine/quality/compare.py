"""Run the same text through a converted model and through its floats, and say how far apart they are.

Figures follow llama.cpp's ``--kl-divergence``: the mean over positions of KL(floats || converted), perplexity of both,
share of positions with the same best token. Both graphs see chunks of one window, so nothing large is held.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fastslm.encoder_facts import EncoderFacts
from fastslm.engine.encoder_session import OrtEncoder
from fastslm.engine.perplexity import LOGITS_PER_STEP
from fastslm.engine.pooling import pool
from fastslm.engine.session import OrtSession, Session, SessionOptions
from fastslm.errors import GenerationFailed
from fastslm.fidelity import Fidelity
from fastslm.store.manifest import GRAPH_NAME, TOKENIZER_NAME, ModelManifest
from fastslm.text.pairs import PairTokenizer
from fastslm.text.tokenizer import Tokenizer

MOST_TOKENS = 512
MOST_PER_STEP = 64

Logs = npt.NDArray[np.float64]


@dataclass
class _Sums:
    """What has been added up over the positions so far; likelihoods are those of the text's next tokens."""

    positions: int = 0
    divergence: float = 0.0
    float_nll: float = 0.0
    converted_nll: float = 0.0
    same: int = 0

    def add(self, floats: Logs, converted: Logs, targets: Sequence[int]) -> None:
        rows = np.arange(len(targets))
        self.positions += len(targets)
        self.divergence += float((np.exp(floats) * (floats - converted)).sum())
        self.float_nll -= float(floats[rows, targets].sum())
        self.converted_nll -= float(converted[rows, targets].sum())
        self.same += int((floats.argmax(axis=1) == converted.argmax(axis=1)).sum())


def compare(floats: Path, converted: Path, text: str, *, threads: int) -> Fidelity:
    """Compare two folders of one model; ``within`` is for the caller to judge.

    Raises:
        FormatError: a folder cannot be loaded.
        GenerationFailed: a graph fails, or gives what is not a number.
    """
    manifest = ModelManifest.read(converted)
    if manifest.encoder is not None:
        return _compare_encoders(floats, converted, text, threads)
    tokenizer = Tokenizer.open(converted / TOKENIZER_NAME)
    context = min(MOST_TOKENS, manifest.context_length)
    ids = tokenizer.encode(text)
    start = [manifest.bos_token_id] if manifest.add_bos and manifest.bos_token_id is not None else []
    ids = [id_ for id_ in (start + ids)[:context] if id_ < manifest.vocab_size]
    options = SessionOptions(threads, context)
    sessions = [OrtSession(folder, ModelManifest.read(folder), options) for folder in (floats, converted)]
    return compare_sessions(sessions[0], sessions[1], ids)


def compare_sessions(floats: Session, converted: Session, ids: Sequence[int]) -> Fidelity:
    """Compare two decoders on token ids, at least two, that fit in their contexts. Raises GenerationFailed."""
    if len(ids) < 2:
        raise GenerationFailed(f"the text has {len(ids)} tokens, expected at least 2")
    sums, caches = _Sums(), (floats.new_cache(), converted.new_cache())
    chunk = max(1, min(MOST_PER_STEP, LOGITS_PER_STEP // floats.vocab_size))
    for start in range(0, len(ids) - 1, chunk):
        stop = min(start + chunk, len(ids) - 1)
        logs = [
            _log_softmax(session.forward(cache, ids[start:stop], every_position=True))
            for session, cache in zip((floats, converted), caches, strict=True)
        ]
        sums.add(logs[0], logs[1], list(ids[start + 1 : stop + 1]))
    count = sums.positions
    return Fidelity(
        within=True,
        tokens=len(ids),
        kl_divergence=max(0.0, sums.divergence / count),
        perplexity=_exp(sums.converted_nll / count),
        float_perplexity=_exp(sums.float_nll / count),
        same_best=sums.same / count,
    )


def _exp(mean: float) -> float:
    """exp, bounded to what JSON can hold."""
    return math.exp(min(mean, 700.0))


def _log_softmax(logits: npt.NDArray[np.float32]) -> Logs:
    values = logits.astype(np.float64)
    if not np.isfinite(values).all():
        raise GenerationFailed("the model gave logits that are NaN or infinite")
    values -= values.max(axis=1, keepdims=True)
    shifted: Logs = values - np.log(np.exp(values).sum(axis=1, keepdims=True))
    return shifted


def _compare_encoders(floats: Path, converted: Path, text: str, threads: int) -> Fidelity:
    """Vectors of the text's paragraphs and sentences; of a model that scores texts, the list of all scores."""
    texts = [part.strip() for part in text.split("\n\n")] + [part.strip() for part in text.split(". ") if part.strip()]
    (one, tokens), (other, _) = (_vectors(folder, texts, threads) for folder in (floats, converted))
    lengths = np.sqrt((one * one).sum(axis=1) * (other * other).sum(axis=1))
    cosine = float(((one * other).sum(axis=1) / np.maximum(lengths, 1e-30)).min())
    if not math.isfinite(cosine):
        raise GenerationFailed("the model gave vectors that are NaN or infinite")
    return Fidelity(within=True, tokens=tokens, least_cosine=cosine)


def _vectors(folder: Path, texts: Sequence[str], threads: int) -> tuple[Logs, int]:
    """[texts, width], or [1, scores], and the number of tokens."""
    manifest = ModelManifest.read(folder)
    facts = manifest.encoder or EncoderFacts()
    classifies = facts.task == "classify"
    session = OrtEncoder(
        folder / GRAPH_NAME, threads=threads, classifies=classifies, with_ours=manifest.target == "native"
    )
    encoded = PairTokenizer.open(folder / TOKENIZER_NAME, min(MOST_TOKENS, facts.max_tokens)).encode(list(texts))
    found, mask = session.run(encoded, facts.pad_id)
    vectors = found.reshape(1, -1) if classifies else pool(found, mask, facts.pooling)
    return vectors.astype(np.float64), sum(len(each) for each in encoded)
