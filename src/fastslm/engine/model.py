"""``Model``: a converted model, loaded, as users hold it.

It keeps the KV cache of the last generation, so that the next turn of a conversation computes only what is new.
One generation runs at a time; others wait for their turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock, Thread, current_thread
from typing import TYPE_CHECKING, Any
from weakref import ref

from fastslm import runtime
from fastslm.engine.generate import GenerationOptions, Step, generate
from fastslm.engine.kv_cache import KVCache
from fastslm.engine.measure import Measurement, MeasureOptions, Opening, measured
from fastslm.engine.perplexity import Perplexity, perplexity
from fastslm.engine.request import (
    Request,
    Result,
    collect,
    default_sampling,
    generation_options,
    is_whole,
    session_options,
)
from fastslm.engine.session import OrtSession, Session
from fastslm.errors import FormatError, UsageError
from fastslm.ops import CacheFormat
from fastslm.progress import ProgressCallback, silent
from fastslm.store.manifest import TEMPLATE_NAME, TOKENIZER_NAME, ModelManifest
from fastslm.text.chat import ChatTemplate, Message
from fastslm.text.detok import StreamDecoder
from fastslm.text.tokenizer import Tokenizer, checked_ids

if TYPE_CHECKING:
    from collections.abc import Generator

    import numpy as np
    import numpy.typing as npt
    from typing_extensions import Unpack


@dataclass(frozen=True)
class Ranked:
    """One text of ``rerank``: its place in the list that was given, its score, itself."""

    index: int
    score: float
    text: str


class Model:
    """A loaded model. Usable from several threads; close it, or use it as a context manager.

    with Model.open(folder) as model:
        print(model.chat([{"role": "user", "content": "Hello"}], temperature=0).text)
    """

    def __init__(
        self, session: Session, tokenizer: Tokenizer, manifest: ModelManifest, template: ChatTemplate | None
    ) -> None:
        """Put a model together; ``Model.open`` does it from a folder."""
        self.manifest = manifest
        self._tokenizer = tokenizer
        self._template = template
        self._loaded: tuple[Session, KVCache] | None = (session, session.new_cache())
        self.opening = Opening()
        self._sampling = default_sampling(manifest.generation)
        self._turn = Lock()
        self._owner: Thread | None = None
        self._reading: Callable[[], Generator[Step, None, None] | None] = lambda: None

    @staticmethod
    def open(
        folder: Path | str,
        *,
        threads: int = 0,
        context_length: int | None = None,
        kv_cache: CacheFormat | None = None,
    ) -> Model:
        """Load a converted model folder.

        Args:
            folder: where ``fastslm.json`` is.
            threads: for the computation; 0 takes what suits this machine.
            context_length: most tokens of prompt and answer together, when less than the model's own is wanted.
            kv_cache: how keys and values are kept: ``f32``, ``f16``, ``int16`` or ``int8``; None takes
                int16, or f32, the only one of stock operators.

        Raises:
            FileMissing: a file is not there.
            FormatError: a file is damaged or does not match the others.
            UsageError: ``threads``, ``context_length`` or ``kv_cache`` has a value that is not possible.
            DoesNotFit: there is no memory for the KV cache.
        """
        began, folder = time.perf_counter(), Path(folder)
        manifest = ModelManifest.read(folder)
        options = session_options(threads, context_length, kv_cache, manifest.context_length)
        if manifest.encoder is not None:
            return _open_encoder(folder, manifest, options.threads, context_length)
        with ThreadPoolExecutor(1, "load") as other:  # the graph loads without the GIL
            session = other.submit(_session_class(manifest), folder, manifest, options)
            tokenizer, template = Tokenizer.open(folder / TOKENIZER_NAME), _template(folder, manifest)
            model = Model(session.result(), tokenizer, manifest, template)
        runtime.give_back_memory()  # to parse a tokenizer takes a third more than it keeps
        model.opening = Opening(options.threads, time.perf_counter() - began)
        return model

    @property
    def name(self) -> str:
        """Canonical name it was pulled by."""
        return self.manifest.name

    @property
    def context_length(self) -> int:
        """Most tokens of prompt and answer together."""
        return self._parts()[0].context_length

    @property
    def kv_cache(self) -> CacheFormat:
        """How keys and values are kept."""
        return self._parts()[0].kv_cache

    @property
    def has_chat_template(self) -> bool:
        """Whether ``chat`` works; a base model has ``generate`` only."""
        return self._template is not None

    def generate(self, prompt: str | Sequence[int], **request: Unpack[Request]) -> Result:
        """Continue a plain prompt (text or token ids) and return the whole continuation.

        A bos token is put in front when the model's tokenizer does so by itself. Raises as ``stream``.
        """
        return collect(self.stream(prompt, **request))

    def stream(self, prompt: str | Sequence[int], **request: Unpack[Request]) -> Generator[Step, None, None]:
        """Continue a plain prompt, one ``Step`` for each token; close the generator to stop early.

        Raises:
            UsageError: an option or the prompt has a value that is not allowed.
            ContextTooLong: the prompt leaves no room for an answer (when the first step is asked for).
            GenerationFailed: the model failed.
        """
        ids = self._plain_prompt(prompt)
        return self._run(ids, StreamDecoder(self._tokenizer, context=ids), self._options(request))

    def chat(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        **request: Unpack[Request],
    ) -> Result:
        """Answer a conversation: messages with ``role`` and ``content``. Raises as ``chat_stream``."""
        return collect(self.chat_stream(messages, tools=tools, **request))

    def chat_stream(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        **request: Unpack[Request],
    ) -> Generator[Step, None, None]:
        """Answer a conversation, one ``Step`` for each token; ``tools`` are handed to the chat template.

        Raises:
            UsageError: the model has no chat template, the messages are malformed or refused by it, or an option
                has a value that is not allowed.
            FormatError: the template fails.
            ContextTooLong, GenerationFailed: as in ``stream``.
        """
        ids = self._checked(self.tokenize(self.prompt(messages, tools=tools)))
        return self._run(ids, StreamDecoder(self._tokenizer), self._options(request))

    def prompt(self, messages: Sequence[Message], *, tools: Sequence[Mapping[str, Any]] | None = None) -> str:
        """The text that ``chat`` gives to the model for these messages. Raises as ``chat_stream``."""
        if self._template is None:
            message = f"`{self.name}` has no chat template and cannot chat, it continues plain prompts"
            raise UsageError(message, name="messages")
        return self._template.render(messages, tools=tools)

    def tokenize(self, text: str) -> list[int]:
        """Token ids of a text; special tokens in it are recognised, none are added.

        Raises:
            UsageError: it is no text, or not valid Unicode.
        """
        return self._tokenizer.encode(text)

    def detokenize(self, ids: Sequence[int]) -> str:
        """Text of token ids, special tokens included.

        Raises:
            UsageError: they are not whole numbers from 0.
        """
        return self._tokenizer.decode(ids)

    def perplexity(self, text: str, tokens: int | None = None, *, progress: ProgressCallback = silent) -> Perplexity:
        """Perplexity of the first ``tokens`` tokens of a text (all by default), bos included where the model has one.

        Raises:
            UsageError: there are fewer than two tokens, or ``tokens`` is not a whole number from 2.
            GenerationFailed: the model failed.
        """
        if tokens is not None and not (is_whole(tokens) and tokens >= 2):
            raise UsageError(f"`tokens` is `{tokens}`, expected a whole number from 2", name="tokens", value=tokens)
        ids = self._plain_prompt(text, most=tokens)
        with self._my_turn() as (session, _):
            return perplexity(session, ids, progress=progress)

    def measure(self, options: MeasureOptions, *, progress: ProgressCallback = silent) -> Measurement:
        """How fast it is on this machine, and what memory it takes.

        Raises:
            UsageError: it generates no text.
            ContextTooLong: a prompt and its answer do not fit in the context.
            GenerationFailed: the model failed.
        """
        if self.manifest.encoder is not None:
            message = f"`{self.name}` gives vectors or scores, expected a model that generates text"
            raise UsageError(message, name="model", value=self.name)
        with self._my_turn() as (session, _):
            return measured(session, self.manifest, self.opening, options, progress=progress)

    def embed(
        self, texts: str | Sequence[str], *, prompt: str | None = None, progress: ProgressCallback = silent
    ) -> npt.NDArray[np.float32]:
        """Vectors of texts: float32 ``[texts, width]``, pooled and normalised as the model's repository says.

        Args:
            texts: longer ones than ``context_length`` are cut.
            prompt: name of one of the model's prompts, to be put before each text; None for the model's default.

        Raises:
            UsageError: the model gives no vectors, a text is none, or there is no such prompt.
            GenerationFailed: the model failed.
        """
        raise self._no_encoder()

    def rerank(
        self, query: str, texts: Sequence[str], *, top: int | None = None, progress: ProgressCallback = silent
    ) -> list[Ranked]:
        """Texts by how well they answer a query, best first: scores of a cross-encoder, or cosines of vectors.

        Args:
            top: how many of the best are wanted; None for all.

        Raises:
            UsageError: the model generates text, gives several scores, or a text is none.
            GenerationFailed: the model failed.
        """
        raise self._no_encoder()

    def close(self) -> None:
        """Give the memory back. Ends an answer that this thread has begun to read, waits for other threads' answers."""
        if self._owner is current_thread() and (steps := self._reading()) is not None:
            with suppress(ValueError):  # the answer itself calls us, by ``cancelled``: refused below
                steps.close()
        with self._locked():
            self._loaded = None

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _no_encoder(self) -> UsageError:
        message = f"`{self.name}` generates text, expected an encoder"
        return UsageError(message, name="model", value=self.name)

    def _run(
        self, ids: Sequence[int], decoder: StreamDecoder, options: GenerationOptions
    ) -> Generator[Step, None, None]:
        """The steps; ``close`` can find them once they have begun, without keeping them alive."""
        itself: list[ref[Generator[Step, None, None]]] = []

        def steps() -> Generator[Step, None, None]:
            with self._my_turn() as (session, cache):
                self._reading = itself[0]
                yield from generate(session, cache, ids, decoder, options)

        stream = steps()
        itself.append(ref(stream))
        return stream

    def _plain_prompt(self, prompt: str | Sequence[int], *, most: int | None = None) -> list[int]:
        """Ids of the prompt, of a long text only the first ``most``."""
        if not isinstance(prompt, str):
            return self._checked(checked_ids(prompt, name="prompt", expected="text or token ids")[:most])
        ids = self._checked(self.tokenize(prompt) if most is None else self._tokenizer.encode_start(prompt, most))
        bos = self.manifest.bos_token_id
        if self.manifest.add_bos and bos is not None and ids[:1] != [bos]:
            ids.insert(0, bos)
        return ids[:most]

    def _checked(self, ids: list[int]) -> list[int]:
        """No id may point outside the embedding, be it the caller's or that of a tokenizer with too many tokens."""
        wrong = next((id_ for id_ in ids if not 0 <= id_ < self.manifest.vocab_size), None)
        if wrong is not None:
            message = f"token id `{wrong}` is not in the vocabulary of {self.manifest.vocab_size} tokens"
            raise UsageError(message, name="prompt", value=wrong)
        return ids

    def _options(self, request: Mapping[str, Any]) -> GenerationOptions:
        return generation_options(request, self._sampling, self.manifest.eos_token_ids)

    @contextmanager
    def _my_turn(self) -> Iterator[tuple[Session, KVCache]]:
        with self._locked():
            yield self._parts()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Wait for other threads; a second generation inside one of this thread would wait for ever."""
        if self._owner is current_thread():
            raise UsageError("another answer of this model is still being read in this thread", name="model")
        with self._turn:
            self._owner = current_thread()
            try:
                yield
            finally:
                self._owner = None

    def _parts(self) -> tuple[Session, KVCache]:
        if self._loaded is None:
            raise UsageError("the model is closed", name="model")
        return self._loaded


def _session_class(manifest: ModelManifest) -> Callable[..., Session]:
    """What runs a decoder's graph, ours or one that others exported."""
    if manifest.graph == "fastslm":
        return OrtSession
    from fastslm.engine.growing import GrowingSession

    return GrowingSession


def _open_encoder(folder: Path, manifest: ModelManifest, threads: int, max_tokens: int | None) -> Model:
    from fastslm.engine.encoder import Encoder

    return Encoder.open_encoder(folder, manifest, threads=threads, max_tokens=max_tokens)


def _template(folder: Path, manifest: ModelManifest) -> ChatTemplate | None:
    path = folder / TEMPLATE_NAME
    try:
        return ChatTemplate(path.read_text(encoding="utf-8"), manifest.special_tokens)
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(f"`{path}` cannot be read: {error}", subject=str(path)) from error
