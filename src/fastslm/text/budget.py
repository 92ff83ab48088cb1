"""What one rendering of a stranger's template may cost, and what each operation costs.

Law: an operation is paid for before it is done, by the time it takes and the memory its result takes; what was not
thought about is not on a list here and cannot be called.
"""

from __future__ import annotations

import re
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from typing import Any

from jinja2.exceptions import SecurityError

MOST_STEPS = 1_000_000
"""Loop steps, calls and values looked at in one rendering; a long conversation takes some thousands."""

MOST_CHARACTERS = 16_000_000
"""Longest text a template may build."""

CHARACTERS_PER_STEP = 64
COPIES_PER_STEP = 16
COMPARISONS_PER_STEP = 4096
CHARACTERS_PER_ITEM = 24
"""A number, or the marks around a value, where a value is written as text."""

MOST_NUMBER = 1 << 62
MOST_PADDING = 1000
"""Characters that a field of a format may be wide."""

MOST_ATTRIBUTES = 8
"""Dots and commas of an attribute that a filter looks up in every item, as in ``map(attribute='a.b')``."""

ATTRIBUTE_PLACES = {"selectattr": 1, "rejectattr": 1, "join": 2, "unique": 2, "min": 2, "max": 2, "sort": 3}
WIDE_PERCENT = re.compile(r"%[-+ #.\d]*(?:\d{4}|\*)")
WIDE_NAMED = re.compile(r"[%)][-+ #.\d]*(?:\d{4}|\*)")
NESTED_FIELD = re.compile(r"\{[^{}]*\{")
FIELD = re.compile(r"\{[^{}]*")
WIDE = re.compile(r"\d{4}")
WHITESPACE = re.compile(r"\s+")
LINE_ENDS = "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"


def _words(names: str) -> frozenset[str]:
    return frozenset(names.split())


TEXT_METHODS = _words(
    "capitalize casefold count endswith find format index isalnum isalpha isascii isdecimal isdigit islower isnumeric"
    " isspace istitle isupper join lower lstrip partition removeprefix removesuffix replace rfind rindex rpartition"
    " rsplit rstrip split splitlines startswith strip swapcase title upper"
)
LIST_METHODS = frozenset({"count", "index"})
MAPPING_METHODS = frozenset({"get", "items", "keys", "values"})

FILTERS = _words(
    "abs capitalize count d default dictsort e escape first float format indent int items join last length list lower"
    " map max min reject rejectattr replace reverse safe select selectattr sort string title tojson trim truncate"
    " unique upper"
)
DEEP = _words(
    "capitalize dictsort e escape format indent join lower max min replace safe sort string title tojson trim truncate"
    " unique upper in == eq equalto != ne < lt lessthan <= le > gt greaterthan >= ge"
)
"""Filters and tests that walk through all that is in their arguments."""


