"""Plain text: files whose lines belong to each other, and files that hold one class each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

from flantune.errors import FlantuneError
from flantune.tasks.sources.choice import SourceChoice
from flantune.tasks.sources.files import OpenFile
from flantune.tasks.sources.rows import Row


def parallel(columns: Mapping[str, OpenFile | list[OpenFile]], source: SourceChoice) -> Iterator[tuple[Row, int]]:
    """Line i of one file belongs to line i of the others.

    Args:
        columns: Field to its file; or to several, whose lines i are a list in the row.
        source: Not used; readers are called alike.
    Raises:
        FlantuneError: Files with different numbers of lines.
    """
    files = [file for given in columns.values() for file in (given if isinstance(given, list) else [given])]
    texts = [_texts(file) for file in files]
    for number, cells in enumerate(zip_longest(*texts), start=1):
        if None in cells:
            here = [number - 1 if cell is None else number for cell in cells]
            raise _different(files, [count + sum(1 for _ in rest) for count, rest in zip(here, texts, strict=True)])
        cell = iter(cells)
        row = {
            name: [next(cell) for _ in given] if isinstance(given, list) else next(cell)
            for name, given in columns.items()
        }
        yield row, number


def classes(file: OpenFile, source: SourceChoice) -> Iterator[tuple[Row, int]]:
    """Each line of a file as the field `text`; empty lines are no rows."""
    for number, line in file.lines():
        if not line.isspace():
            yield {"text": without_end(line)}, number


def _texts(file: OpenFile) -> Iterator[str]:
    return (without_end(line) for _, line in file.lines())


def without_end(line: str) -> str:
    """A line without its newline, or carriage return and newline."""
    return line.removesuffix("\n").removesuffix("\r")


def _different(files: Sequence[OpenFile], counts: Sequence[int]) -> FlantuneError:
    told = ", ".join(f"{Path(file.name).name} {count}" for file, count in zip(files, counts, strict=True))
    return FlantuneError(
        f"parallel files with different numbers of lines: {told}; line i belongs to line i", files[0].name
    )
