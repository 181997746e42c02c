"""Records inside a JSON or YAML document: the path that leads to them, and the rows that they make."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flantune.errors import FlantuneError, Place, nearest, shortened
from flantune.tasks.sources.rows import Row

LARGEST_DOCUMENT = 256 * 2**20  # characters; held whole, it takes about five times that


@dataclass(frozen=True)
class Record:
    """A value at the end of a path, and what came along on the way."""

    value: Any
    outer: Row
    number: int  # from 1, among all at the path, those outside a slice too
    inside: Any = None  # the list or object that holds it, None for the document itself
    position: int = 0  # its position there, from 0


def records(document: Any, path: str | None, name: str) -> Iterator[Record]:
    """The records of a document, in its order.

    A path such as `data.*.paragraphs.*.qas` has steps by dots (`\\.` is a dot in a key): a key; `*`, each item of a
    list or each value of an object, whose key comes along as the field `key`; a number, one item of a list; `100:200`,
    a slice of it. Where the path ends at a list, its items are the records; where it ends at an object, that is one.
    `.` is the document itself. Fields of the objects on the way that are neither list nor object come along; the inner
    one wins. An object without the key of a step has no records below it, unless none has.

    Args:
        document: Dicts, lists and scalars.
        path: None: the document is a list of records.
        name: How messages call the file.
    Raises:
        FlantuneError: The path leads nowhere, or there is none and the document is an object.
    """
    if path is None and isinstance(document, dict):
        keys = ", ".join(map(shortened, list(document)[:12]))
        raise FlantuneError(
            "one object, not a list of records; say with `records` where they lie (`.`: the object is the only one)"
            + (f"; its keys: {keys}" if keys else ""),
            name,
        )
    walk = _Walk(path or ".", name)
    number = 0
    for number, (node, kept) in enumerate(walk.ends(document), start=1):
        if kept:
            yield Record(node.value, node.outer, number, node.inside, node.position)
    if number == 0 and walk.missed is not None:
        raise FlantuneError(walk.missed, name)


@dataclass(frozen=True)
class _Node:
    value: Any
    outer: Row
    trail: tuple[str, ...]
    inside: Any = None
    position: int = 0


class _Walk:
    """Follows a path through a document."""

    def __init__(self, path: str, name: str) -> None:
        self.path, self.name = path, name
        self.steps = [] if path == "." else [step.replace("\\.", ".") for step in DOT.split(path)]
        self.missed: str | None = None  # the first step that led nowhere
        if "" in self.steps:
            raise FlantuneError(f"the record path {path!r} has an empty step; write one dot between steps", name)

    def ends(self, document: Any) -> Iterator[tuple[_Node, bool]]:
        """Each node at the end of the path, and whether every slice on the way holds it."""
        return self._follow(_Node(document, {}, ()), self.steps, kept=True)

    def _follow(self, node: _Node, steps: Sequence[str], *, kept: bool) -> Iterator[tuple[_Node, bool]]:
        if steps:
            for child, inside in self._children(node, steps[0]):
                yield from self._follow(child, steps[1:], kept=kept and inside)
        elif isinstance(node.value, list) and not self._ends_in_each:
            for child, _ in _items(node):
                yield child, kept
        elif node.value is None and not self._ends_in_each:
            self._miss(node, "null, which holds no records")
        else:
            yield node, kept

    @property
    def _ends_in_each(self) -> bool:
        """Whether the last step names the records, and not the list that holds them."""
        return bool(self.steps) and (self.steps[-1] == "*" or SLICE.fullmatch(self.steps[-1]) is not None)

    def _children(self, node: _Node, step: str) -> Iterator[tuple[_Node, bool]]:
        value = node.value
        if isinstance(value, list):
            yield from self._of_list(node, step)
        elif isinstance(value, dict) and step == "*":
            for position, (key, item) in enumerate(value.items()):
                yield _Node(item, {**node.outer, "key": key}, (*node.trail, key), value, position), True
        elif isinstance(value, dict) and step in value:
            come_along = {name: item for name, item in value.items() if not isinstance(item, dict | list)}
            position = list(value).index(step)
            yield _Node(value[step], {**node.outer, **come_along}, (*node.trail, step), value, position), True
        elif isinstance(value, dict):
            self._miss(node, f'no "{step}"; {nearest(step, value)}')
        elif value is None:
            self._miss(node, "null, which holds no records")
        else:
            raise FlantuneError(self._told(node, f'{kind_of(value)}, where step "{step}" needs an object'), self.name)

    def _of_list(self, node: _Node, step: str) -> Iterator[tuple[_Node, bool]]:
        if step == "*":
            yield from _items(node)
        elif bounds := SLICE.fullmatch(step):
            inside = range(len(node.value))[slice(*(int(bound) if bound else None for bound in bounds.groups()))]
            yield from ((child, child.position in inside) for child, _ in _items(node))
        elif not re.fullmatch(r"\d+", step):
            raise FlantuneError(self._told(node, f'a list; write `*` before step "{step}"'), self.name)
        elif int(step) < len(node.value):
            yield _Node(node.value[int(step)], node.outer, (*node.trail, step), node.value, int(step)), True
        else:
            self._miss(node, f"a list of {len(node.value)}; the first has number 0")

    def _miss(self, node: _Node, what: str) -> None:
        self.missed = self.missed or self._told(node, what)

    def _told(self, node: _Node, what: str) -> str:
        at = ".".join(map(shortened, node.trail)) if node.trail else "the top"
        return f"the record path {self.path!r} leads nowhere: at {at} there is {what}"


DOT = re.compile(r"(?<!\\)\.")
SLICE = re.compile(r"(-?\d*):(-?\d*)")


def _items(node: _Node) -> Iterator[tuple[_Node, bool]]:
    for position, item in enumerate(node.value):
        yield _Node(item, node.outer, (*node.trail, str(position)), node.value, position), True


def as_row(value: Any, header: Sequence[str] | None, place: Place | str, wanted: str) -> Row:
    """A record as a row: one that is a list takes its names from the header, a bare value the only name in it.

    Raises:
        FlantuneError: Neither an object nor, with a header, as many parts as it names.
    """
    if isinstance(value, dict):
        return value
    if header is None:
        names = ", or names for its parts in `header`" if isinstance(value, list) else ""
        raise FlantuneError(f"{kind_of(value)}; {wanted}{names}", place)
    cells = value if isinstance(value, list) else [value]
    if len(cells) != len(header):
        parts = f"{len(cells)} part{'s' if len(cells) != 1 else ''}"
        raise FlantuneError(f"{parts} where `header` names {len(header)} ({', '.join(header)})", place)
    return dict(zip(header, cells, strict=True))


def kind_of(value: Any) -> str:
    """What a value is, with its article."""
    known = {dict: "an object", list: "a list", str: "a text", bool: "a truth value", type(None): "null"}
    return known.get(type(value), "a number")


def rows_of_columns(table: Any, place: str) -> Iterator[Row]:
    """Rows of `{field: [value, ...]}`, or of `{field: {row label: value}}`, as pandas writes them.

    Raises:
        FlantuneError: No such object, or columns that do not have the same rows.
    """
    if not isinstance(table, dict) or not table:
        raise FlantuneError(f"{kind_of(table)}; `orient: columns` wants an object of columns", place)
    columns = {name: _cells(name, column, place) for name, column in table.items()}
    first_name, first = next(iter(columns.items()))
    for name, column in columns.items():
        if column.keys() != first.keys():
            counts = f'"{shortened(first_name)}" {len(first)}, "{shortened(name)}" {len(column)}'
            raise FlantuneError(f"the columns have different rows: {counts}; each row needs a value in each", place)
    return ({name: column[label] for name, column in columns.items()} for label in first)


def _cells(name: str, column: Any, place: str) -> Mapping[Any, Any]:
    if isinstance(column, dict):
        return column
    if isinstance(column, list):
        return dict(enumerate(column))
    raise FlantuneError(
        f'column "{shortened(name)}" is {kind_of(column)}; `orient: columns` wants a list of values', place
    )
