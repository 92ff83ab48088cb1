"""``Encoder``: a converted encoder, loaded, as users hold it. Texts become vectors, or scores against a query.

Texts run in batches of about the same length, so that little is computed for padding; the order of the results is that
of the texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from fastslm.encoder_facts import EncoderFacts
from fastslm.engine.encoder_session import EncoderSession, OrtEncoder
from fastslm.engine.model import Model, Ranked
from fastslm.engine.pooling import normalized, pool
from fastslm.errors import UsageError
from fastslm.progress import Progress, ProgressCallback, silent
from fastslm.store.manifest import GRAPH_NAME, TOKENIZER_NAME, ModelManifest
from fastslm.text.pairs import Encoded, PairTokenizer
from fastslm.text.tokenizer import Tokenizer

Floats = npt.NDArray[np.float32]

BATCH_TOKENS = 2048
"""Tokens of one batch, padding included: enough rows for the matrices, few enough for the CPU's cache."""

QUERY, DOCUMENTS = "query", ("document", "passage", "corpus")
"""Names under which repositories keep the prompts of a search."""


@dataclass(frozen=True)
class EncoderParts:
    """What an encoder is put together from."""

    session: EncoderSession
    tokenizer: Tokenizer
    pairs: PairTokenizer
    facts: EncoderFacts


