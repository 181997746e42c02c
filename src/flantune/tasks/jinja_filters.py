"""What templates may use besides their row: filters, tests and functions, each bounded, none left to chance.

They mean what they mean in Jinja, with these differences: what Jinja gives as a one-way stream is a list; `tojson` is
plain JSON, without escapes for HTML; none is not made text in silence; `choice` without a number, and `random`, take
an item by the row's content, so that a row reads the same each time.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import jinja2
from jinja2 import filters, pass_context, tests
from jinja2.utils import Namespace

from flantune.tasks.jinja_values import (
    LONGEST_RANGE,
    Function,
    Group,
    Meter,
    NoValue,
    Rendering,
    TooLarge,
    defined,
    fits,
    hashable,
    items,
    joined,
    ordering,
    pairs,
    percent,
    replaced,
    text,
)

Filter = Callable[..., Any]
JINJAS: dict[str, Filter] = {**filters.FILTERS}
JINJAS_TESTS: dict[str, Callable[..., bool]] = {**tests.TESTS}


# --- filters of text ------------------------------------------------------------------------------------------------


def _of_text(name: str, cost: int = 2) -> Filter:
    """Jinja's filter of a name, for a text that it makes hardly longer, at a cost a character."""
    original = JINJAS[name]

    @pass_context
    def call(context: Rendering, value: Any, *args: Any, **kwargs: Any) -> Any:
        given = text(context.meter, value)
        context.meter.spend(cost * len(given))
        return original(given, *args, **kwargs)

    return call


