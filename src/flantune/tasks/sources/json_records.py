"""JSON: one record a line, or a document that holds the records somewhere inside."""

from __future__ import annotations

from collections.abc import Iterator

from flantune.errors import FlantuneError
from flantune.tasks.sources.choice import SourceChoice
from flantune.tasks.sources.files import OpenFile
from flantune.tasks.sources.plain_text import without_end
from flantune.tasks.sources.record_path import LARGEST_DOCUMENT, as_row, records, rows_of_columns
from flantune.tasks.sources.rows import Row
from flantune.tasks.sources.strict_json import BadJson, load_json

ONE_A_LINE = "one JSON object a line is wanted"


def json_lines(file: OpenFile, source: SourceChoice) -> Iterator[tuple[Row, int]]:
    """One JSON object a line, or with `header` one list a line; empty lines are no rows.

    Raises:
        FlantuneError: A line that is no JSON object, with its number.
    """
    for number, line in file.lines():
        if line.isspace():
            continue
        try:
            value = load_json(without_end(line), ONE_A_LINE)
        except BadJson as error:
            raise FlantuneError(str(error), file.place(number)) from None
        yield as_row(value, source.header, file.place(number), ONE_A_LINE), number


def json_document(file: OpenFile, source: SourceChoice) -> Iterator[tuple[Row, int]]:
    """The records of one JSON document, with their number among the records.

    Raises:
        FlantuneError: Not JSON, with line and column; larger than `LARGEST_DOCUMENT`; a path that leads nowhere.
    """
    text = _whole(file)
    if not text or text.isspace():
        return
    try:
        document = load_json(text, "one JSON document is wanted (one a line is `kind: jsonl`)")
    except BadJson as error:
        raise FlantuneError(str(error), file.place(error.line)) from None
    if source.orient == "columns":
        tables = records(document, file.records or ".", file.name)
        rows = ({**table.outer, **row} for table in tables for row in rows_of_columns(table.value, file.name))
        yield from ((row, number) for number, row in enumerate(rows, start=1))
        return
    for record in records(document, file.records, file.name):
        place = f"{file.name}: record {record.number}"
        row = as_row(record.value, source.header, place, "an object is wanted")
        yield ({**record.outer, **row} if record.outer else row), record.number


def _whole(file: OpenFile) -> str:
    pieces, length = [], 0
    for piece in file.pieces():
        length += len(piece)
        if length > LARGEST_DOCUMENT:
            raise FlantuneError(
                f"a JSON document of more than {LARGEST_DOCUMENT // 2**20} MiB is not read whole; "
                "write one record a line and say `kind: jsonl`",
                file.name,
            )
        pieces.append(piece)
    return "".join(pieces)
