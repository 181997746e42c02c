"""Values of a template: what they may be, what may be done with them, and what that costs.

Jinja's sandbox keeps a template from reaching Python and bounds neither time nor memory. Here a value is plain data
or one of a few opaque things (a method, a macro, a loop), the methods are listed, and what makes a value is charged
to the rendering's meter. The charges are a function of template and row, so a rendering that is refused on one
machine is refused on all.
"""

from __future__ import annotations

import datetime
import math
import numbers
import re
import string
from _string import formatter_field_name_split  # pyrefly: ignore  (string.Formatter splits by it)
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from jinja2 import StrictUndefined, Undefined
from jinja2.runtime import Context, LoopContext, Macro
from jinja2.sandbox import SecurityError
from jinja2.utils import Namespace

LONGEST_RENDERING = 200_000  # characters; a template cannot fill the memory by mistake
LONGEST_RANGE = 100_000
WIDEST = 10_000  # columns of a formatted field
LARGEST_BITS = 2_048  # of a whole number
DEEPEST = 100  # lists within lists

# One unit is about a nanosecond, or a byte. A rendering of an ordinary prompt spends a few thousand.
WORK = 64_000_000
CALL, CELL, STEP, NODE = 64, 32, 32, 16  # a call, an item of a list, a turn of a loop, each thing that it does there
PATTERN = 16  # a character of a text into which values are put


class TooLarge(OverflowError):
    """A template makes more than a rendering may; the message follows the template's name."""


class NotText(TypeError):
    """A template writes what is no text; the message follows the template's name."""


class NoValue(NotText):
    """A template writes none or nan."""


def fits(characters: int) -> None:
    """Refuses a text that would be longer than a rendering may be."""
    if characters > LONGEST_RENDERING:
        raise TooLarge(f"makes a text of more than {LONGEST_RENDERING:,} characters")


class Meter:
    """What one rendering may still spend.

    Attributes:
        left: Units of work.
    """

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = WORK

    def spend(self, units: int) -> None:
        """Charges some work.

        Raises:
            TooLarge: More than there is left.
            TypeError: It comes from what is no whole number, such as nan: a template could spend without end.
        """
        if type(units) is not int:
            raise TypeError(f"{units!r} is no whole number")
        if units > 0:
            self.left -= units
        if self.left < 0:
            raise TooLarge(f"takes more work than a rendering may ({WORK:,} units)")

    def room(self, characters: int) -> None:
        """Charges a text before it is made.

        Raises:
            TooLarge: It would be longer than a rendering may be.
        """
        fits(characters)
        self.spend(characters)

    def cells(self, count: int) -> None:
        """Charges a list before it is made."""
        if count > LONGEST_RENDERING:
            raise TooLarge(f"makes a list of more than {LONGEST_RENDERING:,} items")
        self.spend(count * CELL)

    def made(self, value: Any) -> Any:
        """Charges a value that was made from one of about its size."""
        kind = type(value)
        if kind is str:
            self.spend(len(value))
        elif kind is list or kind is tuple or kind is dict:
            self.spend(len(value) * CELL)
        elif kind is int and value.bit_length() > LARGEST_BITS:
            raise TooLarge(f"makes a number of more than {LARGEST_BITS:,} bits")
        return value

    def weigh(self, value: Any) -> int:
        """Charges a look at all of a value, lists within lists counted as often as they are met; returns the charge.

        Raises:
            TooLarge: Nested more than `DEEPEST` deep, or more than there is left.
            TypeError: It is or holds what is no plain data.
        """
        before = self.left
        level = self._opened(value)
        for _ in range(DEEPEST):
            if not level:
                return before - self.left
            below: list[Any] = []
            for item in level:
                below += self._opened(item)
            level = below
        raise TooLarge(f"nests values more than {DEEPEST} deep")  # as a list that holds itself

    def _opened(self, value: Any) -> Sequence[Any]:
        """What stands in a list or mapping, charged before it is taken out."""
        kind = type(value)
        if kind is str or kind is range:
            self.spend(len(value))
        elif kind in SCALARS:
            self.spend(1)
        elif isinstance(value, (list, tuple)):
            self.spend(len(value) * CELL)
            return value
        elif isinstance(value, dict):
            self.spend(len(value) * 2 * CELL)
            return [*value, *value.values()]
        else:
            if not isinstance(defined(value), PLAIN):
                raise TypeError(f"{described(value)} is no plain value")
            self.spend(len(str(value)))
        return ()