class Encoder(Model):
    """A loaded encoder. Usable from several threads; close it, or use it as a context manager.

    with fastslm.load(name) as model:
        vectors = model.embed(["a text", "another"])
    """

    def __init__(self, parts: EncoderParts, manifest: ModelManifest) -> None:
        """Put an encoder together; ``Model.open`` does it from a folder."""
        self.manifest = manifest
        self._encoder: EncoderParts | None = parts
        self._tokenizer = parts.tokenizer
        self._template = None
        self._one = Lock()

    @staticmethod
    def open_encoder(folder: Path, manifest: ModelManifest, *, threads: int, max_tokens: int | None) -> Encoder:
        """Load a folder whose manifest describes an encoder. Raises FileMissing, FormatError."""
        facts = manifest.encoder or EncoderFacts()
        facts = replace(facts, max_tokens=min(max_tokens or facts.max_tokens, facts.max_tokens))
        classifies, with_ours = facts.task == "classify", manifest.target == "native"
        session = OrtEncoder(folder / GRAPH_NAME, threads=threads, classifies=classifies, with_ours=with_ours)
        path = folder / TOKENIZER_NAME
        parts = EncoderParts(session, Tokenizer.open(path), PairTokenizer.open(path, facts.max_tokens), facts)
        return Encoder(parts, manifest)

    @property
    def context_length(self) -> int:
        """Most tokens of one text, special ones included; longer texts are cut."""
        return self._loaded_parts().facts.max_tokens

    @property
    def prompts(self) -> dict[str, str]:
        """Name to what is put before a text."""
        return dict(self._loaded_parts().facts.prompts)

    def embed(
        self, texts: str | Sequence[str], *, prompt: str | None = None, progress: ProgressCallback = silent
    ) -> Floats:
        """See ``Model.embed``."""
        parts = self._loaded_parts()
        if parts.facts.task != "embed":
            message = f"`{self.name}` gives scores, expected a model that gives vectors"
            raise UsageError(message, name="model", value=self.name)
        prefix = self._prefix(parts.facts, prompt)
        encoded = parts.pairs.encode([_prepared(prefix + text, parts.facts) for text in checked_texts(texts)])
        return self._vectors(parts, encoded, progress)

    def rerank(
        self, query: str, texts: Sequence[str], *, top: int | None = None, progress: ProgressCallback = silent
    ) -> list[Ranked]:
        """See ``Model.rerank``."""
        listed = checked_texts(texts)
        if top is not None and (type(top) is not int or top < 1):
            raise UsageError(f"`top` is `{top}`, expected a whole number of at least 1", name="top", value=top)
        parts = self._loaded_parts()
        scores = self._pair_scores(parts, query, listed, progress) if parts.facts.task == "classify" else None
        if scores is None:
            scores = self._similarities(parts.facts, query, listed, progress)
        order = np.argsort(-scores, kind="stable")[:top]
        return [Ranked(int(index), float(scores[index]), listed[index]) for index in order]

    def close(self) -> None:
        """Give the memory back; waits for other threads' texts."""
        with self._one:
            self._encoder = None

    def prompt(self, *_: object, **__: object) -> NoReturn:
        """Always raises UsageError, as everything does that generates."""
        raise self._no_generation()

    def _plain_prompt(self, *_: object, **__: object) -> NoReturn:
        raise self._no_generation()

    def _no_generation(self) -> UsageError:
        message = f"`{self.name}` is an encoder, expected a model that generates text"
        return UsageError(message, name="model", value=self.name)

    def _loaded_parts(self) -> EncoderParts:
        if self._encoder is None:
            raise UsageError("the model is closed", name="model")
        return self._encoder

    def _prefix(self, facts: EncoderFacts, name: str | None) -> str:
        name = facts.default_prompt if name is None else name
        if name and name not in facts.prompts:
            known = ", ".join(f"`{each}`" for each in facts.prompts) or "none"
            message = f"`{self.name}` has no prompt `{name}`, it has {known}"
            raise UsageError(message, name="prompt", value=name, allowed=tuple(facts.prompts))
        return facts.prompts[name] if name else ""

    def _vectors(self, parts: EncoderParts, encoded: Sequence[Encoded], progress: ProgressCallback) -> Floats:
        result: Floats | None = None
        for rows, tokens, mask in self._batches(parts, encoded, progress):
            vectors = pool(tokens, mask, parts.facts.pooling)
            if result is None:
                result = np.empty((len(encoded), vectors.shape[1]), np.float32)
            result[rows] = normalized(vectors) if parts.facts.normalize else vectors
        width = self.manifest.num_kv_heads * self.manifest.head_dim * len(parts.facts.pooling)
        return np.empty((0, width), np.float32) if result is None else result

    def _pair_scores(self, parts: EncoderParts, query: str, texts: list[str], progress: ProgressCallback) -> Floats:
        [first] = [_prepared(text, parts.facts) for text in checked_texts([query])]
        encoded = parts.pairs.encode_pairs(first, [_prepared(text, parts.facts) for text in texts])
        scores = np.empty(len(texts), np.float32)
        for rows, found, _ in self._batches(parts, encoded, progress):
            if found.shape[1] != 1:
                message = f"`{self.name}` gives {found.shape[1]} scores for a pair, expected one"
                raise UsageError(message, name="model", value=self.name)
            scores[rows] = _sigmoid(found[:, 0]) if parts.facts.sigmoid else found[:, 0]
        return scores

    def _similarities(self, facts: EncoderFacts, query: str, texts: list[str], progress: ProgressCallback) -> Floats:
        """Cosines of vectors, each side with its prompt where the model has one."""
        document = next((name for name in DOCUMENTS if name in facts.prompts), None)
        asked = normalized(self.embed([query], prompt=QUERY if QUERY in facts.prompts else None))
        found: Floats = normalized(self.embed(texts, prompt=document, progress=progress)) @ asked[0]
        return found

    def _batches(
        self, parts: EncoderParts, encoded: Sequence[Encoded], progress: ProgressCallback
    ) -> Iterator[tuple[list[int], Floats, Floats]]:
        """Numbers of texts, the graph's output for them, and their mask; longest texts first."""
        done = 0
        for rows in batches([len(each) for each in encoded], BATCH_TOKENS):
            with self._one:
                session = self._loaded_parts().session
                found, mask = session.run([encoded[row] for row in rows], parts.facts.pad_id)
            done += len(rows)
            if len(rows) < len(encoded):
                progress(Progress("encoding", done, len(encoded), "texts"))
            yield rows, found, mask


def batches(lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    """Numbers of texts in batches: alike in length, and padded to at most ``most`` tokens (or one text)."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > most:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def checked_texts(texts: object) -> list[str]:
    """A list of texts; one text is a list of itself.

    Raises:
        UsageError: something else.
    """
    listed = [texts] if isinstance(texts, str) else list(texts) if isinstance(texts, Sequence) else None
    if listed is None or not all(isinstance(text, str) for text in listed):
        raise UsageError(f"`texts` is `{repr(texts)[:80]}`, expected a list of texts", name="texts", value=texts)
    return listed


def _prepared(text: str, facts: EncoderFacts) -> str:
    return text.lower() if facts.lower_case else text


def _sigmoid(values: Floats) -> Floats:
    with np.errstate(over="ignore"):
        result: Floats = np.float32(1) / (np.float32(1) + np.exp(-values))
    return result
