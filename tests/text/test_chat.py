"""Chat templates: rendered as the model was trained, refused when they are broken or hostile."""

import json
import re
import resource
import threading

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from fastslm.errors import FormatError, UsageError
from fastslm.text import chat
from fastslm.text.chat import ChatTemplate

CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are helpful<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
HELLO = [{"role": "user", "content": "Hello"}]


def render(source, messages=HELLO, specials=None, **values):
    return ChatTemplate(source, specials or {}).render(messages, **values)


def test_chatml_is_written_to_the_letter():
    expected = "<|im_start|>system\nYou are helpful<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n"
    assert render(CHATML) == expected + "<|im_start|>assistant\n"
    assert render(CHATML, add_generation_prompt=False) == expected


def test_block_lines_leave_no_blank_lines():
    source = (
        "{{ bos_token }}\n{% for m in messages %}\n  {% if true %}\n{{ m.content }}\n  {% endif %}\n{% endfor %}\nend"
    )
    assert render(source, specials={"bos_token": "<s>"}) == "<s>\nHello\nend"


def test_json_is_not_escaped_for_web_pages():
    tool = {"name": "größer", "description": "a < b & 'c'"}
    assert render("{{ tools[0] | tojson }}", tools=[tool]) == json.dumps(tool, ensure_ascii=False)
    assert json.loads(render("{{ tools | tojson(indent=2) }}", tools=[tool])) == [tool]


def test_what_hub_templates_use_is_there():
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", render("{{ strftime_now('%Y-%m-%d') }}"))
    assert render("{% for i in range(9) %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}") == "012"
    assert render("{% generation %}{{ messages[0].content }}{% endgeneration %}!") == "Hello!"
    assert (
        render("{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}")
        == "1"
    )
    assert render("{{ enable_thinking }}", enable_thinking=False) == "False"
    assert render("{{ 'a' ~ 1 ~ messages[0].content.upper()[::-1] }}") == "a1OLLEH"
    assert (
        render("{% macro m(x) %}[{{ x }}]{% endmacro %}{{ m('y') }}{{ '%02d' % 7 }}{{ '{:>3}'.format(1) }}")
        == "[y]07  1"
    )
    loops = "{% for x in [1, [2, 3]] recursive %}{{ loop(x) if x is iterable else x }}{{ loop.last }}{% endfor %}"
    assert render(loops) == "1False2False3TrueTrue"
    assert (
        render("{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | join(',') }}")
        == "Hello"
    )


def test_the_template_s_refusal_is_the_user_s_error():
    with pytest.raises(UsageError, match="refuses these messages: `roles must alternate`"):
        render("{{ raise_exception('roles must alternate') }}")


@pytest.mark.parametrize(
    ("messages", "sentence"),
    [
        ([], "found none"),
        ("hi", "found `'hi'`"),
        ({"role": "user"}, "expected a list of messages"),
        ([{"content": "x"}], "message 0 has no role"),
        ([{"role": "user"}], "message 0 has no content: `{'role': 'user'}`"),
        ([{"role": "user", "content": None}], "message 0 has no content"),
        ([{"role": "user", "content": 5}], "message 0 has content of type `int`"),
        ([*HELLO, {"role": "user", "content": [{"type": "image_url"}]}], "message 1 has a part of type `image_url`"),
    ],
)
def test_malformed_messages_are_named(messages, sentence):
    with pytest.raises(UsageError, match=re.escape(sentence)):
        render(CHATML, messages)


@pytest.mark.parametrize("tools", [5, "abc", ["abc"], {"name": "f"}, [len]])
def test_malformed_tools_are_named(tools):
    with pytest.raises(UsageError, match=r"`tools` is `.*`, expected a list of descriptions, each a dictionary"):
        render(CHATML, tools=tools)


def test_text_parts_become_one_text_and_other_keys_stay():
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
    message = {"role": "user", "content": parts, "name": "Ann"}
    assert render("{{ messages[0].content }} {{ messages[0].name }}", [message]) == "Hello Ann"
    assert render("{{ messages[0].content is none }}", [{"role": "assistant", "tool_calls": []}]) == "True"


