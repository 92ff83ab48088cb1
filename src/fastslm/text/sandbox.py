"""Jinja for templates that strangers wrote: no access to the interpreter, and bounds on time and memory.

Jinja's sandbox keeps a template away from Python's internals but lets it loop for years or multiply strings
until the memory is gone. Here only what chat templates need can be called, and all of it is paid for from a budget
(``fastslm.text.budget``). It runs in the caller's thread: the bounds are counts, not a timer.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NoReturn, cast

from jinja2 import nodes, pass_context
from jinja2.environment import Environment
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.nodes import EvalContext
from jinja2.parser import Parser
from jinja2.runtime import Context, LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Cycler, Namespace
from jinja2.visitor import NodeTransformer

from fastslm.text.budget import (
    FILTERS,
    LIST_METHODS,
    MAPPING_METHODS,
    MOST_NUMBER,
    TEXT_METHODS,
    Budget,
)


class Sandbox(ImmutableSandboxedEnvironment):
    """One environment with one budget; renderings take turns and call ``refill`` first.

    Raises from templates:
        SecurityError: a bound is exceeded or something forbidden is touched.
    """

    intercepted_binops = frozenset(["+", "-", "*", "/", "//", "**", "%"])

    def __init__(self, **options: Any) -> None:
        super().__init__(finalize=self._whole, **options)
        self._budget = Budget()
        self.globals.pop("lipsum", None)
        self.filters = {
            name: self._guarded(name, function) if name in FILTERS else _refused(name)
            for name, function in self.filters.items()
        }
        self.filters |= {"_counted": self._counted, "_joined": self._joined}
        self.filters |= {"_whole": self._whole, "_surface": self._surface}
        self.tests = {name: self._guarded(name, cast("Callable[..., Any]", test)) for name, test in self.tests.items()}

    def add_filter(self, name: str, function: Callable[..., Any]) -> None:
        """Give templates one more filter, or another of this name, under the budget like the others."""
        self.filters[name] = self._guarded(name, function)

    def refill(self) -> None:
        """Give the next rendering its whole budget."""
        self._budget.refill()

    def bounded(self, source: str) -> nodes.Template:
        """Parse ``source`` and put what Jinja leaves unguarded (loops, ``~``, literals, comparisons) under the budget.

        Raises:
            TemplateSyntaxError: it is no template.
        """
        tree: nodes.Template = _Guard().visit(self.parse(source))
        return tree

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Methods that are on a list, those of Jinja's own helpers, and what cannot be called; never private names."""
        if not super().is_safe_attribute(obj, attr, value):
            return False
        if isinstance(obj, str):
            return attr in TEXT_METHODS
        if isinstance(obj, (list, tuple)):
            return attr in LIST_METHODS
        if isinstance(obj, Mapping):
            return attr in MAPPING_METHODS
        return isinstance(obj, (Namespace, LoopContext, Cycler)) or not callable(value)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """``str.format`` as Jinja guards it; ``format_map`` is not on the list."""
        return None if getattr(value, "__name__", "") == "format_map" else super().wrap_str_format(value)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """One arithmetic operation, refused when its result could be huge."""
        self._budget.pay_operation(operator, left, right)
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        """One call of a function, method or macro, refused when its result could be huge."""
        __self._budget.pay(1)
        if isinstance(__obj, LoopContext):  # one more round of a recursive loop
            args = tuple(map(__self._budget.steps_of, args))
        elif not isinstance(__obj, Macro):  # a macro only hands its arguments on
            args = tuple(map(__self._settled, args))
            kwargs = {name: __self._settled(value) for name, value in kwargs.items()}
            __self._pay_call(__obj, [*args, *kwargs.values()])
        return super().call(__context, __obj, *args, **kwargs)

    def _pay_call(self, function: Any, values: list[Any]) -> None:
        for value in values:
            self._budget.pay_whole(value)
        method = getattr(function, "__wrapped__", function)  # the sandbox wraps ``format``
        self._budget.pay_method(getattr(method, "__self__", None), getattr(method, "__name__", ""), values)

    def _guarded(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """A filter or test that pays; the copied attributes tell Jinja what else to pass to it."""

        @functools.wraps(function)
        def paid(*args: Any, **kwargs: Any) -> Any:
            given = tuple(map(self._settled, args))
            named = {key: self._settled(value) for key, value in kwargs.items()}
            values = [a for a in given if not isinstance(a, (Environment, EvalContext, Context))]
            self._budget.pay_filter(name, values, named)
            result = function(*given, **named)
            if isinstance(result, int) and abs(result) > MOST_NUMBER:
                raise SecurityError(f"the template computes with a number above {MOST_NUMBER}")
            return self._budget.steps_of(result) if _is_lazy(result) else result

        return paid

    def _settled(self, value: Any) -> Any:
        """The items of a generator as a list, so that they can be weighed."""
        if not _is_lazy(value):
            return value
        items = []
        for item in value:
            self._budget.pay_whole(item)
            items.append(item)
        return items

    @pass_context  # keeps Jinja from evaluating it at compile time
    def _whole(self, _: Context, value: Any) -> Any:
        """Every value on its way to the output, and what is walked through without a call."""
        self._budget.pay_whole(value)
        return self._budget.steps_of(value) if _is_lazy(value) else value

    @pass_context
    def _surface(self, _: Context, value: Any) -> Any:
        self._budget.pay_surface(value)
        return value

    @pass_context
    def _counted(self, _: Context, items: Iterable[Any]) -> Iterator[Any]:
        return self._budget.steps_of(items)

    @pass_context
    def _joined(self, _: Context, parts: list[Any]) -> str:
        self._budget.pay_whole(parts)
        return "".join(map(str, parts))


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

    def visit_Call(self, node: Any) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        if node.dyn_args is not None:
            node.dyn_args = _filtered(node.dyn_args, "_counted")
        return cast("nodes.Node", node)

    visit_Filter = visit_Test = visit_Call  # noqa: N815

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filtered(nodes.List(node.nodes, lineno=node.lineno, environment=node.environment), "_joined")

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.expr = _filtered(node.expr, "_whole")
        for operand in node.ops:
            operand.expr = _filtered(operand.expr, "_whole")
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        if isinstance(node.arg, nodes.Slice):
            node.node = _filtered(node.node, "_surface")
        return node

    def visit_TemplateData(self, node: nodes.TemplateData) -> nodes.Node:  # noqa: N802
        """Text of the template itself: a loop in a ``set`` block could repeat it without end."""
        return _filtered(nodes.Const(node.data, lineno=node.lineno, environment=node.environment), "_whole")

    def visit_ScopedEvalContextModifier(self, node: nodes.Node) -> NoReturn:  # noqa: N802
        raise SecurityError("the template uses `autoescape`, which chat templates do not need")

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802
        return self.visit_List(node) if node.ctx == "load" else node

    def visit_List(self, node: nodes.Expr) -> nodes.Expr:  # noqa: N802
        self.generic_visit(node)
        return _filtered(node, "_whole")

    visit_Dict = visit_List  # noqa: N815


def _filtered(node: nodes.Node, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno, environment=node.environment)


def _refused(name: str) -> Callable[..., Any]:
    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise SecurityError(f"the template uses the filter `{name}`, which is not allowed")

    return refuse


def _is_lazy(value: Any) -> bool:
    return isinstance(value, Iterator) and not isinstance(value, LoopContext)
