"""XML: elements as records, read as they come, without entities and without anything from outside the file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from xml.parsers import expat

from flantune.errors import FlantuneError, nearest, shortened
from flantune.tasks.sources.choice import SourceChoice
from flantune.tasks.sources.element_path import ElementPath
from flantune.tasks.sources.files import OpenFile
from flantune.tasks.sources.rows import Row
from flantune.tasks.sources.strict_json import MOST_NESTED

LARGEST_RECORD = 64 * 2**20  # characters of one record, the text of children that stands in the text of others too
BYTES_AT_ONCE = 2**16


def xml_records(file: OpenFile, source: SourceChoice) -> Iterator[tuple[Row, int]]:
    """The elements at the path `records`, each with the line where it begins.

    An attribute becomes the field `@name`, a child the field of its name: its text where it has no more than that, else
    an object made in the same manner; children of one name are a list, those named in `lists` always. Text beside
    children is `#text`, with the text of the children in its place, as a reader would see it. Attributes of the
    elements around a record come along; the inner one wins. An element at the path inside a record is a part of it.

    Raises:
        FlantuneError: Not XML; an entity that the file declares or takes from elsewhere; nested too deeply; no element
            at the path; with the line.
    """
    reading = _Reading(file, file.records or ".", source.lists)
    held = bytearray()
    wanted = BYTES_AT_ONCE
    for piece in _pieces(file):
        held += piece
        if len(held) >= wanted:
            # The parser reads what it could not finish (a long tag, a comment) from its beginning again.
            wanted = BYTES_AT_ONCE if reading.feed(bytes(held)) else 2 * wanted
            held.clear()
            yield from reading.taken()
    reading.feed(bytes(held))
    reading.end()
    yield from reading.taken()


def _pieces(file: OpenFile) -> Iterator[bytes]:
    if file.encoding is not None:
        yield from (piece.encode() for piece in file.pieces())
        return
    with file.stream() as stream:
        while piece := stream.read(BYTES_AT_ONCE):
            yield piece


@dataclass
class _Element:
    """An element that is open: on the way to records, or inside one."""

    done: frozenset[int]  # steps of the path, on the way
    around: Row  # attributes of it and of what stands around it, on the way
    fields: Row | None = None  # its attributes and children, inside a record
    name: str = ""
    line: int = 0
    texts: list[str] = field(default_factory=list)  # in it, at any depth
    has_own_text: bool = False
    has_children: bool = False


class _Reading:
    """Records made of a parser's events."""

    def __init__(self, file: OpenFile, path: str, lists: Sequence[str]) -> None:
        self.file, self.path, self.lists = file, path, frozenset(lists)
        self.steps = ElementPath(path, file.name)
        self.open: list[_Element] = []
        self.names: dict[str, None] = {}  # of elements that were met on the way
        self.made: list[tuple[Row, int]] = []
        self.is_empty = True
        self.left = LARGEST_RECORD
        self.waiting = 0  # bytes of what is not finished
        # With an encoding given, the pieces come as UTF-8, whatever the file declares.
        self.parser = expat.ParserCreate(None if file.encoding is None else "UTF-8", namespace_separator=" ")
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text
        self.parser.EntityDeclHandler = self._declared
        self.parser.SkippedEntityHandler = self._skipped

    def feed(self, piece: bytes, *, is_last: bool = False) -> bool:
        """Reads on; whether anything was finished."""
        before = self.parser.CurrentByteIndex
        try:
            self.parser.Parse(piece, is_last)
        except expat.ExpatError as error:
            problem = f"not valid XML at column {error.offset + 1}: {expat.ErrorString(error.code)}"
            raise FlantuneError(problem, self.file.place(error.lineno)) from None
        except (ValueError, LookupError) as error:  # an encoding that the parser has not
            problem = f"not readable XML: {shortened(str(error))}; name its encoding in `encoding`"
            raise FlantuneError(problem, self.file.name) from None
        has_moved = self.parser.CurrentByteIndex != before
        self.waiting = 0 if has_moved else self.waiting + len(piece)
        if self.waiting > LARGEST_RECORD:
            most = LARGEST_RECORD // 2**20
            raise self._error(f"not usable XML: a tag or a comment of more than {most} MiB; take it out")
        return has_moved

    def taken(self) -> list[tuple[Row, int]]:
        """The records that are complete, each once."""
        made, self.made = self.made, []
        return made

    def end(self) -> None:
        """Reads to the end, which every element must have reached."""
        self.feed(b"", is_last=True)
        if self.is_empty:
            last = self.steps.steps[-1].name if self.steps.steps else "."
            raise FlantuneError(f'no element at the path "{self.path}"; {nearest(last, self.names)}', self.file.name)

    def _start(self, tag: str, given: dict[str, str]) -> None:
        name = _local(tag)
        attributes = {_local(attribute): value for attribute, value in given.items()}
        fields = {f"@{attribute}": value for attribute, value in attributes.items()}
        line = self.parser.CurrentLineNumber
        if len(self.open) == MOST_NESTED:
            raise self._error(f"not usable XML: elements nested more than {MOST_NESTED} deep")
        parent = self.open[-1] if self.open else None
        if parent is not None and parent.fields is not None:
            parent.has_children = True
            self.open.append(_Element(frozenset(), {}, fields, name, line))
            return
        if len(self.names) < MOST_NAMES:
            self.names[name] = None
        around = parent.around if parent is not None else {}
        done = self.steps.below(parent.done, name, attributes) if parent is not None else self.steps.start()
        if self.steps.is_end(done):
            self.left = LARGEST_RECORD
            self.open.append(_Element(done, around, fields, name, line))
        else:
            self.open.append(_Element(done, {**around, **fields} if fields else around))

    def _end(self, _tag: str) -> None:
        element = self.open.pop()
        if element.fields is None:
            return
        parent = self.open[-1] if self.open else None
        if parent is None or parent.fields is None:
            self.is_empty = False
            self.made.append(({**element.around, **self._fields(element)}, element.line))
            return
        is_text = not element.has_children and not element.fields
        value = "".join(element.texts) if is_text else self._fields(element)
        self._add(parent.fields, element.name, value)
        parent.texts.extend(element.texts)

    def _add(self, fields: Row, name: str, value: Any) -> None:
        if name in self.lists:
            fields.setdefault(name, []).append(value)
        elif name not in fields:
            fields[name] = value
        elif isinstance(fields[name], list):
            fields[name].append(value)
        else:
            fields[name] = [fields[name], value]

    def _text(self, text: str) -> None:
        element = self.open[-1]
        if element.fields is None:
            return
        self._spend(text)
        element.texts.append(text)
        element.has_own_text = element.has_own_text or not text.isspace()

    def _fields(self, element: _Element) -> Row:
        """Attributes and children, and the text where there is some beside them or no child."""
        fields = dict(element.fields or {})
        if element.has_own_text or not element.has_children:
            fields["#text"] = "".join(element.texts)
            if element.has_children:
                self._spend(fields["#text"])
        return fields

    def _spend(self, text: str) -> None:
        self.left -= len(text)
        if self.left < 0:
            most = LARGEST_RECORD // 2**20
            raise self._error(f"not usable XML: a record of more than {most} MiB; name smaller elements in `records`")

    def _declared(self, name: str, *_: Any) -> None:
        raise self._error(
            f'not usable XML: it declares the entity "{shortened(name)}"; write the characters themselves'
        )

    def _skipped(self, name: str, is_parameter: bool) -> None:
        if not is_parameter:
            raise self._error(
                f'not usable XML: the entity "{shortened(name)}" is defined elsewhere; write the character itself'
            )

    def _error(self, message: str) -> FlantuneError:
        return FlantuneError(message, self.file.place(self.parser.CurrentLineNumber))


MOST_NAMES = 200


def _local(name: str) -> str:
    """A name without its namespace."""
    return name.rpartition(" ")[2]