@pass_context
def _trim(context: Rendering, value: Any, chars: str | None = None) -> str:
    given = text(context.meter, value)
    context.meter.spend(len(given) * (8 + len(chars or "")) // 8)
    return given.strip(chars)


@pass_context
def _string(context: Rendering, value: Any) -> str:
    return text(context.meter, value)


@pass_context
def _replace(context: Rendering, value: Any, old: Any, new: Any, count: int | None = None) -> str:
    meter = context.meter
    return replaced(meter, text(meter, value), text(meter, old), text(meter, new), count)


@pass_context
def _center(context: Rendering, value: Any, width: int = 80) -> str:
    context.meter.room(width)
    return text(context.meter, value).center(width)


@pass_context
def _indent(context: Rendering, value: Any, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    given = text(context.meter, value)
    each = len(width) if isinstance(width, str) else width
    context.meter.room(len(given) + (len(given.splitlines()) + 1) * max(each, 0))
    return JINJAS["indent"](given, width, first, blank)


@pass_context
def _truncate(
    context: Rendering, value: Any, length: int = 255, killwords: bool = False, end: str = "...", leeway: int = 5
) -> str:
    given = text(context.meter, value)
    if length < len(end) or leeway < 0:
        raise ValueError(f"cannot truncate to {length} characters with an ending of {len(end)}")
    if len(given) <= length + leeway:
        return given
    kept = context.meter.made(given[: length - len(end)])
    return (kept if killwords else kept.rsplit(" ", 1)[0]) + end


@pass_context
def _wordwrap(
    context: Rendering,
    value: Any,
    width: int = 79,
    break_long_words: bool = True,
    wrapstring: str = "\n",
    break_on_hyphens: bool = True,
) -> str:
    given = text(context.meter, value)
    lines = 1 + len(given) // max(width, 1) + len(given.split())
    context.meter.room(len(given) + lines * len(wrapstring))
    longest = max(map(len, given.split()), default=0)
    context.meter.spend(20 * len(given) + longest * longest // max(width, 1))  # a long word is cut piece by piece
    return JINJAS["wordwrap"](context.environment, given, width, break_long_words, wrapstring, break_on_hyphens)


@pass_context
def _printf(context: Rendering, value: Any, *args: Any, **kwargs: Any) -> str:
    if args and kwargs:
        raise TypeError("format takes values by position or by name, not both")
    return percent(context.meter, text(context.meter, value), kwargs or args)


@pass_context
def _tojson(context: Rendering, value: Any, indent: int | None = None) -> str:
    meter = context.meter
    meter.room(meter.weigh(value))
    if indent is not None and not 0 <= indent <= 16:
        raise ValueError("tojson indents by 0 to 16")
    pieces, length = [], 0
    try:
        for piece in json.JSONEncoder(ensure_ascii=False, allow_nan=False, indent=indent).iterencode(value):
            length += len(piece)
            fits(length)
            pieces.append(piece)
    except ValueError:
        raise NoValue("would write nan or an infinity into JSON") from None
    meter.spend(length)
    return "".join(pieces)


# --- filters of lists -----------------------------------------------------------------------------------------------


def _listed(name: str) -> Filter:
    """Jinja's filter of a name that goes through a list item by item."""
    original = JINJAS[name]

    @pass_context
    def call(context: Rendering, value: Any, *args: Any, **kwargs: Any) -> list[Any]:
        for arg in args[: 2 if name.endswith("attr") else 1]:
            if not isinstance(defined(arg), (str, int)):  # Jinja looks them up, and so hashes them
                raise TypeError(f"{name} takes names of filters, tests or attributes")
        return context.meter.made(list(original(context, items(context.meter, value), *args, **kwargs)))

    return call


def _comparing(name: str) -> Filter:
    """Jinja's filter of a name that compares the items of a list."""
    original = JINJAS[name]

    @pass_context
    def call(context: Rendering, value: Any, *args: Any, **kwargs: Any) -> Any:
        ordering(context.meter, items(context.meter, value))
        return original(context.environment, value, *args, **kwargs)

    return call


_unique_items, _groups = _comparing("unique"), _comparing("groupby")


@pass_context
def _unique(context: Rendering, value: Any, *args: Any, **kwargs: Any) -> list[Any]:
    return list(_unique_items(context, value, *args, **kwargs))


@pass_context
def _groupby(context: Rendering, value: Any, *args: Any, **kwargs: Any) -> list[Group]:
    return [Group(*group) for group in _groups(context, value, *args, **kwargs)]


@pass_context
def _dictsort(context: Rendering, value: Any, *args: Any, **kwargs: Any) -> list[tuple[Any, Any]]:
    ordering(context.meter, _items(context, value))
    return JINJAS["dictsort"](value, *args, **kwargs)


@pass_context
def _items(context: Rendering, value: Any) -> list[tuple[Any, Any]]:
    if not isinstance(value, dict):
        raise TypeError(f"{type(defined(value)).__name__!r} object has no keys and values")
    return pairs(context.meter, value)


@pass_context
def _join(context: Rendering, value: Any, d: Any = "", attribute: str | int | None = None) -> str:
    meter = context.meter
    if attribute is not None:
        value = FILTERS["map"](context, value, attribute=attribute)
    return joined(meter, text(meter, d), [text(meter, item) for item in items(meter, value)])


@pass_context
def _list(context: Rendering, value: Any) -> list[Any]:
    return context.meter.made(list(items(context.meter, value)))


@pass_context
def _reverse(context: Rendering, value: Any) -> Any:
    if isinstance(value, str):
        return context.meter.made(value[::-1])
    return _list(context, value)[::-1]


@pass_context
def _first(context: Rendering, value: Any) -> Any:
    return JINJAS["first"](context.environment, items(context.meter, value))


@pass_context
def _last(context: Rendering, value: Any) -> Any:
    return JINJAS["last"](context.environment, items(context.meter, value))


@pass_context
def _batch(context: Rendering, value: Any, linecount: int, fill_with: Any = None) -> list[list[Any]]:
    context.meter.cells(linecount)
    return list(JINJAS["batch"](_list(context, value), linecount, fill_with))


@pass_context
def _slice(context: Rendering, value: Any, slices: int, fill_with: Any = None) -> list[list[Any]]:
    context.meter.cells(slices * 4)
    return list(JINJAS["slice"](context.eval_ctx, _list(context, value), slices, fill_with))


@pass_context
def _sum(context: Rendering, value: Any, attribute: str | int | None = None, start: Any = 0) -> Any:
    if attribute is not None:
        value = FILTERS["map"](context, value, attribute=attribute)
    return context.meter.made(sum([_number(item) for item in items(context.meter, value)], _number(start)))


@pass_context
def _most_frequent(context: Rendering, value: Any) -> list[Any]:
    """The items that come most often, in order of their first appearance."""
    counts = Counter(hashable(item) for item in items(context.meter, value))
    most = max(counts.values(), default=0)
    return [item for item, count in counts.items() if count == most]


@pass_context
def _choice(context: Rendering, value: Any, number: Any = None) -> Any:
    """An item by its number, from 0; without one, the item that row and place in the template point at."""
    choices = _list(context, value)
    if number is not None:
        return choices[int(number)]
    if not choices:
        raise LookupError("no item to choose from")
    return choices[_by_row(context) % len(choices)]


def _by_row(context: Rendering) -> int:
    """64 bits that depend on the row and on how many were asked for before, on nothing else.

    What a task puts beside the row is left out: a row takes the same items however its options are written.
    """
    if context.row_digest is None:
        row = {name: value for name, value in context.row.items() if name not in ("answer_choices", "options")}
        content = json.dumps(row, sort_keys=True, default=str).encode()
        context.meter.spend(len(content))
        context.row_digest = hashlib.blake2b(content, digest_size=16).digest()
    context.choices += 1
    key = context.row_digest + context.choices.to_bytes(8)
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest())


# --- filters of numbers and of anything -----------------------------------------------------------------------------


def _number(value: Any) -> Any:
    if not isinstance(value, int | float):
        raise TypeError(f"{type(defined(value)).__name__!r} object is no number")
    return value


def _round(value: Any, precision: int = 0, method: str = "common") -> Any:
    if abs(precision) > 300:
        raise ValueError("round to at most 300 digits")
    return JINJAS["round"](_number(value), precision, method)


@pass_context
def _int(context: Rendering, value: Any, default: Any = 0, base: int = 10) -> Any:
    context.meter.spend(len(value) if isinstance(value, str) else 1)
    return context.meter.made(JINJAS["int"](value, default, base))


@pass_context
def _float(context: Rendering, value: Any, default: Any = 0.0) -> Any:
    context.meter.spend(8 * len(value) if isinstance(value, str) else 1)
    return JINJAS["float"](value, default)


@pass_context
def _field(context: Rendering, name: Any) -> Any:
    """The field of a name that Jinja could not read otherwise."""
    if not isinstance(name, str):
        raise TypeError("field takes a name")
    if name not in context:
        raise jinja2.UndefinedError(f"{name!r} is undefined")
    return context[name]


def _length(value: Any) -> int:
    return len(value)


FILTERS: dict[str, Filter] = {
    **{name: _of_text(name) for name in ("capitalize", "lower", "upper")},
    **{name: _of_text(name, cost=200) for name in ("title", "wordcount")},
    **{name: _listed(name) for name in ["map", "reject", "rejectattr", "select", "selectattr"]},
    **{name: _comparing(name) for name in ["max", "min", "sort"]},
    "abs": lambda value: abs(_number(value)),
    "batch": _batch,
    "center": _center,
    "choice": _choice,
    "count": _length,
    "d": JINJAS["default"],
    "default": JINJAS["default"],
    "dictsort": _dictsort,
    "field": _field,
    "first": _first,
    "float": _float,
    "format": _printf,
    "groupby": _groupby,
    "indent": _indent,
    "int": _int,
    "items": _items,
    "join": _join,
    "last": _last,
    "length": _length,
    "list": _list,
    "most_frequent": _most_frequent,
    "random": pass_context(lambda context, value: _choice(context, value)),
    "replace": _replace,
    "reverse": _reverse,
    "round": _round,
    "safe": _string,  # a prompt is not HTML: nothing is escaped
    "slice": _slice,
    "string": _string,
    "sum": _sum,
    "tojson": _tojson,
    "trim": _trim,
    "truncate": _truncate,
    "unique": _unique,
    "wordwrap": _wordwrap,
}


# --- tests ----------------------------------------------------------------------------------------------------------


def _weighing(original: Callable[..., bool]) -> Callable[..., bool]:
    @pass_context
    def call(context: Rendering, *values: Any) -> bool:
        for value in values:
            context.meter.weigh(value)
        return original(*values)

    return call


_COMPARISONS = "== eq equalto != ne > gt greaterthan >= ge < lt lessthan <= le in lower upper"
_KINDS = "boolean defined false float integer iterable mapping none number sameas sequence string true undefined"
TESTS: dict[str, Callable[..., bool]] = {
    **{name: JINJAS_TESTS[name] for name in _KINDS.split()},
    **{name: _weighing(JINJAS_TESTS[name]) for name in _COMPARISONS.split()},
    # Jinja's take `%` of whatever they get, a text among it.
    "divisibleby": lambda value, number: _number(value) % _number(number) == 0,
    "even": lambda value: _number(value) % 2 == 0,
    "odd": lambda value: _number(value) % 2 == 1,
}


# --- functions ------------------------------------------------------------------------------------------------------


def _range(meter: Meter, /, *args: Any) -> range:
    made = range(*args)
    if made and (made[-1] - made[0]) // made.step >= LONGEST_RANGE:
        raise TooLarge(f"makes a range of more than {LONGEST_RANGE:,}")
    return made


def _zip(meter: Meter, /, *values: Any) -> list[tuple[Any, ...]]:
    return meter.made(list(zip(*[items(meter, value) for value in values], strict=False)))


def _enumerate(meter: Meter, /, value: Any, start: int = 0) -> list[tuple[int, Any]]:
    return meter.made(list(enumerate(items(meter, value), start)))


def _dict(meter: Meter, /, given: Any = (), **fields: Any) -> dict[Any, Any]:
    if not isinstance(given, dict):
        given = {hashable(key): value for key, value in items(meter, given)}
    return meter.made({**given, **fields})


def _namespace(meter: Meter, /, given: Mapping[str, Any] | None = None, **fields: Any) -> Namespace:
    return Namespace({name: value for name, value in {**(given or {}), **fields}.items() if isinstance(name, str)})


GLOBALS: dict[str, Function] = {
    function.name: function
    for function in (
        Function("dict", _dict),
        Function("enumerate", _enumerate),
        Function("namespace", _namespace),
        Function("range", _range),
        Function("zip", _zip),
    )
}
