"""A machine for the few pickle operations that a file of tensors is made of. No name in a pickle is ever looked up.

Python's unpickler calls whatever a file names. This one keeps the names as text and knows those of tensors: the others
are refused with their name. Values are never shown, compared or hashed whole: a few bytes can describe a value of any
size. Operations as in ``pickletools`` of the standard library, what torch writes as in its ``_weights_only_unpickler``.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import IO, Any, BinaryIO, NamedTuple, cast

from fastslm.errors import FormatError, UnsupportedModel
from fastslm.formats.checked_json import shorten

MAX_BYTES = 64 << 20
"""Of one pickle: names, shapes and places of tensors, about 300 bytes each."""

STORAGES: Mapping[str, str] = MappingProxyType(
    {
        **{"DoubleStorage": "F64", "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16"},
        **{"LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8"},
        **{"ByteStorage": "U8", "BoolStorage": "BOOL"},
    }
)
"""Classes of torch that stand for the type of a storage, and our names of the types."""


class Global(NamedTuple):
    """A name in a pickle."""

    module: str
    name: str


class Storage(NamedTuple):
    """Numbers in the file: their type, the key of their place, how many there are."""

    dtype: str
    key: str
    length: int


class Strided(NamedTuple):
    """A tensor: numbers of a storage from ``offset`` on, ``strides`` apart in each dimension."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


DICT = Global("collections", "OrderedDict")
TENSOR = Global("torch._utils", "_rebuild_tensor_v2")
PARAMETER = Global("torch._utils", "_rebuild_parameter")
SIZE = Global("torch", "Size")
KNOWN = frozenset({DICT, TENSOR, PARAMETER, SIZE, *(Global("torch", name) for name in STORAGES)})


def run_pickle(file: BinaryIO, subject: str) -> Any:
    """What the pickle at the file's position describes: plain values, dicts, lists, and ``Strided`` tensors.

    Raises:
        FormatError: it is damaged, or names something else than tensors.
        UnsupportedModel: it uses an operation that torch does not write.
    """
    machine = _Machine(subject)
    try:
        for operation, argument, _ in pickletools.genops(cast("IO[bytes]", _Bounded(file))):
            if operation.name == "STOP":
                return machine.pop()
            machine.step(operation.name, argument)
    except (ValueError, IndexError, KeyError, TypeError, RecursionError) as error:
        raise FormatError(f"`{subject}` is a damaged pickle: {error}", subject=subject) from error
    raise FormatError(f"`{subject}` is a pickle without an end", subject=subject)