@pytest.mark.parametrize("source", ["{% for %}", "{{ 1 + }}", "{% include 'x' %}{% endif %}", "{{ x | nofilter }}"])
def test_a_template_that_is_no_jinja_is_refused_at_once(source):
    with pytest.raises(FormatError, match="not valid Jinja in line 1"):
        ChatTemplate(source, {})


@pytest.mark.parametrize("source", ["{{ nothing.there.at_all }}", "{{ messages[7].content + 'x' }}", "{{ 1 / 0 }}"])
def test_a_template_that_fails_is_named(source):
    with pytest.raises(FormatError, match="the chat template fails"):
        render(source)


TOOLS = """
{%- if tools %}
    {{- 'system\\n# Tools' }}
    {%- for tool in tools %}{{- "\\n" }}{{- tool | tojson }}{%- endfor %}
{%- endif %}
{%- set ns = namespace(multi_step=true, last=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step and message.role == "user" and message.content is string and not (
            message.content.startswith('<tool>') and message.content.endswith('</tool>')) %}
        {%- set ns.multi_step = false %}
        {%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<' + message.role + '>' ~ message.content + '\\n' }}
    {%- elif message.role in ['assistant', 'model'] %}
        {%- set parts = {'text': message.content, 'index': loop.index} %}
        {%- if '</think>' in message.content %}
            {%- set _ = parts.text.split('</think>') %}
            {{- message.content.split('</think>')[-1].lstrip('\\n') }}
        {%- elif loop.last or (not loop.last and loop.index0 > ns.last) %}
            {{- parts['text'] | trim }} {{ parts.index * 2 }}
        {%- endif %}
        {%- if message.tool_calls %}
            {%- for call in message.tool_calls %}
                {%- if call.function is defined %}{%- set call = call.function %}{%- endif %}
                {{- '{"name": "' + call.name + '", "arguments": ' }}{{- call.arguments | tojson }}{{- '}' }}
                {%- for key, value in call.arguments.items() %}{{ key ~ '=' ~ value ~ ';' }}{% endfor %}
            {%- endfor %}
        {%- endif %}
    {%- elif message.role == "tool" and (loop.index0 == 0 or messages[loop.index0 - 1].role != "tool") %}
        {{- '%s: %s' % (message.role, message.content) }}
    {%- endif %}
{%- endfor %}
"""


def test_a_long_template_with_tools_and_thinking_writes_what_plain_jinja_writes():
    """The guards around loops, literals and comparisons change nothing in what a template means."""
    call = {"function": {"name": "weather", "arguments": {"city": "Zürich", "days": 3}}}
    messages = [
        {"role": "user", "content": "How is the weather?"},
        {"role": "assistant", "content": "<think>hm</think>\n\nLet me see", "tool_calls": [call]},
        {"role": "tool", "content": "rain"},
        {"role": "system", "content": "be short"},
        {"role": "user", "content": "So?"},
        {"role": "assistant", "content": " Rain. "},
    ]
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
    plain = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    plain.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    expected = plain.from_string(TOOLS).render(messages=messages, tools=tools)
    assert render(TOOLS, messages, tools=tools) == expected
    assert "Zürich" in expected
    assert "Rain.12" in expected.replace(" ", "")