SCALARS = frozenset({int, bool, float, type(None)})
PLAIN = (str, numbers.Number, datetime.date, datetime.time, datetime.timedelta, Undefined, bytes)


class Rendering(Context):
    """The context of one rendering.

    Attributes:
        meter: What it may still spend.
        row: The values that it was given.
        row_digest: Of the row, once it was asked for.
        choices: How many items were chosen by the row so far.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.meter = Meter()
        self.row: Mapping[str, Any] = {}
        self.row_digest: bytes | None = None
        self.choices = 0


class Group(NamedTuple):
    """What `groupby` gives: a value, and the items that have it."""

    grouper: Any
    list: list[Any]


class Function:
    """A function that templates may call; nothing else can be done with it."""

    __slots__ = ("name", "run")

    def __init__(self, name: str, run: Callable[..., Any]) -> None:
        self.name, self.run = name, run

    def __repr__(self) -> str:
        return f"<function {self.name}>"


class Method:
    """A value's method, that templates may call; nothing else can be done with it."""

    __slots__ = ("name", "owner", "run")

    def __init__(self, name: str, owner: Any, run: Callable[..., Any]) -> None:
        self.name, self.owner, self.run = name, owner, run

    def __repr__(self) -> str:
        return f"<method {self.name}>"


CALLABLE = (Function, Method, Macro)
OPAQUE = (*CALLABLE, LoopContext, Namespace)


def defined(value: Any) -> Any:
    """The value.

    Raises:
        UndefinedError: It is undefined.
    """
    if isinstance(value, Undefined):
        str(value)  # a strict one raises
    return value


def described(value: Any) -> str:
    """What a value is, where that is no data."""
    if isinstance(value, CALLABLE):
        return f"the {type(value).__name__.lower()} {value.name or 'caller'}"
    opaque = {LoopContext: "the loop", Namespace: "a namespace"}
    return opaque.get(type(value), f"a value of type {type(value).__name__}")


# --- how values become text -----------------------------------------------------------------------------------------


def text(meter: Meter, value: Any) -> str:
    """A value as it stands in a prompt.

    Raises:
        NoValue: None or nan: words that no reader of a prompt should meet.
        NotText: What is no data, such as a method that was not called.
    """
    kind = type(value)
    if kind is str:
        return value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        raise NoValue(f"would write {str(value).lower()} into the text")
    if kind is int or kind is bool or kind is float or isinstance(value, Undefined):
        return str(value)
    if not isinstance(value, PLAIN + CONTAINERS) or isinstance(value, bytes):
        called = f"; call it: {value.name or 'caller'}()" if isinstance(value, CALLABLE) else ""
        raise NotText(f"would write {described(value)} into the text{called}")
    fits(meter.weigh(value))
    return str(value)


CONTAINERS = (list, tuple, dict, range)
LOOPED = (str, *CONTAINERS)


def items(meter: Meter, value: Any, turn: int = STEP) -> Any:
    """What a loop goes through, each turn charged.

    Raises:
        TypeError: It is no list, tuple, text, mapping or range.
    """
    if not isinstance(value, LOOPED):
        if isinstance(defined(value), Undefined):
            return ()
        raise TypeError(f"{type(value).__name__!r} object is not iterable")
    meter.spend(len(value) * turn)
    return value


# --- attributes and items -------------------------------------------------------------------------------------------


def attribute_of(value: Any, name: str) -> Any:
    """`value.name`: a listed method, else an item of a mapping.

    Raises:
        SecurityError: A name that begins with `_`.
    """
    methods = METHODS.get(type(value))
    if methods is None:
        methods = next((METHODS[kind] for kind in METHODS if isinstance(defined(value), kind)), {})
    if name in methods:
        return Method(name, value, methods[name])
    if isinstance(value, dict) and name in value:
        return value[name]
    if name.startswith("_"):
        raise SecurityError(f"access to attribute {name!r} of {type(value).__name__!r} object is unsafe.")
    if name in FIELDS.get(type(value), ()) or isinstance(value, Namespace | Undefined):
        try:
            return getattr(value, name)
        except AttributeError:
            pass
    hint = f"{described(value)} has no attribute {name!r}" if isinstance(value, OPAQUE) else None
    return StrictUndefined(hint, obj=value, name=name)


