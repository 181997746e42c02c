"""Tables: comma- or tab-separated values, with a header line or with names that the source gives."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from typing import Any

from flantune.errors import FlantuneError, Place, shortened
from flantune.tasks.sources.choice import SourceChoice
from flantune.tasks.sources.files import OpenFile
from flantune.tasks.sources.plain_text import without_end
from flantune.tasks.sources.rows import Row

LARGEST_FIELD = 64 * 2**20  # characters: a field may hold a whole book, but not what follows a quote left open
MOST_SHOWN = 12  # names of columns in a message


def table(file: OpenFile, source: SourceChoice) -> Iterator[tuple[Row, int]]:
    """Rows of a table, each with the line where it begins; every cell is text. Empty lines are no rows.

    Raises:
        FlantuneError: A row with too few or too many fields, a column twice, a quote left open; with the line.
    """
    delimiter = source.delimiter or ("\t" if source.kind == "tsv" else ",")
    lines = _quoted(file, delimiter) if source.quoted else _unquoted(file, delimiter, source.columns)
    names = list(source.header) if source.header else None
    for cells, number in lines:
        if names is None:
            names = _column_names(cells, file.place(number))
        elif len(cells) == len(names):
            yield dict(zip(names, cells, strict=True)), number
        else:
            between = _called(delimiter)
            holds = f"quote it if it holds a {between} or a" if source.quoted else f"it can hold no {between} and no"
            wanted = f"{len(names)} {'are' if len(names) > 1 else 'is'} wanted ({_listed(names)})"
            raise FlantuneError(f"{_counted(cells)} where {wanted}; check each: {holds} line end", file.place(number))


def _unquoted(file: OpenFile, delimiter: str, columns: int | None) -> Iterator[tuple[list[str], int]]:
    most_splits = columns - 1 if columns is not None else -1
    for number, line in _short_lines(file):
        text = without_end(line)
        if text:
            yield text.split(delimiter, most_splits), number


def _short_lines(file: OpenFile) -> Iterator[tuple[int, str]]:
    """Lines, also of a file of old whose lines end in a carriage return alone."""
    for number, line in file.lines():
        if number == 1 and not line.endswith("\n"):  # then the file has no newline at all
            yield from enumerate(CARRIAGE_RETURN.split(line), start=1)
        else:
            yield number, line


CARRIAGE_RETURN = re.compile(r"(?<=\r)(?!\n|$)")


def _quoted(file: OpenFile, delimiter: str) -> Iterator[tuple[list[str], int]]:
    csv.field_size_limit(LARGEST_FIELD)
    taken: list[int] = []  # numbers of the lines that the reader has taken for a row

    def pieces() -> Iterator[str]:
        for number, line in _short_lines(file):
            for piece in CARRIAGE_RETURN.split(line):
                taken.append(number)
                yield piece

    reader = csv.reader(pieces(), delimiter=delimiter, quoting=csv.QUOTE_MINIMAL, strict=True)
    try:
        for cells in reader:
            if cells:
                yield cells, taken[0]
            taken.clear()
    except csv.Error as error:
        problem = f"not a valid table row: {_told(str(error), delimiter)}"
        raise FlantuneError(problem, file.place(taken[0])) from None


def _told(problem: str, delimiter: str) -> str:
    """What Python's reader says, with what to do."""
    if problem == "unexpected end of data":
        return 'a quote is opened and never closed; a quote inside quotes is written twice ("")'
    if problem.startswith("field larger than"):
        return f"a field of more than {LARGEST_FIELD // 2**20} MiB; is a quote left open?"
    if problem.endswith("expected after '\"'"):
        remedy = 'a quote inside quotes is written twice (""), or say `quoting: none`'
        return f"text between a closing quote and the next {_called(delimiter)}; {remedy}"
    return problem


def _called(delimiter: str) -> str:
    return {"\t": "tab", ",": "comma", " ": "space"}.get(delimiter, f"`{delimiter}`")


def _column_names(cells: Sequence[str], place: Place) -> list[str]:
    names = [cell.strip() or f"column_{i}" for i, cell in enumerate(cells, start=1)]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise FlantuneError(f'column "{shortened(min(twice))}" stands twice in the header; rename one', place)
    return names


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(shortened, names[:MOST_SHOWN])) + (", ..." if len(names) > MOST_SHOWN else "")


def _counted(cells: Sequence[Any]) -> str:
    return f"{len(cells)} field{'s' if len(cells) != 1 else ''}"