BOMBS = {
    "nested loops": "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
    "loops over text": "{% set t = 'x' * 9999 %}{% for a in t %}{% for b in t %}{% endfor %}{% endfor %}",
    "recursive loop": "{% for a in range(9999) recursive %}{{ loop(range(99999)) }}{% endfor %}",
    "endless range": "{{ range(10 ** 9) | list }}",
    "power": "{{ 9 ** 9 ** 9 }}",
    "multiplied text": "{{ 'x' * 10 ** 9 * 10 }}",
    "multiplied list": "{{ [[1] * 9999999] * 9999999 }}",
    "shared list": "{% set x = 'y' * 9999999 %}{{ [x] * 9999 }}",
    "joined list": "{% set x = 'y' * 9999999 %}{{ ([x] * 9999) | join }}",
    "joined by a method": "{% set x = 'y' * 9999999 %}{{ ''.join([x] * 9999) }}",
    "doubling by ~": "{% set n = namespace(t='x') %}{% for i in range(99) %}{% set n.t = n.t ~ n.t %}{% endfor %}",
    "doubling by +": "{% set n = namespace(t='x') %}{% for i in range(99) %}{% set n.t = n.t + n.t %}{% endfor %}",
    "doubling lists": "{% set n = namespace(t=[]) %}{% for i in range(99) %}{% set n.t = [n.t, n.t] %}{% endfor %}"
    "{{ n.t }}",
    "replace": "{% set x = 'x' * 99999 %}{{ x.replace('x', x) }}",
    "replace filter": "{% set x = 'x' * 99999 %}{{ x | replace('x', x) }}",
    "padding": "{{ 'x'.center(10 ** 9 * 9) }}",
    "padding filter": "{{ 'x' | center(9999999999) }}",
    "indent": "{{ ('x\n' * 99999) | indent(9999999) }}",
    "format": "{{ '{:>9999999999}'.format(1) }}",
    "percent": "{{ '%9999999999d' % 1 }}",
    "percent star": "{{ '%*d' % (999999999, 1) }}",
    "format filter": "{{ '%9999999999d' | format(1) }}",
    "macro recursion": "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
    "branching macros": "{% macro f(x) %}{% if x %}{{ f(x-1) }}{{ f(x-1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "shared lists to JSON": "{% set n = namespace(t=[]) %}{% for i in range(99) %}{% set n.t = [n.t, n.t] %}"
    "{% endfor %}{{ n.t | tojson }}",
    "shared lists compared": "{% set n = namespace(a=[], b=[]) %}{% for i in range(99) %}{% set n.a = [n.a, n.a] %}"
    "{% set n.b = [n.b, n.b] %}{% endfor %}{{ n.a == n.b }}",
    "shared tuples as a key": "{% set n = namespace(t=()) %}{% for i in range(99) %}{% set n.t = (n.t, n.t) %}"
    "{% endfor %}{{ {n.t: 1} }}",
    "comparing for ever": "{% set x = [1] * 99999 %}{% set y = [1] * 99999 %}"
    "{% for i in range(99999) %}{% if x == y %}{% endif %}{% endfor %}",
    "wide JSON": "{{ messages | tojson(indent=9999999) }}",
    "long output": "{% for i in range(99999) %}{{ 'x' * 999 }}{% endfor %}",
    "translate": "{{ ('a'*16000).translate({97:'b'*1000000})|length }}",
    "percent many times": "{{ ('%(a)s'*100000) % {'a':'b'*1000000} }}",
    "percent width behind a name": "{{ '%((a)b)9999999d' % {'(a)b': 1} }}",
    "many fields": "{{ ('{0}'*100000).format('a'*1000000) }}",
    "many wide fields": "{{ ('{0:999}'*100000).format('a') }}",
    "nested field": "{{ '{:{}}'.format(1, 999999999) }}",
    "format map": "{{ ('{a}'*100000).format_map({'a': 'a'*1000000}) }}",
    "format filter many times": "{{ ('%s'*9999) | format(*['a'*1000000]*9999) }}",
    "slice": "{{ [1,2]|slice(100000000)|list|length }}",
    "batch": "{{ [1]|batch(100000000,'x')|list }}",
    "word wrap": "{{ (' '*400000)|wordwrap(5) }}",
    "replace with names": "{% set x = 'x' * 99999 %}{{ x | replace(new=x, old='x') }}",
    "join of a generator": "{% set x = 'y' * 999999 %}{{ range(99999) | map(attribute='no', default=x) | join }}",
    "bytes of a number": "{{ (5).to_bytes(9999999999, 'big') }}",
    "a number of a million digits": "{{ ('f' * 9999999) | int(base=16) }}",
    "text in a set block": "{% set x %}{% for i in range(99999) %}" + "x" * 99999 + "{% endfor %}{% endset %}",
    "copied slices": "{% set x = range(99999) | list %}{% for i in range(99999) %}{% set y = x[1:] %}{% endfor %}",
    "searched lists": "{% set x = range(99999) | list %}{% for i in range(99999) %}{{ 1 if -1 in x }}{% endfor %}",
    "copied text": "{% set x = 'x' * 7999999 %}{% for i in range(99999) %}{% set y = x + x %}{% endfor %}",
    "characters": "{{ ('🙂' * 9999999) | list | length }}",
    "characters as arguments": "{{ joiner(*('🙂' * 9999999)) }}",
    "words": "{{ ('ab ' * 5000000).split() | length }}",
    "title": "{{ ('ab ' * 5000000) | title | length }}",
    "stripping": "{{ ('a' * 9999999).strip('b' * 999999 + 'a') | length }}",
    "searching backwards": "{{ ('a' * 9999999).rfind('b' + 'a' * 99999) }}",
    "deep JSON": "{% set n = namespace(t=range(9999) | list) %}{% for i in range(400) %}{% set n.t = [n.t] %}"
    "{% endfor %}{{ n.t | tojson(indent=16) }}",
    "inner recursive loop": "{% for a in [1] recursive %}{% if loop.depth < 4 %}{{ loop(range(99999)) }}{% endif %}"
    "{% endfor %}",
    "long attributes": "{{ range(99999) | map(attribute='a.' * 500000, default='x') | list | length }}",
    "long attributes of a sort": "{{ range(99999) | sort(false, false, 'a,' * 500000) | length }}",
    "lists searched for lists": "{% set a = range(9999) | list + [0] %}{% set b = range(9999) | list + [1] %}"
    "{% set x = [a] * 9999 %}{% for i in range(9999) %}{{ x.count(b) }}{% endfor %}",
    "autoescape": "{% autoescape true %}{{ '<' }}{% endautoescape %}",
    "attribute by filter": "{{ ('x' | attr('translate'))({120: 'y'}) }}",
    "inside of Python": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "changing messages": "{{ messages.append(1) }}",
}