def item_of(value: Any, key: Any) -> Any:
    """`value[key]`: an item of a list, text or mapping."""
    if isinstance(key, OPAQUE):
        raise TypeError(f"{described(key)} is no key")
    if isinstance(value, LOOPED):
        try:
            return value[hashable(key)]
        except (TypeError, LookupError):
            pass
    if isinstance(key, str) and not isinstance(value, (str, list, dict)):
        return attribute_of(value, key)
    return value[key] if isinstance(value, Undefined) else StrictUndefined(obj=value, name=_short(key))


def _short(key: Any) -> Any:
    """A key for an error message: a long list would take as long to write."""
    return key if not isinstance(key, CONTAINERS) or len(key) < 10 else type(key)


def hashable(key: Any) -> Any:
    """A key of a mapping: Python hashes tuples within tuples without a bound and would crash."""
    if isinstance(key, tuple) and any(isinstance(part, tuple) for part in key):
        raise TypeError("a tuple within a tuple is no key")
    return key


_LOOP = "depth depth0 first index index0 last length nextitem previtem revindex revindex0"
FIELDS: dict[type, frozenset[str]] = {
    LoopContext: frozenset(_LOOP.split()),
    Group: frozenset(Group._fields),
}


# --- operators ------------------------------------------------------------------------------------------------------


def add(meter: Meter, left: Any, right: Any) -> Any:
    """`left + right`."""
    if isinstance(left, str) and isinstance(right, str):
        meter.room(len(left) + len(right))
        return left + right
    return meter.made(left + right)


def subtract(meter: Meter, left: Any, right: Any) -> Any:
    """`left - right`."""
    return meter.made(left - right)


def multiply(meter: Meter, left: Any, right: Any) -> Any:
    """`left * right`: numbers, or a text or list repeated."""
    if isinstance(left, int) and isinstance(right, int):
        _few_bits(left.bit_length() + right.bit_length())
    elif isinstance(left, int):
        left, right = right, left
    if isinstance(right, int) and right > 0 and isinstance(left, (str, list, tuple)):
        (meter.room if isinstance(left, str) else meter.cells)(len(left) * right)
    return left * right


def power(meter: Meter, left: Any, right: Any) -> Any:
    """`left ** right`, of numbers."""
    if isinstance(left, int) and isinstance(right, int):
        _few_bits(left.bit_length() * max(right, 0))
    result = left**right
    if isinstance(result, complex):
        raise ArithmeticError("the root of a negative number")
    return result


def modulo(meter: Meter, left: Any, right: Any) -> Any:
    """`left % right`: a remainder, or values put into a text."""
    return percent(meter, left, right) if isinstance(left, str) else left % right


def _few_bits(bits: int) -> None:
    if bits > LARGEST_BITS:
        raise TooLarge(f"makes a number of more than {LARGEST_BITS:,} bits")


OPERATORS: dict[str, Callable[[Meter, Any, Any], Any]] = {
    "+": add,
    "-": subtract,
    "*": multiply,
    "**": power,
    "%": modulo,
}


# --- values put into a text -----------------------------------------------------------------------------------------

_SPECIFIER = re.compile(r"%(?:\(([^)]*)\))?([#0\- +]*)(\*|[0-9]+)?(?:\.(\*|[0-9]*))?[hlL]?(.)?", re.DOTALL)


def percent(meter: Meter, pattern: str, given: Any) -> str:
    """`pattern % given`, one specifier after the other, so that none makes more than there is room for."""
    meter.spend(PATTERN * len(pattern))
    left_over = list(reversed(given)) if isinstance(given, tuple) else [given]
    pieces, end, length = [], 0, len(pattern)
    for found in _SPECIFIER.finditer(pattern):
        pieces += [pattern[end : found.start()], _specified(meter, found, given, left_over)]
        end = found.end()
        length += len(pieces[-1])
        meter.spend(CALL + len(pieces[-1]))
        fits(length)
    if left_over and not isinstance(given, dict):
        raise TypeError("not all arguments converted during string formatting")
    return "".join([*pieces, pattern[end:]])


