"""A conversation at the keyboard: history, streamed answers, a few slash commands."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fastslm.cli.output import Output
from fastslm.errors import ContextTooLong

if TYPE_CHECKING:
    from fastslm.engine.generate import Step
    from fastslm.engine.model import Model
    from fastslm.engine.request import Result
    from fastslm.engine.stats import Timings

PROMPT = ">>> "
CONTINUED = "... "
FENCE = '"""'
HELP = """\
/clear     forget the conversation
/system T  set the system message to T and start afresh
/help      this list
/bye       leave (or Ctrl-D)
\"\"\"        begin and end a message of several lines
Ctrl-C     stop an answer"""


@dataclass
class Conversation:
    """Messages so far and how to ask for the next one; ``answered`` is told the times of every answer."""

    model: Model
    system: str | None = None
    sampling: dict[str, Any] = field(default_factory=dict)
    raw: bool = False
    answered: Callable[[Timings], None] = lambda timings: None
    messages: list[dict[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything but the system message."""
        self.messages = [{"role": "system", "content": self.system}] if self.system else []

    def ask(self, question: str, output: Output) -> None:
        """Stream the answer to ``question`` and remember both; an answer that was interrupted is kept as far as it got.

        Raises:
            ContextTooLong: the conversation has outgrown the model; the question is not remembered.
        """
        pieces: list[str] = []
        last: Step | None = None
        stream = self._stream(question)
        try:
            for step in stream:
                pieces.append(step.text)
                output.piece(step.text)
                last = step
        finally:
            stream.close()
            if pieces:
                output.piece("\n")
                self._remember(question, "".join(pieces))
            if last is not None:
                self.answered(last.timings)
        if last is not None and output.verbose:
            output.remark(timing_line(last))

    def ask_quietly(self, question: str) -> Result:
        """The whole answer at once, with usage and timings."""
        if self.raw:
            result = self.model.generate(question, **self.sampling)
        else:
            result = self.model.chat([*self.messages, {"role": "user", "content": question}], **self.sampling)
        self.answered(result.timings)
        return result

    def _stream(self, question: str) -> Any:
        if self.raw:
            return self.model.stream(question, **self.sampling)
        return self.model.chat_stream([*self.messages, {"role": "user", "content": question}], **self.sampling)

    def _remember(self, question: str, answer: str) -> None:
        self.messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def timing_line(step: Step) -> str:
    """One line of figures for ``--verbose``."""
    t = step.timings
    return (
        f"prompt {t.prompt_tokens} tokens ({t.cached_tokens} cached) at {t.prefill_tokens_per_s:.0f}/s, "
        f"answer {t.completion_tokens} tokens at {t.decode_tokens_per_s:.1f}/s, "
        f"first token after {t.first_token_s:.2f} s"
    )


def talk(conversation: Conversation, output: Output) -> None:
    """Read, answer, repeat, until ``/bye`` or the end of input."""
    _enable_line_editing()
    output.remark("Ask anything; /help lists the commands, /bye leaves.")
    for message in _messages():
        if message.startswith("/"):
            if not _command(message, conversation, output):
                return
            continue
        try:
            conversation.ask(message, output)
        except KeyboardInterrupt:
            output.remark("(stopped)")
        except ContextTooLong as error:
            output.error(error.message, "/clear starts afresh")


def _command(message: str, conversation: Conversation, output: Output) -> bool:
    """Obey a slash command; False to leave."""
    word, _, rest = message.partition(" ")
    if word in ("/bye", "/exit", "/quit"):
        return False
    if word == "/clear":
        conversation.clear()
        output.remark("The conversation is forgotten.")
    elif word == "/system":
        conversation.system = rest.strip() or None
        conversation.clear()
        output.remark("The system message is set, the conversation starts afresh.")
    elif word in ("/help", "/?"):
        output.remark(HELP)
    else:
        output.remark(f"There is no command `{word}`.\n{HELP}")
    return True


def _messages() -> Iterator[str]:
    """Messages as a person types them, stripped, never empty; ends at Ctrl-D, or at Ctrl-C on an empty line."""
    while True:
        try:
            line = input(PROMPT)
        except (EOFError, KeyboardInterrupt):
            sys.stderr.write("\n")
            return
        text = _rest_of_block(line) if line.lstrip().startswith(FENCE) else line
        if text.strip():
            yield text.strip()


def _rest_of_block(first: str) -> str:
    """A message between two fences, over several lines."""
    lines = [first.lstrip().removeprefix(FENCE)]
    while not lines[-1].rstrip().endswith(FENCE):
        try:
            lines.append(input(CONTINUED))
        except EOFError:
            return "\n".join(lines)
    lines[-1] = lines[-1].rstrip().removesuffix(FENCE)
    return "\n".join(lines)


def _enable_line_editing() -> None:
    """Arrow keys and history, where Python was built with them."""
    try:
        import readline  # noqa: F401
    except ImportError:
        return
