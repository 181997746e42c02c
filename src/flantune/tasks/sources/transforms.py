"""Transforms: what a source declares, applied to each row in order. Each is a small function of a row to its rows."""

from __future__ import annotations

import copy
import functools
import importlib
import importlib.util
import json
import math
import re
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from flantune.errors import FlantuneError, nearest, shortened
from flantune.files import file_digest
from flantune.tasks.foreign.conversations import conversation_rows, triple_row
from flantune.tasks.jinja import render_text
from flantune.tasks.sources.record_path import kind_of
from flantune.tasks.sources.rows import Row
from flantune.tasks.sources.strict_json import BadJson, load_json
from flantune.tasks.sources.transform_schema import (
    Cast,
    ConversationTurns,
    Join,
    MapValues,
    Regex,
    Split,
    StripPrefix,
    StripSuffix,
    Transform,
    Triple,
    expression,
)

Change = Callable[[Row], Sequence[Row]]

SECONDS_PER_PATTERN = 0.5  # on one row; a pattern that goes back and forth without end takes hours


def transformer(transforms: Sequence[Transform], *, allow_code: bool) -> Change:
    """All transforms of a source as one function from a row to its rows: none, one or many.

    Args:
        transforms: In order.
        allow_code: Whether `python` may run.
    Raises:
        FlantuneError: `python` is not allowed, or its function is not found. The function that is returned raises it,
            without a place, for a row that a transform cannot change.
    """
    changes = []
    for number, transform in enumerate(transforms):
        name, chosen = transform.chosen
        what = f"source.transforms.{number} ({name})"
        if name == "python":
            change = _python(chosen, what, allow_code=allow_code)
        else:
            change = functools.partial(TRANSFORMS[name], chosen)
        changes.append((change, what))
    return functools.partial(_applied, changes)


def _applied(changes: Sequence[tuple[Change, str]], row: Row) -> Sequence[Row]:
    rows: Sequence[Row] = [row]
    for change, what in changes:
        try:
            rows = [made for row in rows for made in change(row)]
        except FlantuneError as error:
            raise FlantuneError(f"{what}: {error.message}") from None
    return rows


def rename(names: dict[str, str], row: Row) -> Sequence[Row]:
    """Fields under other names, in their places."""
    for old in names:
        _value(row, old)
    made = {names.get(field, field): value for field, value in row.items()}
    if len(made) != len(row):
        new = next(new for new in names.values() if [names.get(field, field) for field in row].count(new) > 1)
        raise FlantuneError(f'two fields would be called "{new}"; choose another name')
    return [made]


def map_values(chosen: MapValues, row: Row) -> Sequence[Row]:
    """The value of a field, or each item of a list, by a table."""
    value = _value(row, chosen.field)
    mapped = [_mapped(chosen, item) for item in value] if isinstance(value, list) else _mapped(chosen, value)
    return [{**row, chosen.field: mapped}]


def _mapped(chosen: MapValues, value: Any) -> Any:
    text = as_text(value)
    if text in chosen.values:
        return chosen.values[text]
    if chosen.otherwise is None:
        listed = nearest(text, chosen.values)
        raise FlantuneError(f'field "{chosen.field}" is {_shown(value)}, which `values` does not list; {listed}')
    return value if chosen.otherwise == "keep" else chosen.otherwise


def strip_suffix(chosen: StripSuffix, row: Row) -> Sequence[Row]:
    """A text without an end that it has."""
    return _with_text(row, chosen.field, lambda text: text.removesuffix(chosen.suffix))


def strip_prefix(chosen: StripPrefix, row: Row) -> Sequence[Row]:
    """A text without a beginning that it has."""
    return _with_text(row, chosen.field, lambda text: text.removeprefix(chosen.prefix))


def join(chosen: Join, row: Row) -> Sequence[Row]:
    """Fields as one text; a list gives all its items, null gives nothing."""
    values = [_value(row, field) for field in chosen.fields]
    parts = [part for value in values for part in (value if isinstance(value, list) else [value]) if part is not None]
    return [{**row, chosen.into: chosen.between.join(map(as_text, parts))}]