class _Bounded:
    """The part of a file that one pickle may take."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._left = MAX_BYTES

    def read(self, size: int) -> bytes:
        return self._counted(self._file.read(min(size, self._left + 1)))

    def readline(self) -> bytes:
        line = self._counted(self._file.readline(self._left + 1))
        if b"\\" in line:  # no name has one, and ``pickletools`` would take it for an escape and warn
            raise ValueError("a name has a backslash")
        return line

    def tell(self) -> int:
        return self._file.tell()

    def _counted(self, data: bytes) -> bytes:
        self._left -= len(data)
        if self._left < 0:
            raise ValueError(f"it is longer than {MAX_BYTES} bytes")
        return data


class _Machine:
    """Stack, marks and memo of one pickle."""

    def __init__(self, subject: str) -> None:
        self._subject = subject
        self._stack: list[Any] = []
        self._outer: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def pop(self) -> Any:
        return self._stack.pop()

    def step(self, name: str, argument: Any) -> None:
        """One operation."""
        if name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name]())
        elif name in _LITERALS:
            self._stack.append(argument)
        elif name in _ACTIONS:
            _ACTIONS[name](self, argument)
        elif name not in _IGNORED:
            message = f"`{self._subject}` has the pickle operation `{name}`, expected those of a file of tensors"
            raise UnsupportedModel(message, feature=name)

    def mark(self, _: Any) -> None:
        self._outer.append(self._stack)
        self._stack = []

    def since_mark(self) -> list[Any]:
        found, self._stack = self._stack, self._outer.pop()
        return found

    def remember(self, number: int) -> None:
        self._memo[number] = self._stack[-1]

    def memoize(self, _: Any) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def recall(self, number: int) -> None:
        self._stack.append(self._memo[number])

    def tuple_of(self, count: int) -> None:
        values = tuple(self._stack[-count:])
        if len(values) != count:
            raise IndexError("a tuple lacks a value")
        del self._stack[-count:]
        self._stack.append(values)

    def marked_tuple(self, _: Any) -> None:
        values = tuple(self.since_mark())
        self._stack.append(values)

    def append(self, _: Any) -> None:
        value = self.pop()
        self._list().append(value)

    def appends(self, _: Any) -> None:
        values = self.since_mark()
        self._list().extend(values)

    def set_item(self, _: Any) -> None:
        value, key = self.pop(), self.pop()
        self._set([key, value])

    def set_items(self, _: Any) -> None:
        self._set(self.since_mark())

    def name(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._push_name(Global(module, name))

    def stacked_name(self, _: Any) -> None:
        name, module = self.pop(), self.pop()
        self._push_name(Global(_text(module), _text(name)))

    def persistent(self, _: Any) -> None:
        """Torch's own operation: the description of a storage."""
        kind, storage, key, _place, length, *rest = self.pop()
        if kind != "storage" or not isinstance(storage, Global) or storage.name not in STORAGES or any(rest):
            raise ValueError("a storage is described in an unknown way")
        self._stack.append(Storage(STORAGES[storage.name], _text(key), _whole(length)))

    def reduce(self, _: Any) -> None:
        arguments, function = self.pop(), self.pop()
        if not isinstance(arguments, tuple):
            raise TypeError("a call has no arguments")
        self._stack.append(_called(function, arguments))

    def build(self, _: Any) -> None:
        """Attributes of a dict, such as versions of modules: not needed."""
        self.pop()
        if not isinstance(self._stack[-1], dict):
            raise TypeError(f"attributes of a {type(self._stack[-1]).__name__}")

    def _push_name(self, found: Global) -> None:
        if found not in KNOWN:
            named = shorten(f"{found.module}.{found.name}")
            message = f"`{self._subject}` names the Python object {named}, expected nothing but tensors"
            raise FormatError(message, subject=self._subject, found=f"{found.module}.{found.name}"[:200])
        self._stack.append(found)

    def _list(self) -> list[Any]:
        if not isinstance(self._stack[-1], list):
            raise TypeError("a value is appended to what is no list")
        return self._stack[-1]

    def _set(self, pairs: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict) or len(pairs) % 2:
            raise TypeError("an item is set in what is no dict")
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if not isinstance(key, (str, int)):  # a tuple of tuples of … could not even be hashed
                raise TypeError(f"a key is a {type(key).__name__}")
            target[key] = value


def _called(function: Any, arguments: tuple[Any, ...]) -> Any:
    if function == DICT:
        return {}
    if function == SIZE:
        return arguments[0]
    if function == PARAMETER and isinstance(arguments[0], Strided):
        return arguments[0]
    if function == TENSOR and isinstance(arguments[0], Storage):
        storage, offset, shape, strides = arguments[:4]
        return Strided(storage, _whole(offset), _wholes(shape), _wholes(strides))
    called = ".".join(function) if isinstance(function, Global) else f"a {type(function).__name__}"
    raise TypeError(f"a call of {called}")


def _wholes(values: Any) -> tuple[int, ...]:
    if not isinstance(values, tuple):
        raise TypeError(f"a shape is a {type(values).__name__}")
    return tuple(_whole(value) for value in values)


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 48:
        raise ValueError(f"a size is {shorten(value) if type(value) is int else type(value).__name__}")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a name is a {type(value).__name__}")
    return value


_CONSTANTS: Mapping[str, Callable[[], Any]] = MappingProxyType(
    {
        **{"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple},
        **{"NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False},
    }
)
_LITERALS = frozenset(
    {
        *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
        *("SHORT_BINSTRING", "BINSTRING"),
    }
)
_IGNORED = frozenset({"PROTO", "FRAME"})
_ACTIONS: Mapping[str, Callable[[_Machine, Any], None]] = MappingProxyType(
    {
        "MARK": _Machine.mark,
        **dict.fromkeys(("BINPUT", "LONG_BINPUT"), _Machine.remember),
        **dict.fromkeys(("BINGET", "LONG_BINGET"), _Machine.recall),
        "MEMOIZE": _Machine.memoize,
        "TUPLE": _Machine.marked_tuple,
        "TUPLE1": lambda machine, _: machine.tuple_of(1),
        "TUPLE2": lambda machine, _: machine.tuple_of(2),
        "TUPLE3": lambda machine, _: machine.tuple_of(3),
        "APPEND": _Machine.append,
        "APPENDS": _Machine.appends,
        "SETITEM": _Machine.set_item,
        "SETITEMS": _Machine.set_items,
        "GLOBAL": _Machine.name,
        "STACK_GLOBAL": _Machine.stacked_name,
        "BINPERSID": _Machine.persistent,
        "REDUCE": _Machine.reduce,
        "BUILD": _Machine.build,
    }
)
