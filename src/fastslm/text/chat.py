"""Messages to a prompt by the model's own Jinja template, as transformers renders it, but bounded.

A template comes from a stranger: it runs in a sandbox (``fastslm.text.sandbox``) with limits on its size, its
output and its work, in the caller's thread.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from threading import Lock
from typing import Any, NoReturn

from fastslm.errors import FormatError, UsageError

MOST_TEMPLATE_CHARACTERS = 1_000_000
MOST_PROMPT_CHARACTERS = 16_000_000
MOST_INDENT = 16
INSTEAD_OF_CONTENT = frozenset({"tool_calls", "function_call", "reasoning_content"})

Message = Mapping[str, Any]


class ChatTemplate:
    """One model's chat template. Usable from any thread; renderings take turns."""

    def __init__(self, source: str, special_tokens: Mapping[str, str]) -> None:
        """Compile the Jinja ``source``; ``special_tokens`` are variables such as ``bos_token`` that it may write.

        Raises:
            FormatError: it is too long or not a template.
        """
        if len(source) > MOST_TEMPLATE_CHARACTERS:
            message = f"the chat template has {len(source)} characters, expected at most {MOST_TEMPLATE_CHARACTERS}"
            raise FormatError(message, subject="chat_template", expected=MOST_TEMPLATE_CHARACTERS, found=len(source))
        self._special_tokens = dict(special_tokens)
        self._template = _compile(source)
        self._turn = Lock()

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        **variables: Any,
    ) -> str:
        """The prompt for these messages; ``tools`` and ``variables`` are passed on to the template.

        Raises:
            UsageError: the messages or tools are malformed, or the template refuses them.
            FormatError: the template itself fails or exceeds its limits.
        """
        values = {
            **self._special_tokens,
            **variables,
            "messages": checked_messages(messages),
            "tools": _checked_tools(tools),
            "documents": None,
            "add_generation_prompt": add_generation_prompt,
        }
        with self._turn:
            return self._render(values)

    def _render(self, values: dict[str, Any]) -> str:
        self._template.environment.refill()
        pieces: list[str] = []
        length = 0
        try:
            for piece in self._template.generate(values):
                pieces.append(piece)
                length += len(piece)
                if length > MOST_PROMPT_CHARACTERS:
                    message = f"the chat template writes more than {MOST_PROMPT_CHARACTERS} characters"
                    raise FormatError(message, subject="chat_template", expected=MOST_PROMPT_CHARACTERS, found=length)
        except (FormatError, UsageError):
            raise
        except Exception as error:  # whatever a stranger's template does wrong
            message = f"the chat template fails: {type(error).__name__}: {str(error)[:200]}"
            raise FormatError(message, subject="chat_template") from error
        return "".join(pieces)


def checked_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Copies with a role and text each; a list of text parts (OpenAI's form) becomes one text.

    A message that calls tools or carries only reasoning may go without text.

    Raises:
        UsageError: there is none, or one is malformed.
    """
    if isinstance(messages, (str, Mapping)) or not isinstance(messages, Sequence) or not messages:
        found = f"`{messages!r}`"[:80] if messages else "none"
        raise UsageError(f"expected a list of messages with a role and content, found {found}", name="messages")
    return [_checked_message(message, index) for index, message in enumerate(messages)]


def _checked_message(message: Message, index: int) -> dict[str, Any]:
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str) or not message["role"]:
        raise UsageError(f"message {index} has no role: `{message!r}`"[:200], name="messages", value=message)
    content = message.get("content")
    if isinstance(content, Sequence) and not isinstance(content, str):
        content = "".join(_text_part(part, index) for part in content)
    elif content is None and not INSTEAD_OF_CONTENT & message.keys():
        raise UsageError(f"message {index} has no content: `{message!r}`"[:200], name="messages", value=message)
    elif content is not None and not isinstance(content, str):
        found = type(content).__name__
        raise UsageError(
            f"message {index} has content of type `{found}`, expected text", name="messages", value=content
        )
    return {**message, "content": content}


def _text_part(part: Any, index: int) -> str:
    if isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
    message = f"message {index} has a part of type `{kind}`, this model takes `text` only"
    raise UsageError(message, name="messages", value=kind, allowed=("text",))


def _checked_tools(tools: Sequence[Mapping[str, Any]] | None) -> list[Mapping[str, Any]] | None:
    sound = tools is None or (isinstance(tools, (list, tuple)) and all(isinstance(tool, Mapping) for tool in tools))
    if not sound:
        message = f"`tools` is `{repr(tools)[:80]}`, expected a list of descriptions, each a dictionary"
        raise UsageError(message, name="tools", value=tools)
    return list(tools) if tools else None


def _compile(source: str) -> Any:
    """The settings, functions and extensions that Hugging Face's templates are written for."""
    from fastslm.text.sandbox import GenerationBlock, Sandbox

    sandbox = Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", GenerationBlock])
    sandbox.add_filter("tojson", _tojson)
    sandbox.globals |= {"raise_exception": _refuse, "strftime_now": _strftime_now}
    try:
        return sandbox.from_string(sandbox.bounded(source))
    except Exception as error:  # syntax errors, but also nesting that exhausts the stack
        line = f" in line {error.lineno}" if hasattr(error, "lineno") else ""
        message = f"the chat template is not valid Jinja{line}: {str(error)[:200]}"
        raise FormatError(message, subject="chat_template") from error


def _refuse(message: object) -> NoReturn:
    raise UsageError(f"the chat template refuses these messages: `{message}`"[:400], name="messages")


def _strftime_now(pattern: str) -> str:
    return datetime.now().astimezone().strftime(pattern[:200])


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as models have seen it in training: without Jinja's HTML escapes."""
    if indent is not None and not 0 <= indent <= MOST_INDENT:
        raise ValueError(f"JSON is indented by `{indent}`, expected 0 to {MOST_INDENT}")
    encoder = json.JSONEncoder(ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
    pieces: list[str] = []
    length = 0
    for piece in encoder.iterencode(value):
        pieces.append(piece)
        length += len(piece)
        if length > MOST_PROMPT_CHARACTERS:
            raise ValueError(f"JSON of more than {MOST_PROMPT_CHARACTERS} characters")
    return "".join(pieces)
