"""Parquet and Arrow files, read batch by batch."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Any

from flantune.errors import FlantuneError, shortened
from flantune.tasks.sources.choice import SourceChoice
from flantune.tasks.sources.files import OpenFile
from flantune.tasks.sources.rows import Row

ROWS_AT_ONCE = 256  # as Python objects; a row may hold a whole document
LARGEST_UNPACKED = 2**30  # bytes


def parquet(file: OpenFile, source: SourceChoice) -> Iterator[tuple[Row, int]]:
    """Rows of a Parquet file, each with its number from 1.

    Bytes that are UTF-8 become text, maps become objects; dates and decimals stay Python values.

    Raises:
        FlantuneError: Not a Parquet file, or damaged; a value that Python cannot hold, with its field.
    """
    import pyarrow.parquet as pq

    with _told(file, "Parquet"), file.stream() as stream:
        reader = pq.ParquetFile(_seekable(stream, file))
        columns = _columns(reader.schema_arrow.names, source, file)
        yield from _rows(reader.iter_batches(ROWS_AT_ONCE, columns=columns, use_threads=False), columns, file)


def arrow(file: OpenFile, source: SourceChoice) -> Iterator[tuple[Row, int]]:
    """Rows of an Arrow file, an Arrow stream or a Feather file, each with its number from 1.

    Raises:
        FlantuneError: None of these, or damaged; a value that Python cannot hold, with its field.
    """
    import pyarrow as pa

    with _told(file, "Arrow"), file.stream() as stream:
        begins = stream.peek(len(ARROW_FILE))
        if begins.startswith(FEATHER_1):
            raise FlantuneError("a Feather file of version 1, which is read no more; write it again", file.name)
        if begins.startswith(ARROW_FILE):
            reader: Any = pa.ipc.open_file(_seekable(stream, file))
            batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
        else:
            batches = reader = pa.ipc.open_stream(stream)
        yield from _rows(batches, _columns(reader.schema.names, source, file), file)


AGAIN = "; fetch or write it again"
ARROW_FILE = b"ARROW1"
FEATHER_1 = b"FEA1"


@contextlib.contextmanager
def _told(file: OpenFile, form: str) -> Generator[None]:
    import pyarrow as pa

    try:
        yield
    except MemoryError:  # what a damaged file says of its size
        raise FlantuneError(f"not a readable {form} file: it asks for too much memory{AGAIN}", file.name) from None
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # the last: a name that is no text
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise FlantuneError(f"not a readable {form} file: {first}{AGAIN}", file.name) from None


def _seekable(stream: io.BufferedReader, file: OpenFile) -> Any:
    """What can go back and forth: the file on disk, or all that is decompressed."""
    import pyarrow as pa

    if file.path is not None:
        return stream
    content = stream.read(LARGEST_UNPACKED + 1)
    if len(content) > LARGEST_UNPACKED:
        most = LARGEST_UNPACKED // 2**20
        raise FlantuneError(f"unpacks to more than {most} MiB, which must be held whole; unpack it first", file.name)
    return pa.BufferReader(content)


def _columns(names: Sequence[str], source: SourceChoice, file: OpenFile) -> list[str]:
    for name in names:
        if names.count(name) > 1:
            raise FlantuneError(f'column "{shortened(name)}" stands twice; rename one', file.name)
    return [name for name in names if source.fields is None or name in source.fields]


def _rows(batches: Iterable[Any], columns: Sequence[str], file: OpenFile) -> Iterator[tuple[Row, int]]:
    number = 0
    for batch in batches:
        # A damaged file can hold offsets that point outside its buffers, and text that is no UTF-8.
        batch.validate(full=True)
        for start in range(0, batch.num_rows, ROWS_AT_ONCE):
            part = batch.slice(start, ROWS_AT_ONCE)
            cells = [_values(part[name], name, number, file) for name in columns]
            for row in zip(*cells, strict=True):
                number += 1
                yield dict(zip(columns, row, strict=True)), number


def _values(column: Any, name: str, before: int, file: OpenFile) -> list[Any]:
    """The Python values of a column of a few rows."""
    try:
        return _text_of_bytes(column).to_pylist(maps_as_pydicts="strict")
    except (ValueError, OverflowError, KeyError, TypeError, RuntimeError) as error:
        # Bytes that are no text; dates after the year 9999; an unknown time zone; a key twice in a map; deep nesting.
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        place = f"{file.name}: records {before + 1} to {before + len(column)}"
        raise FlantuneError(
            f'field "{shortened(name)}" cannot be read: {first}; leave it out with `fields`', place
        ) from None


def _text_of_bytes(column: Any) -> Any:
    import pyarrow as pa

    kinds = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary, pa.types.is_binary_view)
    return column.cast(pa.large_string()) if any(kind(column.type) for kind in kinds) else column
