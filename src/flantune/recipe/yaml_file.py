"""YAML 1.2 with line numbers, and pydantic's complaints told as `file:line: field: what, and what to do`."""

from __future__ import annotations

import datetime
import json
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from flantune.errors import FlantuneError, Place, nearest, no_such_file

Model = TypeVar("Model", bound=BaseModel)

MOST_VALUES = 100_000  # in one file; ten nested aliases can stand for more than a machine holds


class Strict(BaseModel):
    """A frozen object whose unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class WrongAt(ValueError):
    """A validator's complaint about a place below the object that it validates.

    Args:
        location: Keys and list positions from the object to the place.
        message: What is wrong and what to do.
    """

    def __init__(self, location: Sequence[str | int], message: str) -> None:
        self.location = tuple(location)
        super().__init__(message)


class StatedFile(Protocol):
    """A file that states something, read: its values, and the line on which each stands."""

    @property
    def path(self) -> Path:
        """The file."""

    @property
    def data(self) -> dict[str, Any]:
        """Its values."""

    def line(self, location: Sequence[str | int]) -> int | None:
        """Line (from 1) of the deepest part of a location that is known."""


@dataclass(frozen=True)
class YamlFile:
    """A parsed YAML mapping that remembers where each key stood."""

    path: Path
    data: dict[str, Any]
    marked: Any  # ruamel's tree, for line numbers

    def line(self, location: Sequence[str | int]) -> int | None:
        """Line (from 1) of the deepest part of a location that the file has."""
        node, line = self.marked, None
        for part in location:
            try:
                if isinstance(node, Mapping):
                    line = node.lc.key(part)[0] + 1  # type: ignore[attr-defined]
                else:
                    line = node.lc.item(part)[0] + 1
                node = node[part]
            except (KeyError, IndexError, AttributeError, TypeError):
                break
        return line


@dataclass(frozen=True)
class Written:
    """Where values were written: no part of what they say, so any two are equal.

    Attributes:
        file: The file; None for values made in Python.
        overridden: Dotted key to the command line argument that set it.
    """

    file: YamlFile | None = field(default=None, compare=False)
    overridden: Mapping[str, str] = field(default_factory=dict, compare=False)

    def place(self, location: Sequence[str | int]) -> Place | str | None:
        """The argument that set a value or what is around it, else its file and line."""
        parts = [str(part) for part in location]
        for length in range(len(parts), 0, -1):
            if (argument := self.overridden.get(".".join(parts[:length]))) is not None:
                return argument
        return Place(self.file.path, self.file.line(location)) if self.file is not None else None


def read_yaml(path: Path) -> YamlFile:
    """Reads one YAML 1.2 mapping; `yes` stays text and `1e-4` is a number.

    Raises:
        FlantuneError: No such file, not UTF-8, not YAML, a key twice, not a mapping, empty.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise no_such_file(path) from None
    except IsADirectoryError:
        raise FlantuneError("is a folder; a YAML file is wanted here", path) from None
    except UnicodeDecodeError as error:
        raise FlantuneError(f"not UTF-8 text (byte {error.start}); save it as UTF-8", path) from None
    try:
        marked = YAML(typ="rt").load(text)
        data = plain(marked)
    except MarkedYAMLError as error:
        mark = error.problem_mark
        line = mark.line + 1 if mark is not None else None
        problem = str(error.problem or error.context)
        remedy = "; indent with spaces, not with tabs" if r"'\t'" in problem else ""
        raise FlantuneError(f"not valid YAML: {problem}{remedy}", Place(path, line)) from None
    except (YAMLError, ValueError) as error:  # a ValueError: a date that is none, a number without end
        raise FlantuneError(f"not valid YAML: {error}", path) from None
    except RecursionError:
        raise FlantuneError("not usable YAML: nested too deeply", path) from None
    if not isinstance(marked, Mapping):
        what = "empty" if marked is None else "not a mapping of keys to values"
        raise FlantuneError(f"the file is {what}; `key: value` lines are wanted", path)
    return YamlFile(path, data, marked)


