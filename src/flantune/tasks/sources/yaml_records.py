"""YAML: a list of records, read as it comes, or a document that holds them somewhere inside.

Text stays text: a plain scalar is a number only where that number prints as it was written, so `007`, `1e5`, `1.50`,
`no` and dates stay as they are. What makes YAML unsafe is refused: tags of objects, aliases that multiply.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from flantune.errors import FlantuneError, shortened
from flantune.tasks.sources.choice import SourceChoice
from flantune.tasks.sources.files import OpenFile
from flantune.tasks.sources.record_path import LARGEST_DOCUMENT, Record, as_row, records
from flantune.tasks.sources.rows import Row
from flantune.tasks.sources.strict_json import MOST_NESTED, nesting

# What the aliases of one file may stand for: a few words that every record repeats, no list of lists of lists.
BORROWED_FREELY = 1_000_000  # characters
MOST_TIMES_BORROWED = 100  # beyond that: so many times the characters read so far

TOO_DEEP = f"not usable YAML: nested more than {MOST_NESTED} deep"
WANTED = "a mapping of fields to values is wanted"


def yaml_document(file: OpenFile, source: SourceChoice) -> Iterator[tuple[Row, int]]:
    """The records of a YAML file, with the line where each begins.

    A file of several documents is the list of them. Without `records` a list is read record by record and may be of any
    length; with it the file is held whole.

    Raises:
        FlantuneError: Not YAML; a tag or an alias that is refused; a key twice; nested too deeply; with the line.
    """
    if file.records is None:
        for value, line in _Reading(file).items():
            yield as_row(value, source.header, file.place(line), WANTED), line
        return
    reading = _Reading(file, whole=True)
    document = reading.document()
    for record in records(document, file.records, file.name) if document is not None else ():
        line = reading.line(record)
        row = as_row(record.value, source.header, file.place(line), WANTED)
        yield ({**record.outer, **row} if record.outer else row), line


class _Reading:
    """Values made of a parser's events, one after the other, or whole with the line of each item in them."""

    def __init__(self, file: OpenFile, *, whole: bool = False) -> None:
        self.file = file
        self.text = _Characters(file, LARGEST_DOCUMENT if whole else None)
        self.events = _events(self.text, file)
        self.size = 0  # of all values so far; an alias counts as what it stands for
        self.borrowed = 0
        self.anchors: dict[str, tuple[Any, int, int]] = {}  # value, size, levels of nesting
        # Lines of the items of each list and mapping, by its identity: all of them stay alive.
        self.lines: dict[int, list[int]] | None = {} if whole else None

    def items(self) -> Iterator[tuple[Any, int]]:
        """Items of the list, or the documents where there are several, each with its line."""
        alone: tuple[Any, int] | None = None
        for number, event in enumerate(self._roots()):
            if alone is not None:
                yield alone
                alone = None
            if _is(event, "SequenceStart"):
                self._check_tag(event)
                yield from ((self.value(item, 1), _line(item)) for item in self._until("SequenceEnd"))
            elif (value := self.value(event)) is not None:
                if number == 0:
                    alone = value, _line(event)
                else:
                    yield value, _line(event)
        if alone is not None:
            list(records(alone[0], None, self.file.name))  # which tells what is wrong with a single mapping
            yield alone

    def document(self) -> Any:
        """The one document, the list of several, or None."""
        self.documents: list[Any] = []
        for event in self._roots():
            self._note_line(self.documents, event)
            self.documents.append(self.value(event))
        return self.documents[0] if len(self.documents) == 1 else self.documents or None

    def line(self, record: Record) -> int:
        """Where a record of the document began."""
        inside = record.inside if record.inside is not None else self.documents
        return (self.lines or {})[id(inside)][record.position]

    def _note_line(self, inside: Any, event: Any) -> None:
        if self.lines is not None:
            self.lines.setdefault(id(inside), []).append(_line(event))

    def _roots(self) -> Iterator[Any]:
        """The first event of each document; the caller takes the rest of the document's value."""
        for event in self.events:
            if _is(event, "DocumentStart"):
                yield next(self.events)

    def _until(self, end: str) -> Iterator[Any]:
        for event in self.events:
            if _is(event, end):
                return
            yield event

    def value(self, event: Any, depth: int = 0) -> Any:
        """The value that begins with an event."""
        if depth > MOST_NESTED:
            raise self.error(event, TOO_DEEP)
        if _is(event, "Alias"):
            return self._borrowed(event, depth)
        before = self.size
        if _is(event, "Scalar"):
            made = self._scalar(event)
        else:
            self.size += 1
            self._check_tag(event)
            made = self._list(depth) if _is(event, "SequenceStart") else self._mapping(depth)
        if event.anchor is not None:
            self.anchors[event.anchor] = made, self.size - before, nesting(made)
        return made

    def _list(self, depth: int) -> list[Any]:
        made: list[Any] = []
        for event in self._until("SequenceEnd"):
            self._note_line(made, event)
            made.append(self.value(event, depth + 1))
        return made

    def _mapping(self, depth: int) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for event in self._until("MappingEnd"):
            key = self._key(event)
            if key in made:
                raise self.error(event, f'not usable YAML: key "{shortened(key)}" stands twice; keep one')
            self._note_line(made, event)
            made[key] = self.value(next(self.events), depth + 1)
        return made

    def _key(self, event: Any) -> str:
        if not _is(event, "Scalar"):
            raise self.error(event, "not usable YAML: a key that is not plain text; fields have names")
        if event.value == "<<" and event.implicit[0]:
            raise self.error(event, "not usable YAML: `<<` copies from elsewhere; write the fields out")
        self._check_tag(event)
        self.size += len(event.value)
        return self.text.restored(event)

    def _scalar(self, event: Any) -> Any:
        self._check_tag(event)
        self.size += len(event.value) + 1
        is_plain = event.implicit[0] or event.tag not in (None, "!", CORE + "str")
        return plain_scalar(self.text.restored(event)) if is_plain else self.text.restored(event)

    def _borrowed(self, event: Any, depth: int) -> Any:
        if event.anchor not in self.anchors:
            raise self.error(
                event, f"not valid YAML: the alias *{shortened(event.anchor)} stands before its anchor is complete"
            )
        value, size, levels = self.anchors[event.anchor]
        if depth + levels > MOST_NESTED:
            raise self.error(event, TOO_DEEP)
        self.size += size
        self.borrowed += size
        if self.borrowed > max(BORROWED_FREELY, MOST_TIMES_BORROWED * self.text.length):
            problem = f"not usable YAML: its aliases stand for more than {MOST_TIMES_BORROWED} times its text"
            raise self.error(event, f"{problem}; write it out")
        return value

    def _check_tag(self, event: Any) -> None:
        tag = event.tag
        if tag is not None and tag != "!" and tag not in TAGS:
            shown = "!!" + tag.removeprefix(CORE) if tag.startswith(CORE) else tag
            raise self.error(
                event, f"not usable YAML: the tag {shortened(shown)} makes an object; records are plain values"
            )

    def error(self, event: Any, message: str) -> FlantuneError:
        """A complaint about the place where an event stands."""
        return FlantuneError(message, self.file.place(_line(event)))


