"""YAML 1.2 with line numbers, and pydantic's complaints told as `file:line: field: what, and what to do`."""

from __future__ import annotations

import datetime
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from flantune.errors import FlantuneError, Place, nearest

Model = TypeVar("Model", bound=BaseModel)


class Strict(BaseModel):
    """A frozen object whose unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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
        raise FlantuneError("no such file", path) from None
    except IsADirectoryError:
        raise FlantuneError("is a folder; a YAML file is wanted here", path) from None
    except UnicodeDecodeError as error:
        raise FlantuneError(f"not UTF-8 text (byte {error.start}); save it as UTF-8", path) from None
    try:
        marked = YAML(typ="rt").load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark
        line = mark.line + 1 if mark is not None else None
        raise FlantuneError(f"not valid YAML: {error.problem or error.context}", Place(path, line)) from None
    except YAMLError as error:
        raise FlantuneError(f"not valid YAML: {error}", path) from None
    if not isinstance(marked, Mapping):
        what = "empty" if marked is None else "not a mapping of keys to values"
        raise FlantuneError(f"the file is {what}; `key: value` lines are wanted", path)
    return YamlFile(path, plain(marked), marked)


def parse_value(text: str) -> Any:
    """One YAML value from a command line: `1e-4`, `[a, b]`, `null`, `words as they are`."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return plain(YAML(typ="rt").load(text))
    except YAMLError:
        return text


def plain(value: Any) -> Any:
    """ruamel's tree as ordinary dicts, lists, strings and numbers."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, datetime.date | datetime.datetime):
        return value.isoformat()
    return str(value)


def validated(
    kind: type[Model], data: Mapping[str, Any], source: YamlFile | None, overridden: Mapping[str, str] | None = None
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
        location = tuple(part for part in detail["loc"])
        dotted = ".".join(str(part) for part in location)
        message = _message(kind, location, detail)
        if overridden and dotted in overridden:
            raise FlantuneError(message, f"{overridden[dotted]}") from None
        place = Place(source.path, source.line(location)) if source is not None else None
        raise FlantuneError(f"{dotted}: {message}" if dotted else message, place) from None


def _message(kind: type[BaseModel], location: tuple[str | int, ...], detail: Mapping[str, Any]) -> str:
    known = _fields_at(kind, location[:-1])
    if detail["type"] == "extra_forbidden":
        return f'unknown key "{location[-1]}"; {nearest(str(location[-1]), known)}'
    if detail["type"] == "missing":
        return "is missing; add it"
    if detail["type"] == "literal_error":
        choices = [choice.strip(" '\"") for choice in str(detail["ctx"]["expected"]).replace(" or ", ",").split(",")]
        return f'unknown value "{detail["input"]}"; {nearest(str(detail["input"]), choices)}'
    message = str(detail["msg"]).removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    shown = detail["input"]
    return f"{message}, not {shown!r}" if isinstance(shown, str | int | float | bool | None) else message


def _fields_at(kind: Any, location: Sequence[str | int]) -> list[str]:
    """Names of the keys allowed at a location inside a pydantic class."""
    for part in location:
        kind = _model_in(kind)
        if kind is None:
            return []
        if isinstance(part, str) and part in kind.model_fields:
            kind = kind.model_fields[part].annotation
    model = _model_in(kind)
    return list(model.model_fields) if model is not None else []


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, list, tuple, dict, typing.Annotated):
        return next(filter(None, map(_model_in, typing.get_args(annotation))), None)
    return None
