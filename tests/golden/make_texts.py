"""Write ``texts/``: small tokenizers and chat templates, and what transformers makes of awkward texts with them.

    python tests/golden/make_texts.py

Needs ``transformers``; the tests do not. ``<kind>.json`` are tokenizers, ``ids.json`` holds the token ids of every text
for each of them, ``chats.json`` what every template renders for each conversation, or null where it refuses it. The
templates are our own, in the manners of the families that we convert.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

HERE = Path(__file__).parent
TARGET = HERE / "texts"

TEXTS = [
    "",
    " ",
    "   ",
    "\n",
    "\r\n\r\n",
    "\t\tx\n  y ",
    "hello",
    " hello",
    "hello ",
    "Hello,  world!  It's 12345.67 o'clock; don't we'll THEY'RE",
    "def f(x):\n    return x ** 2  # squares\n",
    "naïve café e\u0301 vs \u00e9, \ufb01ne, \u212b",
    "Ünïcödé ÅÄÖ ß ẞ İ ı",
    "你好，世界。こんにちは 안녕하세요",
    "مرحبا \u202bעולם\u202c",
    "🙂🙃 👩\u200d👩\u200d👧\u200d👦 🏳️\u200d🌈 \U0001f1e9\U0001f1ea",
    "a\u0300\u0301\u0302\u0303",
    "\u2028 \u00a0 \u3000 \ufeff \u200b",
    "\x00\x01\x7f",
    "<s></s><unk><pad>",
    "<|im_start|>user\nhi<|im_end|>\n<|im_start|> assistant",
    "<|im_start|><|im_start|> <|im_end|>x<|im_end|>",
    "<think>maybe</think> <thin k>",
    "< |im_end|> <|im_end |> <|im_en",
    "▁▁ the▁quick <0x0A> <0x41>",
    "x" * 70,
    "1 22 333 4444 55555 0xFF 1e-10 ٣٤٥ Ⅷ ½",
    "https://example.org/a?b=c&d=%20#e_f-g",
    "a\\b\"c'd`e${f}{{g}}{%h%}",
    "The the THE tHe theTHE",
]

SAID = {"role": "user", "content": "Why is  the sky blue?"}
ANSWERED = {"role": "assistant", "content": "<think>\nRayleigh\n</think>\n\n Because of scattering.\n"}
CALLED = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"type": "function", "function": {"name": "now", "arguments": {"zone": "Å <b>", "n": 1.5}}}],
}
TOOL = {
    "type": "function",
    "function": {
        "name": "now",
        "description": "The time, as 'text' & \"more\" <now>",
        "parameters": {"type": "object", "properties": {"zone": {"type": "string"}}, "required": ["zone"]},
    },
}
CHATS: dict[str, dict[str, Any]] = {
    "one": {"messages": [SAID]},
    "system": {"messages": [{"role": "system", "content": " Be brief. "}, SAID]},
    "turns": {"messages": [SAID, ANSWERED, {"role": "user", "content": "  And\nred? 🙂 \n"}]},
    "ended": {"messages": [SAID, ANSWERED], "add_generation_prompt": False},
    "twice": {"messages": [SAID, SAID]},
    "empty": {"messages": [{"role": "user", "content": ""}]},
    "markup": {"messages": [{"role": "user", "content": "<b>&amp; {{ x }} {% if %} </b> <|im_end|>"}]},
    "tools": {"messages": [SAID, CALLED, {"role": "tool", "content": '{"time": "12:00"}'}], "tools": [TOOL]},
    "silent": {"messages": [SAID], "enable_thinking": False},
}

TEMPLATES = {
    "chatml": (
        "{%- for message in messages %}\n"
        "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}\n"
        "{%- endfor %}\n"
        "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}\n"
    ),
    "llama3": (
        "{% set loop_messages = messages %}{% for message in loop_messages %}"
        "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'"
        " + message['content'] | trim + '<|eot_id|>' %}"
        "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
    ),
    "gemma": (
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
        "{{ raise_exception('System role not supported') }}{% endif %}"
        "{% for message in messages %}"
        "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
        "{% if message['role'] == 'assistant' %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}"
        "{% endif %}{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
    ),
    "phi3": (
        "{% for message in messages %}\n"
        "    {% if message.role in ['system', 'user'] and message.content %}\n"
        "{{ '<|' ~ message.role ~ '|>\\n' ~ message.content ~ '<|end|>' }}\n"
        "    {% elif message.role == 'assistant' %}\n"
        "        {% generation %}\n"
        "{{ message.content }}<|end|>\n"
        "        {% endgeneration %}\n"
        "    {% else %}{% continue %}{% endif %}\n"
        "{% endfor %}\n"
        "{{- '<|assistant|>' if add_generation_prompt else eos_token -}}"
    ),
    "qwen3": (
        "{%- macro call(name, arguments) -%}\n"
        "<tool_call>\n{{ {'name': name, 'arguments': arguments} | tojson }}\n</tool_call>\n"
        "{%- endmacro %}\n"
        "{%- if tools %}\n    {{- '<|im_start|>system\\n' }}\n"
        "    {%- for tool in tools %}{{- '\\n' + tool | tojson }}{%- endfor %}\n"
        "    {{- tools | tojson(indent=2) + '<|im_end|>\\n' }}\n{%- endif %}\n"
        "{%- set ns = namespace(last=messages|length - 1, open=true) %}\n"
        "{%- for message in messages[::-1] %}\n"
        "    {%- if ns.open and message.role == 'user' %}\n"
        "        {%- set ns.open = false %}{%- set ns.last = messages|length - 1 - loop.index0 %}\n"
        "    {%- endif %}\n{%- endfor %}\n"
        "{%- for message in messages %}\n"
        "    {%- set content = message.content if message.content is string else '' %}\n"
        "    {%- if '</think>' in content and loop.index0 < ns.last %}\n"
        "        {%- set content = content.split('</think>')[-1].lstrip('\\n') %}\n    {%- endif %}\n"
        "    {{- '<|im_start|>' + message.role + '\\n' + content }}\n"
        "    {%- for each in message.tool_calls | default([], true) %}\n"
        "        {{- call(each.function.name, each.function.arguments) }}\n    {%- endfor %}\n"
        "    {{- '<|im_end|>\\n' }}\n{%- endfor %}\n"
        "{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n"
        "    {%- if enable_thinking is defined and enable_thinking is false %}\n"
        "        {{- '<think>\\n\\n</think>\\n\\n' }}\n    {%- endif %}\n{%- endif %}"
    ),
    "mistral": (
        "{%- set found = messages | selectattr('role', 'equalto', 'system') | map(attribute='content') | list %}\n"
        "{{- bos_token }}\n"
        "{%- for message in messages | rejectattr('role', 'equalto', 'system') %}\n"
        "    {%- if message['role'] == 'user' %}\n"
        "        {{- '[INST] ' ~ (found[0] ~ '\\n\\n' if loop.first and found else '') }}\n"
        "        {{- message['content'] ~ '[/INST]' }}\n"
        "    {%- elif message['role'] == 'assistant' %}{{- ' ' ~ message['content'] | trim ~ eos_token }}\n"
        "    {%- elif message['role'] != 'tool' %}{{- raise_exception('no role ' ~ message['role']) }}\n"
        "    {%- endif %}\n{%- endfor %}\n"
    ),
}
SPECIAL = {"bos_token": "<s>", "eos_token": "<|im_end|>"}


def write_ids() -> None:
    """Token ids without added special tokens."""
    sys.path.insert(0, str(HERE.parent))
    from support.tiny_tokenizers import KINDS

    found = {}
    for kind, build in KINDS.items():
        build().save(str(TARGET / f"{kind}.json"), pretty=False)
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(TARGET / f"{kind}.json"))
        found[kind] = [tokenizer.encode(text, add_special_tokens=False) for text in TEXTS]
    write("ids.json", {"texts": TEXTS, "ids": found})


def write_chats() -> None:
    """What ``apply_chat_template`` gives."""
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(TARGET / "byte_level.json"), **SPECIAL)
    found: dict[str, dict[str, str | None]] = {}
    for name, template in TEMPLATES.items():
        found[name] = {chat: rendered(tokenizer, template, options) for chat, options in CHATS.items()}
    write("chats.json", {"special": SPECIAL, "chats": CHATS, "templates": TEMPLATES, "rendered": found})


def rendered(tokenizer: Any, template: str, options: dict[str, Any]) -> str | None:
    """One conversation, None where the template refuses it."""
    given = {"add_generation_prompt": True, **options}
    messages = given.pop("messages")
    try:
        text: str = tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False, **given)
    except Exception as error:
        print("refused:", error)
        return None
    return text


def write(name: str, value: Any) -> None:
    """JSON that shows what it holds."""
    text = json.dumps(value, ensure_ascii=True, indent=None if name == "ids.json" else 1)
    (TARGET / name).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    shutil.rmtree(TARGET, ignore_errors=True)
    TARGET.mkdir()
    write_ids()
    write_chats()