def parse_value(text: str) -> Any:
    """One value from a command line: `1e-4`, `[a, b]`, `{a: b}`, `null`, `"quoted"`, else the words as they are."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    first = text.strip()[:1]
    try:
        value = plain(YAML(typ="rt").load(text))
    except (YAMLError, ValueError, RecursionError):
        return text
    words = isinstance(value, str) and first not in ("'", '"')
    block = isinstance(value, dict | list) and first not in ("{", "[")
    return text if words or block or first == "#" else value


def plain(value: Any) -> Any:
    """ruamel's tree as ordinary dicts, lists, strings and numbers.

    Raises:
        ValueError: Aliases that repeat each other make it larger than any file a person wrote.
    """
    values_left = MOST_VALUES

    def made(value: Any) -> Any:
        nonlocal values_left
        values_left -= 1
        if values_left < 0:
            raise ValueError(f"its aliases make it larger than {MOST_VALUES:,} values")
        if isinstance(value, Mapping):
            return {str(key): made(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [made(item) for item in value]
        if isinstance(value, bool) or value is None:
            return value
        if isinstance(value, int):
            return int(value)
        if isinstance(value, float):
            return float(value)
        if isinstance(value, datetime.date | datetime.datetime):
            return value.isoformat()
        # JSON writes an emoji as two halves (\\ud83d\\ude00), and JSON is YAML.
        return str(value).encode("utf-16", "surrogatepass").decode("utf-16", "replace")

    return made(value)


def validated(
    kind: type[Model], data: Mapping[str, Any], source: StatedFile | None, overridden: Mapping[str, str] | None = None
) -> Model:
    """The data as the pydantic type, or the first complaint with its place.

    Args:
        kind: The pydantic class.
        data: Plain values.
        source: The file they came from, for line numbers; None for values made in Python.
        overridden: Dotted key to the command line argument that set it.
    Raises:
        FlantuneError: `file:line: field: what is wrong (what there is)`.
    """
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=True)
        detail = min(details, key=lambda item: item["type"] != "extra_forbidden")  # a typo explains what is missing
        wrong_at = detail.get("ctx", {}).get("error")
        below = wrong_at.location if isinstance(wrong_at, WrongAt) else ()
        location = (*_in_data(data, detail), *below)
        dotted = ".".join(str(part) for part in location)
        message = _message(kind, location, detail)
        key = _overridden_key(location, overridden or {})
        if overridden and key is not None:
            raise FlantuneError(message if key == dotted else f"{dotted}: {message}", overridden[key]) from None
        place = Place(source.path, source.line(location)) if source is not None else None
        raise FlantuneError(f"{dotted}: {message}" if dotted else message, place) from None


def _in_data(data: Any, detail: Mapping[str, Any]) -> tuple[str | int, ...]:
    """pydantic's location without its own marks, such as which member of a union was tried."""
    location: list[str | int] = []
    node = data
    for part in detail["loc"]:
        found = part in node if isinstance(node, Mapping) else isinstance(node, list | tuple) and isinstance(part, int)
        if found or (part == detail["loc"][-1] and detail["type"] in ("missing", "extra_forbidden")):
            location.append(part)
            node = node[part] if found and (isinstance(node, Mapping) or part < len(node)) else None
    return tuple(location)


def _overridden_key(location: Sequence[str | int], overridden: Mapping[str, str]) -> str | None:
    """The overridden key at, above or below a location: the closest one."""
    at = [str(part) for part in location]

    def shared(key: str) -> int:
        parts = key.split(".")
        length = min(len(parts), len(at))
        return length if parts[:length] == at[:length] else 0

    return max((key for key in overridden if shared(key)), key=shared, default=None)


WANTED = {
    "int": "a whole number is wanted",
    "float": "a number is wanted",
    "bool": "true or false is wanted",
    "string": "text is wanted",
    "tuple": "a list is wanted",
    "finite": "a finite number is wanted",
    "greater_than": "must be greater than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be less than {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "string_pattern_mismatch": "must match the pattern {pattern}",
}


def _message(kind: type[BaseModel], location: tuple[str | int, ...], detail: Mapping[str, Any]) -> str:
    given, what = detail["input"], str(detail["type"])
    if what == "extra_forbidden":
        return f'unknown key "{location[-1]}"; {nearest(str(location[-1]), _fields_at(kind, detail["loc"][:-1]))}'
    if what == "missing":
        return "is missing; add it"
    if what == "literal_error":
        choices = [choice.strip(" '\"") for choice in str(detail["ctx"]["expected"]).replace(" or ", ",").split(",")]
        return f'unknown value "{given}"; {nearest(str(given), choices)}'
    if what in ("model_type", "dict_type"):
        return f"{_shown(given)} where keys and values are wanted{_listed(_fields_at(kind, detail['loc']))}"
    if what == "too_short":
        return "is empty; give at least one"
    if what == "string_too_short":
        return "is empty; give a value, or leave the key out"
    if what == "value_error":
        message = str(detail["msg"]).removeprefix("Value error, ")
        return f"{message}, not {_shown(given)}" if _is_scalar(given) else message
    wanted = WANTED.get(what) or WANTED.get(what.partition("_")[0])
    told = wanted.format(**detail.get("ctx", {})) if wanted is not None else str(detail["msg"])
    if what == "tuple_type" and _is_scalar(given):
        return f"{told}, such as [{given}]"
    remedy = "; put quotes around it" if what == "string_type" and _is_scalar(given) else ""
    return f"{told}, not {_shown(given)}{remedy}"


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str | int | float)


def _shown(value: Any) -> str:
    """A value as a person would write it in YAML."""
    if value is None:
        return "nothing"
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
    if _is_scalar(value):
        return json.dumps(value, ensure_ascii=False)
    return "a list" if isinstance(value, list | tuple) else "a mapping of keys to values"


def _listed(names: Sequence[str]) -> str:
    return f" ({', '.join(names)})" if names else ""


def _fields_at(kind: Any, location: Sequence[str | int]) -> list[str]:
    """Names of the keys allowed at a location inside a pydantic class; pydantic's marks in it choose among several."""
    for part in location:
        models = _models_in(kind)
        if not models:
            return []
        if isinstance(part, int):
            continue
        kind = next((model for model in models if model.__name__ == part), models[0])
        if part in kind.model_fields:
            kind = kind.model_fields[part].annotation
    models = _models_in(kind)
    return [field.alias or name for name, field in models[0].model_fields.items()] if models else []


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, list, tuple, dict, typing.Annotated):
        return [model for inner in typing.get_args(annotation) for model in _models_in(inner)]
    return []
