"""Jinja for templates that strangers wrote: no access to the interpreter, and bounds on time and memory.

Jinja's sandbox keeps a template away from Python's internals but lets it loop for years or multiply strings
until the memory is gone. Here loop steps, calls and the sizes they work on count against a budget, and nothing
larger than a template can need is built. It runs in the caller's thread: the bounds are counts, not a timer.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

MOST_STEPS = 1_000_000
"""Loop steps, calls and values looked at in one rendering; a long conversation takes some thousands."""

MOST_CHARACTERS = 16_000_000
"""Longest text a template may build, and most values in one of its lists."""

CHARACTERS_PER_STEP = 256
MOST_NUMBER = 1 << 62
WIDE = re.compile(r"\d{7}|%[^a-z%]*\*")
"""A width in a format that would fill the memory, or one that an argument sets."""


class Sandbox(ImmutableSandboxedEnvironment):
    """One environment with one budget; renderings take turns and call ``refill`` first.

    Raises from templates:
        SecurityError: a bound is exceeded or something forbidden is touched.
    """

    intercepted_binops = frozenset(["*", "**", "+", "%"])

    def __init__(self, **options: Any) -> None:
        super().__init__(finalize=self._checked, **options)
        self._steps_left = MOST_STEPS
        self.globals.pop("lipsum", None)
        self.filters = {name: self._guarded(function) for name, function in self.filters.items()}
        self.filters |= {"_counted": self._counted, "_joined": self._joined, "_checked": self._checked}
        self.tests = {name: self._guarded(cast("Callable[..., Any]", test)) for name, test in self.tests.items()}

    def add_filter(self, name: str, function: Callable[..., Any]) -> None:
        """Give templates one more filter, under the budget like the others."""
        self.filters[name] = self._guarded(function)

    def refill(self) -> None:
        """Give the next rendering its whole budget."""
        self._steps_left = MOST_STEPS

    def bounded(self, source: str) -> nodes.Template:
        """Parse ``source`` and put what Jinja leaves unguarded (loops, ``~``, literals, comparisons) under the budget.

        Raises:
            TemplateSyntaxError: it is no template.
        """
        tree: nodes.Template = _Guard().visit(self.parse(source))
        return tree

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """One arithmetic operation, refused when its result could be huge."""
        self._count(1)
        if operator == "%" and isinstance(left, str):
            self._weigh(right)
            _check_format(left)
        else:
            _check_operands(operator, left, right)
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        """One call of a function, method or macro, refused when its result could be huge."""
        __self._check_arguments(getattr(__obj, "__self__", None), *args, *kwargs.values())
        return super().call(__context, __obj, *args, **kwargs)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """``str.format`` as Jinja guards it, without widths that fill the memory."""
        wrapped = super().wrap_str_format(value)
        if wrapped is not None:
            _check_format(value.__self__)
        return wrapped

    def _guarded(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A filter under the same checks; the copied attributes tell Jinja what else to pass to it."""

        @functools.wraps(function)
        def filtered(*args: Any, **kwargs: Any) -> Any:
            self._check_arguments(*args, *kwargs.values())
            if function.__name__ == "do_format":
                _check_format(str(args[0]))
            return function(*args, **kwargs)

        return filtered

    def _check_arguments(self, *values: Any) -> None:
        """Refuse what multiplies: long text replaced by or joined with long text, widths in the millions."""
        product = 1
        for value in values:
            self._weigh(value)
            if isinstance(value, (str, bytes, list, tuple)):
                product *= max(len(value), 1)
            elif isinstance(value, int) and abs(value) > 1024:
                product *= abs(value)
        if product > MOST_CHARACTERS * 16:
            raise SecurityError(f"the template builds a text of more than {MOST_CHARACTERS} characters")

    def _weigh(self, value: Any) -> None:
        """Count a value with all that is in it, as often as it is in it."""
        stack, characters, items = [value], 0, 1
        while stack:
            part = stack.pop()
            if isinstance(part, (str, bytes)):
                characters += len(part)
            elif isinstance(part, (list, tuple, set, frozenset, dict, range)):
                items += len(part)
                stack.extend(() if isinstance(part, range) else part.values() if isinstance(part, dict) else part)
            if items > self._steps_left:
                break
        _check_size(characters)
        self._count(items + characters // CHARACTERS_PER_STEP)

    def _checked(self, value: Any) -> Any:
        """Every value on its way to the output."""
        self._weigh(value)
        return value

    def _counted(self, items: Iterable[Any]) -> Iterator[Any]:
        for item in items:
            self._count(1)
            yield item

    def _joined(self, parts: list[Any]) -> str:
        self._weigh(parts)
        texts = [str(part) for part in parts]
        _check_size(sum(map(len, texts)))
        return "".join(texts)

    def _count(self, steps: int) -> None:
        self._steps_left -= steps
        if self._steps_left < 0:
            raise SecurityError(f"the template takes more than {MOST_STEPS} steps")


class GenerationBlock(Extension):
    """``{% generation %}`` … ``{% endgeneration %}`` marks what a model wrote, for training; here it is transparent."""

    tags = {"generation"}  # noqa: RUF012  # as Jinja declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The nodes between the two tags."""
        next(parser.stream)
        return list(parser.parse_statements(("name:endgeneration",), drop_needle=True))


class _Guard(NodeTransformer):
    """Puts a filter of the sandbox around everything that can take long without a call.

    Lists that hold one list twice, which holds another twice, and so on, look small and are exponentially large to
    whoever walks them: they are weighed where they are made and where they are compared.
    """

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802  # the names are Jinja's
        self.generic_visit(node)
        node.iter = _filtered(node.iter, "_counted")
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filtered(nodes.List(node.nodes, lineno=node.lineno, environment=node.environment), "_joined")

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.expr = _filtered(node.expr, "_checked")
        return node

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802
        return self.visit_List(node) if node.ctx == "load" else node

    def visit_List(self, node: nodes.Expr) -> nodes.Expr:  # noqa: N802
        self.generic_visit(node)
        return _filtered(node, "_checked")

    visit_Dict = visit_List  # noqa: N815


def _filtered(node: nodes.Node, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno, environment=node.environment)


def _check_operands(operator: str, left: Any, right: Any) -> None:
    sizes = [len(v) if isinstance(v, (str, bytes, list, tuple)) else v for v in (left, right)]
    if not all(isinstance(size, (int, float)) for size in sizes):
        return
    one, two = (abs(size) for size in sizes)
    if operator == "**" and (one > MOST_CHARACTERS or two > 2):
        raise SecurityError(f"the template raises `{left}` to the power `{right}`")
    made_of_text = sizes != [left, right]
    if operator in ("*", "**") and one * two > (MOST_CHARACTERS if made_of_text else MOST_NUMBER):
        raise SecurityError(f"the template multiplies {one} by {two}")
    if operator == "+" and made_of_text:
        _check_size(one + two)


def _check_size(size: int) -> None:
    if size > MOST_CHARACTERS:
        raise SecurityError(f"the template builds a text of more than {MOST_CHARACTERS} characters")


def _check_format(pattern: str) -> None:
    if WIDE.search(pattern):
        raise SecurityError(f"the template pads text by a format such as `{pattern[:40]}`")