class _Characters:
    """The file's text as the parser asks for it, with the line ends of YAML 1.2.

    libyaml takes U+0085, U+2028 and U+2029 for line ends, as YAML 1.1 did: they go through it as characters that no
    text has, and are restored in the values. Writers of YAML 1.1 put the indentation of a new line behind them, but for
    double quotes, and never a space of the text.
    """

    def __init__(self, file: OpenFile, most: int | None) -> None:
        self.pieces, self.file, self.most = file.pieces(), file, most
        self.length, self.line = 0, 1
        self.swapped = False

    def read(self, _size: int) -> str:
        """The next piece, of any length; empty at the end."""
        piece = next(self.pieces, "")
        if found := NOT_YAML.search(piece):
            line = self.line + piece.count("\n", 0, found.start())
            remedy = "remove it, or write it as an escape in double quotes"
            raise FlantuneError(f"not valid YAML: the character U+{ord(found[0]):04X}; {remedy}", self.file.place(line))
        self.length += len(piece)
        if self.most is not None and self.length > self.most:
            most = self.most // 2**20
            raise FlantuneError(
                f"a YAML document of more than {most} MiB is not read whole; make its top a list of records",
                self.file.name,
            )
        self.line += piece.count("\n")
        if LINE_ENDS_OF_OLD.search(piece):
            self.swapped = True
            return piece.translate(SWAPPED)
        return piece

    def restored(self, event: Any) -> str:
        """A scalar as the file has it."""
        if not self.swapped:
            return event.value
        return (event.value if event.style == '"' else INDENTED.sub(r"\1", event.value)).translate(RESTORED)


SWAPPED = {0x85: "\ufdd0", 0x2028: "\ufdd1", 0x2029: "\ufdd2"}
RESTORED = {ord(stands_for): chr(end) for end, stands_for in SWAPPED.items()}
LINE_ENDS_OF_OLD = re.compile(r"[\x85\u2028\u2029]")
INDENTED = re.compile(r"([\ufdd0-\ufdd2]) +")
NOT_YAML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufdd0-\ufdd2\ufffe\uffff]")


def _events(text: _Characters, file: OpenFile) -> Iterator[Any]:
    import yaml

    try:
        yield from yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = str(error.problem or error.context)
        remedy = "; indent with spaces, not with tabs" if r"'\t'" in problem else ""
        line = mark.line + 1 if mark is not None else None
        raise FlantuneError(f"not valid YAML: {problem}{remedy}", file.place(line)) from None
    except yaml.YAMLError as error:
        raise FlantuneError(f"not valid YAML: {shortened(str(error), most=200)}", file.name) from None


def _is(event: Any, kind: str) -> bool:
    return type(event).__name__ == f"{kind}Event"


def _line(event: Any) -> int:
    return event.start_mark.line + 1


CORE = "tag:yaml.org,2002:"
TAGS = {CORE + name for name in ("str", "int", "float", "bool", "null", "seq", "map")}
CONSTANTS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


def plain_scalar(text: str) -> Any:
    """The value of a scalar without quotes.

    >>> [plain_scalar(text) for text in ("5", "-1.5", "007", "1e5", "1.50", "no", "true", "~")]
    [5, -1.5, '007', '1e5', '1.50', 'no', True, None]
    """
    if text in CONSTANTS:
        return CONSTANTS[text]
    if WHOLE_NUMBER.fullmatch(text):
        return int(text)
    if DECIMAL.fullmatch(text) and repr(float(text)) == text:
        return float(text)
    return text


WHOLE_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,300}")
DECIMAL = re.compile(r"-?[0-9]+\.[0-9]+")