MOST_KILOBYTES = 400_000


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", BOMBS)
def test_a_hostile_template_is_stopped_before_it_eats_time_or_memory(name):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(FormatError, match="chat template") as refusal:
        render(BOMBS[name])
    assert "MemoryError" not in str(refusal.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_KILOBYTES


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("{{ 'x' | wordwrap(5) }}", "the filter `wordwrap`, which is not allowed"),
        ("{{ 'x'.translate({}) }}", "access to attribute 'translate' of 'str' object is unsafe"),
    ],
)
def test_what_is_not_allowed_is_named_and_only_when_it_is_reached(source, name):
    with pytest.raises(FormatError, match=re.escape(name)):
        render(source)
    assert render("{% if false %}" + source + "{% endif %}ok") == "ok"


def test_formats_of_ordinary_use_pass():
    assert render("{{ 'in 2024: %s, %5.1f%%' % ('x', 2) }}") == "in 2024: x,   2.0%"
    assert render("{{ '{{{}}} {a:>4} 12345'.format(1, a=2) }}") == "{1}    2 12345"
    assert render("{{ '%(a)s (2024)' % {'a': 'b'} }} {{ 'a%s' | format('b') }}") == "b (2024) ab"


def test_a_budget_is_for_one_rendering():
    template = ChatTemplate("{% for i in range(99999) %}{% endfor %}ok", {})
    assert {template.render(HELLO) for _ in range(60)} == {"ok"}


def test_a_long_conversation_is_no_bomb():
    messages = [{"role": r, "content": "word " * 2000} for _ in range(300) for r in ("user", "assistant")]
    assert len(render(CHATML, messages)) > 6_000_000


def test_a_giant_template_is_not_even_parsed():
    with pytest.raises(FormatError, match=f"expected at most {chat.MOST_TEMPLATE_CHARACTERS}"):
        ChatTemplate("x" * (chat.MOST_TEMPLATE_CHARACTERS + 1), {})


def test_threads_may_share_a_template():
    template = ChatTemplate(CHATML, {})
    results: list[str] = []
    work = [threading.Thread(target=lambda: results.append(template.render(HELLO))) for _ in range(8)]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join(timeout=20)
    assert len(results) == 8
    assert len(set(results)) == 1