def split(chosen: Split, row: Row) -> Sequence[Row]:
    """A text as the list of its parts; an empty text has none."""
    return _with_text(row, chosen.field, lambda text: text.split(chosen.by) if text else [], chosen.into)


def apply_pattern(chosen: Regex, row: Row) -> Sequence[Row]:
    """The first group of what a pattern finds, or the text with all that it finds replaced."""
    return _with_text(row, chosen.field, lambda text: _found(chosen, text), chosen.into)


def _found(chosen: Regex, text: str) -> str:
    import regex

    pattern = _compiled(chosen.pattern)
    try:
        if chosen.replace is not None:
            return pattern.sub(chosen.replace, text, timeout=SECONDS_PER_PATTERN)
        found = pattern.search(text, timeout=SECONDS_PER_PATTERN)
    except TimeoutError:
        raise FlantuneError(
            f'the pattern takes longer than {SECONDS_PER_PATTERN:g} seconds on field "{chosen.field}" '
            f"({len(text):,} characters); write it without repetitions inside repetitions"
        ) from None
    except (regex.error, IndexError) as error:
        raise FlantuneError(f"`replace` does not fit the pattern: {error}") from None
    if found is None or found[1] is None:
        shown = f'the pattern finds nothing in field "{chosen.field}" ({_shown(text)})'
        raise FlantuneError(f"{shown}; leave such rows out with `filter` before it")
    return found[1]


@functools.lru_cache(maxsize=256)
def _compiled(pattern: str) -> Any:
    import regex

    return regex.compile(pattern)


def cast(chosen: Cast, row: Row) -> Sequence[Row]:
    """A value of another type; null stays null, and int, float and bool are made of each item of a list."""
    value, make = _value(row, chosen.field), CASTS[chosen.to]
    try:
        if isinstance(value, list) and chosen.to in ("int", "float", "bool"):
            made: Any = [make(item) for item in value]
        else:
            made = make(value) if value is not None else None
    except BadJson as error:
        raise FlantuneError(f'field "{chosen.field}": {error}') from None
    except ValueError as error:
        raise FlantuneError(f'field "{chosen.field}" is {_shown(value)}; {error}') from None
    return [{**row, chosen.field: made}]