def _specified(meter: Meter, found: re.Match[str], given: Any, left_over: list[Any]) -> str:
    key, flags, width, precision, conversion = found.groups()
    if conversion == "%":
        return "%"
    if key is not None and not isinstance(given, dict):
        raise TypeError("format requires a mapping")
    try:
        width, precision = [left_over.pop() if size == "*" else size for size in (width, precision)]
        value = given[key] if key is not None else left_over.pop()
    except IndexError:
        raise TypeError("not enough arguments for format string") from None
    _narrow(width, precision)
    if conversion == "s":
        value = text(meter, value)
    else:
        meter.weigh(value)
    dot = "" if precision is None else f".{precision}"
    return f"%{flags}{'' if width is None else width}{dot}{conversion or ''}" % (value,)


def _narrow(*sizes: Any) -> None:
    if any(size and abs(int(size)) > WIDEST for size in sizes):
        raise TooLarge(f"makes a field of more than {WIDEST:,} columns")


class _Formatter(string.Formatter):
    """`str.format` whose fields are those that templates may reach."""

    def __init__(self, meter: Meter) -> None:
        self.meter, self.length = meter, 0

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> tuple[Any, Any]:
        first, rest = formatter_field_name_split(field_name)
        value = self.get_value(first, args, kwargs)
        for is_attribute, name in rest:
            value = attribute_of(value, name) if is_attribute else item_of(value, name)
        return value, first

    def convert_field(self, value: Any, conversion: Any) -> Any:
        if conversion in ("r", "a"):
            self.meter.weigh(value)
            return super().convert_field(value, conversion)
        return text(self.meter, value) if conversion == "s" else value

    def format_field(self, value: Any, format_spec: str) -> str:
        _narrow(*re.findall(r"\d+", format_spec))  # Python reads the digits of all scripts
        if not (format_spec and type(value) in (str, int, float, bool)):
            value = text(self.meter, value)
        made = format(value, format_spec)
        self.length += len(made)
        self.meter.spend(CALL + len(made))
        fits(self.length)
        return made


def _format(meter: Meter, pattern: str, /, *args: Any, **kwargs: Any) -> str:
    meter.spend(PATTERN * len(pattern))
    return _Formatter(meter).vformat(pattern, args, kwargs)


def _format_map(meter: Meter, pattern: str, /, mapping: Any) -> str:
    meter.spend(PATTERN * len(pattern))
    return _Formatter(meter).vformat(pattern, (), mapping)


# --- methods --------------------------------------------------------------------------------------------------------


