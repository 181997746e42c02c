"""What is done to rows on their way from the reader to the cache; each step streams."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

from flantune.errors import FlantuneError, nearest
from flantune.tasks.sources.files import Located, open_files
from flantune.tasks.sources.row_file import Record
from flantune.tasks.sources.rows import Row, content_hash
from flantune.tasks.sources.transform_schema import Group, expression


def cut(records: Iterable[Record], fields: Sequence[str]) -> Iterator[Record]:
    """Rows with some of their fields only.

    Raises:
        FlantuneError: A row lacks one.
    """
    for record in records:
        for field in fields:
            _check_field(record, field, "source.fields")
        yield record._replace(row={field: record.row[field] for field in fields})


def _check_field(record: Record, field: str, what: str) -> None:
    if field not in record.row:
        told = f'{what} names "{field}", which the row lacks; {nearest(field, record.row)}'
        raise FlantuneError(told, _place(record))


def _place(record: Record) -> str:
    return f"{record.place}{record.line}"


def joined(records: Iterable[Record], name: str, files: Sequence[Located], encoding: str | None) -> Iterator[Record]:
    """Rows with line i of the files as a field of row i.

    Raises:
        FlantuneError: Another number of lines than of rows; a row has such a field.
    """
    for count, (record, line) in enumerate(itertools.zip_longest(records, _lines(files, encoding))):
        if record is None or line is None:
            more, fewer = ("lines", "rows") if record is None else ("rows", "lines")
            told = f'more {more} than {fewer}: line i is the field "{name}" of row i, and there are {count} {fewer}'
            raise FlantuneError(told, files[0].path)
        if name in record.row:
            told = f'the row has a field "{name}" already; name the one in source.beside otherwise'
            raise FlantuneError(told, _place(record))
        yield record._replace(row={**record.row, name: line})


def _lines(files: Sequence[Located], encoding: str | None) -> Iterator[str]:
    for each in files:
        for file in open_files(each, encoding, None):
            for _, line in file.lines():
                yield line.removesuffix("\n").removesuffix("\r")


def transformed(records: Iterable[Record], transform: Callable[[Row], Sequence[Row]]) -> Iterator[Record]:
    """What a function makes of each row: none, one or many, at its place.

    Raises:
        FlantuneError: What the function raises, at the place of the row.
    """
    for record in records:
        try:
            rows = transform(record.row)
        except FlantuneError as error:
            raise FlantuneError(error.message, _place(record)) from None
        made_of = _hash_together(rows) if len(rows) > 1 else record.made_of
        for row in rows:
            yield record._replace(row=row, made_of=made_of)


def _hash_together(rows: Sequence[Row]) -> int | None:
    """Of all rows that one record gave: parts of a conversation must not stand in train and in test."""
    try:
        return content_hash({"rows": list(rows)})
    except (TypeError, ValueError, RecursionError):  # told when the row is to be kept
        return None


def grouped(records: Iterable[Record], group: Group) -> Iterator[Record]:
    """Consecutive rows that agree in some fields as one row, which holds what they differ in as lists.

    Raises:
        FlantuneError: A row lacks a field.
    """

    def key(record: Record) -> list[object]:
        for field in (*group.by, *group.into.values()):
            _check_field(record, field, "source.group")
        return [record.row[field] for field in group.by]

    for _, rows in itertools.groupby(records, key):
        first, *others = rows
        lists = {new: [each.row[old] for each in (first, *others)] for new, old in group.into.items()}
        rest = {field: value for field, value in first.row.items() if field not in group.into.values()}
        yield first._replace(row={**rest, **lists})


def filtered(records: Iterable[Record], condition: str) -> Iterator[Record]:
    """Rows for which a Jinja expression holds.

    Raises:
        FlantuneError: A row that it cannot be asked of.
    """
    from flantune.tasks.jinja import render_text

    text = expression(condition)
    for record in records:
        try:
            holds = render_text(text, record.row, "source.where") == "1"
        except FlantuneError as error:
            raise FlantuneError(error.message, _place(record)) from None
        if holds:
            yield record
