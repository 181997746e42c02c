"""The rows of a split's files, each file read by the reader of its kind."""

from __future__ import annotations

import contextlib
import importlib
import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from flantune.errors import FlantuneError
from flantune.tasks.sources.choice import SourceChoice
from flantune.tasks.sources.digests import content_digest
from flantune.tasks.sources.files import Located, OpenFile, located, open_files
from flantune.tasks.sources.row_file import Record

# Kind to its reader, imported when it is needed.
READERS = {
    "jsonl": "json_records:json_lines",
    "json": "json_records:json_document",
    "yaml": "yaml_records:yaml_document",
    "csv": "tables:table",
    "tsv": "tables:table",
    "conll": "conll:conll",
    "parquet": "binary:parquet",
    "arrow": "binary:arrow",
    "xml": "xml:xml_records",
    "classes": "plain_text:classes",
    "parallel": "plain_text:parallel",
    "documents": "documents:documents",
    "huggingface": "hub:hugging_face",
    "sql": "sql:sql_rows",
}
NUMBERED = ("json", "parquet", "arrow")  # kinds whose records have numbers; a line says nothing there
FRAGMENTS = ("json", "yaml")  # kinds whose paths may say where in the file the rows are


class Paths(NamedTuple):
    """A path, or a list of paths, with the files that each one names.

    Attributes:
        files: Of each path.
        listed: Whether the source gives a list, and not one path.
    """

    files: list[list[Located]]
    listed: bool


Split = Paths | dict[str, Paths]


def reader(source: SourceChoice) -> Callable[..., Any]:
    """What reads the source's kind."""
    module, _, name = READERS[source.kind].partition(":")
    return getattr(importlib.import_module(f"flantune.tasks.sources.{module}"), name)


def split_files(source: SourceChoice, split: str, folder: Path, variables: Mapping[str, str]) -> Split:
    """The files of a split.

    Raises:
        FlantuneError: A variable without a value, a pattern that no file has.
    """

    def found(given: str | tuple[str, ...]) -> Paths:
        texts = (given,) if isinstance(given, str) else given
        fragments = source.kind in FRAGMENTS
        return Paths([located(text, folder, variables, fragments=fragments) for text in texts], texts is given)

    given = source.splits[split]
    return {name: found(inner) for name, inner in given.items()} if isinstance(given, dict) else found(given)


def all_files(split: Split) -> list[Located]:
    """The files of a split in order."""
    columns = split.values() if isinstance(split, dict) else [split]
    return [file for paths in columns for files in paths.files for file in files]


def identity(split: Split) -> list[Any]:
    """Names and content of the files, in an order: that of the fields is that of the fields of each row."""
    if isinstance(split, dict):
        return [[name, identity(paths)] for name, paths in split.items()]
    return [split.listed, [[file_identity(file) for file in files] for files in split.files]]


def file_identity(file: Located) -> list[Any]:
    """What changes with what is read of a file."""
    return [file.path.name, content_digest(file.path), file.members, file.records]


def file_rows(source: SourceChoice, split: Split) -> Iterator[Record]:
    """The rows of a split's files, as the reader of their kind gives them.

    Raises:
        FlantuneError: A file that is malformed; a path whose files have no rows at all.
    """
    read = reader(source)
    if isinstance(split, Paths):
        yield from _rows_of(source, split, read)
    elif source.kind == "classes":
        for label, paths in split.items():
            for record in _rows_of(source, paths, read):
                yield record._replace(row={**record.row, "label": label})
    else:
        yield from _some(_grouped(source, split, read), all_files(split)[0])


def _rows_of(source: SourceChoice, paths: Paths, read: Callable[..., Any]) -> Iterator[Record]:
    for files in paths.files:
        with contextlib.closing(_opened(source, files)) as opened:
            rows = (Record(row, _place(source, file), number) for file in opened for row, number in read(file, source))
            yield from _some(rows, files[0])


def _grouped(source: SourceChoice, columns: Mapping[str, Paths], read: Callable[..., Any]) -> Iterator[Record]:
    """Rows of files that belong together: file j of each path with file j of the others."""
    with contextlib.ExitStack() as held:
        every = [files for paths in columns.values() for files in paths.files]
        streams = [held.enter_context(contextlib.closing(_opened(source, files))) for files in every]
        yield from _of_groups(source, columns, itertools.zip_longest(*streams), read)


def _of_groups(
    source: SourceChoice, columns: Mapping[str, Paths], groups: Iterable[tuple[Any, ...]], read: Callable[..., Any]
) -> Iterator[Record]:
    for together in groups:
        if None in together:
            told = "the paths name different numbers of files; file j of one belongs to file j of the others"
            raise FlantuneError(told, next(file for file in together if file is not None).name)
        files = iter(together)
        group: dict[str, Any] = {}
        for name, paths in columns.items():
            mine = list(itertools.islice(files, len(paths.files)))
            group[name] = mine if paths.listed else mine[0]
        for row, number in read(group, source):
            yield Record(row, _place(source, together[0]), number)


def _opened(source: SourceChoice, files: Iterable[Located]) -> Generator[OpenFile]:
    for file in files:
        yield from open_files(file, source.encoding, source.records)


def _place(source: SourceChoice, file: OpenFile) -> str:
    return f"{file.name}: record " if source.kind in NUMBERED else f"{file.name}:"


def _some(rows: Iterable[Record], first: Located) -> Iterator[Record]:
    found = False
    for row in rows:
        found = True
        yield row
    if not found:
        name = f"{first.path}!{first.members}" if first.members else first.path
        raise FlantuneError("the file has no rows; give a file with at least one", name)