def _plain(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method whose result is about as large as its owner at most."""

    def run(meter: Meter, owner: Any, /, *args: Any, **kwargs: Any) -> Any:
        meter.spend(len(owner))
        return meter.made(method(owner, *args, **kwargs))

    return run


def _searching(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method that in the worst case compares all of its argument with each place of its owner."""

    def run(meter: Meter, owner: str, /, *args: Any, **kwargs: Any) -> Any:
        sought = sum(len(arg) for arg in args if isinstance(arg, str))
        meter.spend(len(owner) * (8 + sought) // 8)
        return meter.made(method(owner, *args, **kwargs))

    return run


def _padded(method: Callable[..., str]) -> Callable[..., str]:
    def run(meter: Meter, owner: str, /, width: int, *args: Any) -> str:
        meter.room(max(len(owner), width))
        return method(owner, width, *args)

    return run


def _expandtabs(meter: Meter, owner: str, /, tabsize: int = 8) -> str:
    meter.room(len(owner) + owner.count("\t") * max(tabsize, 0))
    return owner.expandtabs(tabsize)


def replaced(meter: Meter, owner: str, /, old: str, new: str, count: int | None = None) -> str:
    """`owner.replace(old, new, count)`."""
    found = owner.count(old)
    times = found if count is None or count < 0 else min(found, count)
    meter.spend(len(owner))
    meter.room(max(len(owner), len(owner) + times * (len(new) - len(old))))
    return owner.replace(old, new, -1 if count is None else count)


def joined(meter: Meter, separator: str, /, texts: Iterable[str]) -> str:
    """`separator.join(texts)`."""
    texts = list(items(meter, texts))
    meter.room(sum(map(len, texts)) + len(separator) * len(texts))
    return separator.join(texts)


def _compared(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method of a list that compares its items."""

    def run(meter: Meter, owner: Any, /, *args: Any) -> Any:
        meter.spend(meter.weigh(owner))
        return method(owner, *args)

    return run


def _sort(meter: Meter, owner: list[Any], /, reverse: bool = False) -> None:
    ordering(meter, owner)
    owner.sort(reverse=reverse)


def ordering(meter: Meter, value: Any) -> Any:
    """A list whose sorting is charged."""
    meter.spend(meter.weigh(value) * max(1, int(math.log2(len(value) or 1))))
    return value


def _changed(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method that changes its owner, a list, and may move all its items."""

    def run(meter: Meter, owner: list[Any], /, *args: Any) -> Any:
        meter.cells(len(owner) + 1)
        return method(owner, *args)

    return run


def _keyed(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method of a mapping that looks for a key."""

    def run(meter: Meter, owner: dict[Any, Any], /, key: Any, *default: Any) -> Any:
        meter.cells(1)
        return method(owner, hashable(key), *default)

    return run


def _update(meter: Meter, owner: dict[Any, Any], /, more: Mapping[Any, Any] | None = None, **fields: Any) -> None:
    if not isinstance(more or {}, dict):
        raise TypeError("update() takes a mapping")
    meter.cells(len(more or {}) + len(fields))
    owner.update(more or {}, **fields)


def _extend(meter: Meter, owner: list[Any], /, more: Any) -> None:
    meter.cells(len(owner) + len(items(meter, more)))
    owner.extend(more)


def _append(meter: Meter, owner: list[Any], /, value: Any) -> None:
    meter.cells(1)
    owner.append(value)


def pairs(meter: Meter, owner: dict[Any, Any], /) -> list[tuple[Any, Any]]:
    """A mapping's keys and values, as a list."""
    meter.cells(len(owner) * 3)
    return list(owner.items())


def _keys(meter: Meter, owner: dict[Any, Any], /) -> list[Any]:
    return meter.made(list(owner))


def _values(meter: Meter, owner: dict[Any, Any], /) -> list[Any]:
    return meter.made(list(owner.values()))


def _changed_since(meter: Meter, loop: LoopContext, /, *values: Any) -> bool:
    meter.weigh(values)
    return loop.changed(*values)


_TEXT = (
    "capitalize casefold count endswith find index isalnum isalpha isascii isdecimal isdigit isidentifier islower "
    "isnumeric isprintable isspace istitle isupper lower partition removeprefix removesuffix split splitlines "
    "startswith swapcase title upper"
)
_SEARCHING = "lstrip rfind rindex rpartition rsplit rstrip strip"
METHODS: dict[type, dict[str, Callable[..., Any]]] = {
    str: {name: _plain(getattr(str, name)) for name in _TEXT.split()}
    | {name: _searching(getattr(str, name)) for name in _SEARCHING.split()}
    | {name: _padded(getattr(str, name)) for name in ("center", "ljust", "rjust", "zfill")}
    | {"expandtabs": _expandtabs, "format": _format, "format_map": _format_map, "join": joined, "replace": replaced},
    list: {
        "append": _append,
        "clear": _changed(list.clear),
        "count": _compared(list.count),
        "extend": _extend,
        "index": _compared(list.index),
        "insert": _changed(list.insert),
        "pop": _changed(list.pop),
        "remove": _compared(list.remove),
        "reverse": _changed(list.reverse),
        "sort": _sort,
    },
    tuple: {"count": _compared(tuple.count), "index": _compared(tuple.index)},
    dict: {
        "get": _keyed(dict.get),
        "items": pairs,
        "keys": _keys,
        "pop": _keyed(dict.pop),
        "setdefault": _keyed(dict.setdefault),
        "update": _update,
        "values": _values,
    },
    LoopContext: {"changed": _changed_since, "cycle": lambda meter, loop, *args: loop.cycle(*args)},
}
# Those that change their owner: rows are copied for templates that use one.
_CHANGING = "append clear extend insert pop remove reverse setdefault sort update"
CHANGING = frozenset(_CHANGING.split())
