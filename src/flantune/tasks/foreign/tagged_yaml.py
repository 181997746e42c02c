"""YAML of other projects: tags are read as plain data or refused; size, depth and aliases are bounded."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from flantune.errors import FlantuneError, Place, no_such_file
from flantune.recipe.yaml_file import MOST_VALUES

Location = tuple[str | int, ...]  # keys and list positions from the top of the file

MOST_BYTES = 1 << 20  # the largest of promptsource's 279 files has 17 kB; 1 MiB is read in under a second
DEEPEST = 32


@dataclass(frozen=True)
class Tagged:
    """A value under a tag, such as `!function utils.doc_to_text`: told apart from text, never acted upon."""

    tag: str
    value: Any

    def __str__(self) -> str:
        return f"{self.tag} {self.value}" if isinstance(self.value, str) else self.tag


@dataclass(frozen=True)
class TaggedYaml:
    """A parsed mapping and the line of each of its keys and items."""

    path: Path
    data: dict[str, Any]
    lines: Mapping[Location, int]

    def place(self, *location: str | int) -> Place:
        """The line of the deepest part of a location that the file has."""
        return Place(self.path, line_in(self.lines, location))


def line_in(lines: Mapping[Location, int], location: Sequence[str | int]) -> int | None:
    """The line of the deepest part of a location that has one."""
    for length in range(len(location), 0, -1):
        if tuple(location[:length]) in lines:
            return lines[tuple(location[:length])]
    return None


def read_tagged_yaml(path: Path, *, plain: Collection[str] = (), kept: Collection[str] = ()) -> TaggedYaml:
    """Reads one YAML mapping that may hold tags.

    Args:
        path: The file.
        plain: Tags whose value is read as if they were not there: `!Template {a: b}` is `{a: b}`.
        kept: Tags whose value is read as `Tagged`.
    Raises:
        FlantuneError: No such file, not UTF-8, not YAML, another tag, a key twice, no mapping, or larger or deeper
            than a person's file; with the line.

    `yes` and dates stay text, and a number is one only where it would be written so: `007` and `1.50` are text.
    """
    import yaml

    text = _text(path)
    try:
        reading = _Reading(path, yaml.parse(text, yaml.CBaseLoader), frozenset(plain), frozenset(kept))
        data = reading.document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else None
        raise FlantuneError(f"not valid YAML: {error.problem or error.context}", Place(path, line)) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise FlantuneError(f"not valid YAML: the character #x{error.character:04x}", Place(path, line)) from None
    if not isinstance(data, dict):
        what = "empty" if data is None else "not a mapping of keys to values"
        raise FlantuneError(f"the file is {what}; `key: value` lines are wanted", path)
    return TaggedYaml(path, data, reading.lines)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            content = stream.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise FlantuneError(f"more than {MOST_BYTES:,} bytes; divide the file", path)
        return content.decode("utf-8-sig")
    except FileNotFoundError:
        raise no_such_file(path) from None
    except IsADirectoryError:
        raise FlantuneError("is a folder; a YAML file is wanted here", path) from None
    except UnicodeDecodeError as error:
        raise FlantuneError(f"not UTF-8 text (byte {error.start}); save it as UTF-8", path) from None
    except OSError as error:
        raise FlantuneError(f"cannot be read: {error.strerror}; check its path", path) from None


class _Reading:
    """From the parser's events to plain data, with nothing between that could make objects, or many from few."""

    def __init__(self, path: Path, events: Iterator[Any], plain: frozenset[str], kept: frozenset[str]) -> None:
        self.path, self.events, self.plain, self.kept = path, events, plain, kept
        self.lines: dict[Location, int] = {}
        self.anchors: dict[str, tuple[Any, int]] = {}  # the value and how many values it holds
        self.count = 0

    def document(self) -> Any:
        """The value of the only document; None where there is none."""
        next(self.events)  # the stream begins
        if self.kind(event := next(self.events)) == "StreamEnd":
            return None
        made = self.value(next(self.events), ())
        next(self.events)  # the document ends
        if self.kind(event := next(self.events)) != "StreamEnd":
            self.refuse("a second document begins here; one is wanted", event)
        return made

    def value(self, event: Any, location: Location) -> Any:
        """The value that begins with an event; an alias counts as much as what it stands for."""
        if self.kind(event) == "Alias":
            return self.alias(event)
        before = self.count
        self.counted(1, event)
        if len(location) > DEEPEST:
            self.refuse(f"not usable YAML: nested more than {DEEPEST} deep", event)
        made = self.content(event, location)
        tag = (event.tag or "").replace(STANDARD, "!!")
        if tag in self.kept:
            made = Tagged(tag, made)
        elif tag not in self.plain and tag not in DATA_TAGS:
            self.refuse(f'the tag "{tag[:80]}" is not read; take it out, or write plain data', event)
        if event.anchor is not None:
            self.anchors[event.anchor] = made, self.count - before
        return made

    def content(self, event: Any, location: Location) -> Any:
        """The value of an event without its tag."""
        if self.kind(event) == "MappingStart":
            return self.mapping(location)
        if self.kind(event) == "SequenceStart":
            return self.items(location)
        return event.value if event.style or event.tag == f"{STANDARD}str" else _scalar(event.value)

    def items(self, location: Location) -> list[Any]:
        """The items up to the end of a list."""
        made: list[Any] = []
        while self.kind(event := next(self.events)) != "SequenceEnd":
            at = (*location, len(made))
            self.lines[at] = event.start_mark.line + 1
            made.append(self.value(event, at))
        return made

    def mapping(self, location: Location) -> dict[str, Any]:
        """The keys and values up to the end of a mapping."""
        made: dict[str, Any] = {}
        while self.kind(event := next(self.events)) != "MappingEnd":
            if self.kind(event) != "Scalar" or (event.value == "<<" and not event.style):
                self.refuse("a key that is no text, or `<<`; write plain keys", event)
            key = event.value
            at = (*location, key)
            if key in made:
                self.refuse(f'key "{key[:80]}" stands twice (first in line {self.lines[at]}); remove one', event)
            self.lines[at] = event.start_mark.line + 1
            made[key] = self.value(next(self.events), at)
        return made

    def alias(self, event: Any) -> Any:
        """The value of an anchor that stands before."""
        if event.anchor not in self.anchors:
            self.refuse(f'the alias "*{event.anchor[:80]}" stands for nothing before it', event)
        made, count = self.anchors[event.anchor]
        self.counted(count, event)
        return made

    def counted(self, values: int, event: Any) -> None:
        """Counts values, up to what one file may stand for."""
        self.count += values
        if self.count > MOST_VALUES:
            self.refuse(f"not usable YAML: more than {MOST_VALUES:,} values, aliases counted", event)

    def kind(self, event: Any) -> str:
        """What an event is: MappingStart, Scalar, ..."""
        return type(event).__name__.removesuffix("Event")

    def refuse(self, message: str, event: Any) -> NoReturn:
        """An error at the line of an event."""
        raise FlantuneError(message, Place(self.path, event.start_mark.line + 1))


STANDARD = "tag:yaml.org,2002:"
DATA_TAGS = frozenset({"", "!", *(f"!!{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq"))})
SCALARS = {"": None, "~": None, "null": None, "true": True, "false": False}
NUMBER = re.compile(r"-?(0|[1-9]\d{0,17})(\.\d+)?", re.ASCII)


def _scalar(text: str) -> Any:
    """What a text without quotes stands for."""
    if text.lower() in SCALARS:
        return SCALARS[text.lower()]
    if NUMBER.fullmatch(text):
        number = float(text) if "." in text else int(text)
        return number if str(number) == text else text
    return text