class Budget:
    """Steps that are left of one rendering."""

    def __init__(self) -> None:
        """A whole budget."""
        self._left = MOST_STEPS

    def refill(self) -> None:
        """Give the next rendering its whole budget."""
        self._left = MOST_STEPS

    def pay(self, steps: int) -> None:
        """Take steps away.

        Raises:
            SecurityError: there are not so many left.
        """
        self._left -= steps
        if self._left < 0:
            raise SecurityError(f"the template takes more than {MOST_STEPS} steps")

    def pay_text(self, characters: int) -> None:
        """Pay for a text of this length that is about to be built or read.

        Raises:
            SecurityError: it is too long, or too much for what is left.
        """
        if characters > MOST_CHARACTERS:
            raise SecurityError(f"the template builds a text of more than {MOST_CHARACTERS} characters")
        self.pay(1 + characters // CHARACTERS_PER_STEP)

    def pay_surface(self, value: Any) -> None:
        """Pay for reading a text or for copying a list, not for what is in the list."""
        if isinstance(value, (str, bytes)):
            self.pay_text(len(value))
        else:
            self.pay(1 + (len(value) // COPIES_PER_STEP if isinstance(value, (list, tuple, Mapping, range)) else 0))

    def pay_whole(self, value: Any) -> int:
        """Pay for a value with all that is in it, as often as it is in it; return its length as text, about."""
        stack, characters, items = [value], 0, 1
        while stack:
            part = stack.pop()
            if isinstance(part, (str, bytes)):
                characters += len(part)
            elif isinstance(part, range):
                items += len(part)
            elif isinstance(part, Mapping):
                items += len(part)
                stack += [*part.keys(), *part.values()]
            elif isinstance(part, (list, tuple, set, frozenset, KeysView, ValuesView, ItemsView)):
                items += len(part)
                stack += part
            if items > self._left:
                break
        self.pay(items)
        self.pay_text(characters)
        return characters + items * CHARACTERS_PER_ITEM

    def pay_method(self, owner: Any, name: str, arguments: list[Any]) -> None:
        """Pay for ``owner.name(*arguments)``; the arguments themselves are paid for."""
        if isinstance(owner, (list, tuple)):
            self.pay_whole(owner)  # its methods compare
            return
        self.pay_surface(owner)
        if isinstance(owner, str):
            self._pay_text_method(owner, name, arguments)

    def _pay_text_method(self, text: str, name: str, arguments: list[Any]) -> None:
        needle = max((len(a) for a in arguments if isinstance(a, str)), default=0)
        if name in ("rfind", "rindex", "rsplit", "rpartition", "strip", "lstrip", "rstrip"):
            self.pay(len(text) * needle // COMPARISONS_PER_STEP)
        if name in ("split", "rsplit", "splitlines"):
            self.pay(_parts(text, name, arguments))
        elif name == "replace":
            self.pay_replace(text, *arguments[:2])
        elif name == "join":
            self.pay_join(arguments[0] if arguments else (), text)
        elif name == "format":
            self.pay_format(text, *arguments)

    def pay_replace(self, s: Any, old: Any = "", new: Any = "", count: object = None) -> None:
        """Pay for replacing ``old`` everywhere; names as Jinja's filters have them, here and below."""
        text, old, new = str(s), str(old), str(new)
        self.pay_text(len(text) + text.count(old) * max(0, len(new) - len(old)))

    def pay_join(self, value: Any = (), d: Any = "", attribute: object = None) -> None:
        """Pay for the separators between items that are paid for; a text is taken apart."""
        count = len(value) if hasattr(value, "__len__") else 0
        self.pay_list(value)
        self.pay_text(count * len(str(d)))

    def pay_list(self, value: Any, *_: object, **__: object) -> None:
        """Pay for taking a text apart into its characters."""
        self.pay(len(value) if isinstance(value, str) else 0)

    def pay_title(self, s: Any) -> None:
        """Pay for taking a text apart into its words."""
        self.pay(len(str(s)) // 2)

    def pay_indent(self, s: Any, width: Any = 4, first: object = False, blank: object = False) -> None:
        """Pay for ``width`` spaces, or a text as wide, before every line."""
        text, width = str(s), len(width) if isinstance(width, str) else int(width)
        lines = _lines(text)
        self.pay(lines)
        self.pay_text(len(text) + lines * max(0, width))

    def pay_trim(self, value: Any, chars: Any = None) -> None:
        """Pay for looking every character up among ``chars``."""
        self.pay(len(str(value)) * len(str(chars or "")) // COMPARISONS_PER_STEP)

    def pay_format(self, value: Any, *arguments: Any, **named: Any) -> None:
        """Pay for a pattern filled in: as if every field took all arguments."""
        pattern = str(value)
        if _is_wide(pattern):
            raise SecurityError(f"the template pads text by a format such as `{pattern[:40]}`")
        fields = pattern.count("%") + pattern.count("{")
        filling = sum(map(self.pay_whole, [*arguments, *named.values()]))
        self.pay_text(len(pattern) + fields * (filling + MOST_PADDING))

    def pay_operation(self, operator: str, left: Any, right: Any) -> None:
        """Pay for arithmetic, and for its forms on texts and lists."""
        self.pay(1)
        if operator == "%" and isinstance(left, str):
            self.pay_format(left, right)
            return
        for value in (left, right):
            if isinstance(value, (int, float)) and abs(value) > MOST_NUMBER:
                raise SecurityError(f"the template computes with a number above {MOST_NUMBER}")
        sizes = [len(v) if isinstance(v, (str, bytes, list, tuple)) else v for v in (left, right)]
        if not all(isinstance(size, (int, float)) for size in sizes):
            return
        one, two = (abs(size) for size in sizes)
        if operator == "**" and two > 2:
            raise SecurityError(f"the template raises `{left}` to the power `{right}`")
        if operator in ("*", "**") and one * two > MOST_NUMBER:
            raise SecurityError(f"the template multiplies {one} by {two}")
        made = {"+": one + two, "*": one * two}.get(operator, 0)
        if isinstance(left, str) or isinstance(right, str):
            self.pay_text(int(made))
        elif isinstance(left, (list, tuple)) or isinstance(right, (list, tuple)):
            self.pay(int(made))

    def pay_filter(self, name: str, values: list[Any], named: Mapping[str, Any]) -> None:
        """Pay for a filter or test on these values: ``values`` by place, ``named`` by keyword."""
        pay = self.pay_whole if name in DEEP else self.pay_surface
        for value in [*values, *named.values()]:
            pay(value)
        if name in PRICES:
            PRICES[name](self, *values, **named)
        place = ATTRIBUTE_PLACES.get(name, len(values))
        for path in [*values[place : place + 1], named.get("attribute")]:
            if isinstance(path, str) and path.count(".") + path.count(",") > MOST_ATTRIBUTES:
                raise SecurityError(f"the template looks up more than {MOST_ATTRIBUTES} attributes at once")

    def steps_of(self, items: Iterable[Any]) -> Iterator[Any]:
        """The items, each paid for when it is taken."""
        for item in items:
            self.pay(1)
            yield item


PRICES: dict[str, Callable[..., None]] = {
    "format": Budget.pay_format,
    "indent": Budget.pay_indent,
    "join": Budget.pay_join,
    "list": Budget.pay_list,
    "replace": Budget.pay_replace,
    "sort": Budget.pay_list,
    "title": Budget.pay_title,
    "trim": Budget.pay_trim,
}
"""Filters whose results can be larger than their arguments, or that take longer than reading them."""


def _parts(text: str, name: str, arguments: list[Any]) -> int:
    """How many texts splitting makes."""
    if name == "splitlines":
        return _lines(text)
    separator = next((a for a in arguments if isinstance(a, str)), None)
    return text.count(separator) + 1 if separator else sum(1 for _ in WHITESPACE.finditer(text)) + 1


def _lines(text: str) -> int:
    return sum(map(text.count, LINE_ENDS)) + 1


def _is_wide(pattern: str) -> bool:
    """Whether a field is padded beyond all use, or as wide as an argument says. Takes time linear in its length."""
    named = "%(" in pattern  # a name may hold brackets, so that a width may follow any closing one
    if (WIDE_NAMED if named else WIDE_PERCENT).search(pattern):
        return True
    braces = pattern.replace("{{", "")
    widths = (field.partition(":")[2] for field in FIELD.findall(braces))
    return bool(NESTED_FIELD.search(braces)) or any(map(WIDE.search, widths))