def as_text(value: Any) -> str:
    """A value as JSON writes it; text as it is."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _whole_number(value: Any) -> int:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, int) or (isinstance(value, str) and re.fullmatch(r"\s*[+-]?[0-9]{1,4000}\s*", value)):
        return int(value)
    raise ValueError("a whole number is wanted")


def _number(value: Any) -> float:
    if isinstance(value, int | float) or (isinstance(value, str) and NUMBER.fullmatch(value)):
        with_fraction = float(value)
        if math.isfinite(with_fraction):
            return with_fraction
    raise ValueError("a finite number is wanted")


NUMBER = re.compile(r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*")


def _truth(value: Any) -> bool:
    known = TRUTHS.get(as_text(value).strip().lower())
    if known is None:
        raise ValueError("true, yes or 1, or false, no or 0 is wanted")
    return known


TRUTHS = {**dict.fromkeys(("true", "yes", "1"), True), **dict.fromkeys(("false", "no", "0"), False)}


def _of_json(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError("a text that holds JSON is wanted")
    return load_json(value)


CASTS: dict[str, Callable[[Any], Any]] = {
    "int": _whole_number,
    "float": _number,
    "bool": _truth,
    "text": as_text,
    "json": _of_json,
}


def explode(field: str, row: Row) -> Sequence[Row]:
    """A row for each item of a list field; an item that is an object joins the row, and wins."""
    items = _value(row, field)
    if items is None:
        return []
    if not isinstance(items, list):
        raise FlantuneError(f'field "{field}" is {kind_of(items)}; a list is wanted')
    rest = {name: value for name, value in row.items() if name != field}
    return [{**rest, **item} if isinstance(item, dict) else {**row, field: item} for item in items]


def unescape(field: str, row: Row) -> Sequence[Row]:
    r"""A text in which the two characters \n are a newline, and \t a tab."""
    return _with_text(row, field, lambda text: text.replace("\\n", "\n").replace("\\t", "\t"))


def keep_where(condition: str, row: Row) -> Sequence[Row]:
    """The row where a Jinja expression holds."""
    return [row] if render_text(expression(condition), row, "the expression") == "1" else []


def conversation(chosen: ConversationTurns, row: Row) -> Sequence[Row]:
    """The turns of a chat as history and target."""
    return conversation_rows(row, chosen.field, chosen.targets, system=chosen.system, tools=chosen.tools)


def triple(chosen: Triple, row: Row) -> Sequence[Row]:
    """A rendered example with what its id tells."""
    return [triple_row(row, chosen.input, chosen.outputs, chosen.id)]


TRANSFORMS: dict[str, Callable[[Any, Row], Sequence[Row]]] = {
    "rename": rename,
    "map": map_values,
    "strip_suffix": strip_suffix,
    "strip_prefix": strip_prefix,
    "join": join,
    "split": split,
    "regex": apply_pattern,
    "cast": cast,
    "explode": explode,
    "unescape": unescape,
    "filter": keep_where,
    "conversation": conversation,
    "triple": triple,
}


def _value(row: Row, field: str) -> Any:
    if field not in row:
        raise FlantuneError(f'the row has no field "{field}"; {nearest(field, row)}')
    return row[field]


def _with_text(row: Row, field: str, change: Callable[[str], Any], into: str | None = None) -> Sequence[Row]:
    """The row with a text changed; null stays null."""
    value = _value(row, field)
    if value is not None and not isinstance(value, str):
        raise FlantuneError(f'field "{field}" is {kind_of(value)}; a text is wanted')
    return [{**row, into or field: change(value) if value is not None else None}]


def _shown(value: Any) -> str:
    return shortened(json.dumps(value, ensure_ascii=False, default=str), most=80)


def _python(path: str, what: str, *, allow_code: bool) -> Change:
    """A function of the user's own as a transform."""
    if not allow_code:
        raise FlantuneError(f"{what} runs code: say `allow_code: true` in the recipe if you trust {path}")
    module_name, _, name = path.partition(":")
    try:
        function = getattr(importlib.import_module(module_name), name)
    except Exception as error:  # whatever the module does when it is imported
        raise FlantuneError(f"{what} cannot import {path}: {type(error).__name__}: {error}") from None
    return functools.partial(_called, function, path)


def _called(function: Callable[[Row], Any], path: str, row: Row) -> Sequence[Row]:
    try:
        made = function(copy.deepcopy(row))  # which may change it; other rows may share what is inside
    except Exception as error:  # the user's code, which may raise anything
        last = traceback.extract_tb(error.__traceback__)[-1]
        at = f"{Path(last.filename).name}:{last.lineno}"
        raise FlantuneError(f"{path} fails on this row at {at}: {type(error).__name__}: {error}") from None
    rows = [] if made is None else made if isinstance(made, list) else [made]
    for number, each in enumerate(rows):
        if not isinstance(each, dict) or not all(isinstance(key, str) for key in each):
            which = f"item {number} of its list" if isinstance(made, list) else "what it returns"
            raise FlantuneError(f"{path} returns no row: {which} is no dict with names of fields as keys")
    return rows


def code_identity(transforms: Sequence[Transform]) -> list[str]:
    """For each `python` transform, a text that changes with the file of its module."""
    paths = [chosen for name, chosen in (transform.chosen for transform in transforms) if name == "python"]
    return [f"{path} {_file_digest(path.partition(':')[0])}" for path in paths]


def _file_digest(module: str) -> str:
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        spec = None
    file = Path(spec.origin) if spec is not None and spec.origin else None
    return file_digest(file) if file is not None and file.is_file() else ""
