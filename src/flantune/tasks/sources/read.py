"""All rows of a split: read, joined, changed, filtered and kept; then divided and sampled."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flantune.files import digest
from flantune.tasks.sources import selection
from flantune.tasks.sources.cache import asked_rows, cached_rows, selected_rows
from flantune.tasks.sources.changes import cut, filtered, grouped, joined, transformed
from flantune.tasks.sources.choice import NOT_FILES, SourceChoice
from flantune.tasks.sources.files import located
from flantune.tasks.sources.readers import all_files, file_identity, file_rows, identity, reader, split_files
from flantune.tasks.sources.row_file import FORMAT, Record
from flantune.tasks.sources.rows import Numbers, Origin, Rows

VERSION = 1  # raise it when a reader or a transform gives other rows for the same source
# What does not change how rows are read: where they lie, and what is done with them afterwards.
NOT_READING = {"splits", "beside", "also", "where", "path", "timeout", "refresh"} | {
    "fractions", "fractions_by", "split_by", "sample"
}  # fmt: skip
Change = Callable[[Iterator[Record]], Iterator[Record]]


@dataclass(frozen=True)
class _Part:
    """The rows of one source, before `where`.

    Attributes:
        identity: Changes with the rows; None where only reading them can tell.
        question: What is asked where there is no identity.
        files: Those that places begin with.
        records: Gives the rows.
    """

    identity: object | None
    question: object
    files: Sequence[Path]
    records: Callable[[], Iterator[Record]]


def read_split(
    source: SourceChoice, split: str, folder: Path, variables: Mapping[str, str], *, allow_code: bool = False
) -> Rows:
    """All rows of a split, in the order of the files, after transforms, `where`, `fractions` and `sample`.

    They are read once and kept, memory-mapped, under a key of the files' content and of the source.

    Args:
        source: What the task's file says.
        split: A name among the splits (or fractions).
        folder: Relative paths start here.
        variables: Values for `${NAME}` in paths.
        allow_code: Whether a `python` transform may run.
    Raises:
        FlantuneError: A missing or empty file, a malformed line, an unknown variable; with file and line.
    """
    divided = source.fractions is not None or source.split_by is not None
    whole = "all" if divided else split
    parts = [_part(each, whole, folder, variables, allow_code=allow_code) for each in _sources(source)]

    def records() -> Iterator[Record]:
        found = itertools.chain.from_iterable(part.records() for part in parts)
        return found if source.where is None else filtered(found, source.where)

    shapes = [[FORMAT, VERSION, source.where], *(_shape(each) for each in _sources(source))]
    if any(part.identity is None for part in parts):
        rows = asked_rows(digest(shapes, [part.question for part in parts]), records)
    else:
        files = [file for part in parts for file in part.files]
        rows = cached_rows(digest(shapes, [part.identity for part in parts]), files, records)
    return _divided(rows, source, split)


def _sources(source: SourceChoice) -> Iterator[SourceChoice]:
    yield source
    for more in source.also:
        yield from _sources(more)


def _shape(source: SourceChoice) -> str:
    """What a source says about how rows are read; as text, since the order of keys may matter."""
    return json.dumps(source.model_dump(mode="json", exclude=NOT_READING))


def _part(source: SourceChoice, split: str, folder: Path, variables: Mapping[str, str], *, allow_code: bool) -> _Part:
    change, code = _change(source, allow_code=allow_code)
    if source.kind in NOT_FILES:
        origin: Origin = reader(source)(source, split, folder, variables)
        question = [source.url, source.splits[split], str(folder), sorted(variables.items()), code]
        known = None if origin.identity is None else [origin.identity, code]
        return _Part(known, question, (), lambda: change(_cut(_elsewhere(origin), source)))
    named = split_files(source, split, folder, variables)
    beside = {name: located(files[split], folder, variables) for name, files in source.beside.items() if split in files}
    known = [identity(named), [[name, *map(file_identity, files)] for name, files in beside.items()], code]
    files = [file.path for file in (*all_files(named), *itertools.chain(*beside.values()))]

    def records() -> Iterator[Record]:
        rows = _cut(file_rows(source, named), source)
        for name, lines in beside.items():
            rows = joined(rows, name, lines, source.encoding)
        return change(rows)

    return _Part(known, None, files, records)


def _elsewhere(origin: Origin) -> Iterator[Record]:
    return (Record(row, f"{origin.name}:", number) for row, number in origin.records())


def _cut(records: Iterator[Record], source: SourceChoice) -> Iterator[Record]:
    return records if source.fields is None else cut(records, source.fields)


def _change(source: SourceChoice, *, allow_code: bool) -> tuple[Change, object]:
    """What applies the transforms of a source and groups its rows, and what changes with the code of functions."""
    code, transform = None, None
    if source.transforms:
        from flantune.tasks.sources.transforms import code_identity, transformer

        transform = transformer(source.transforms, allow_code=allow_code)
        code = code_identity(source.transforms)

    def change(records: Iterator[Record]) -> Iterator[Record]:
        made = records if transform is None else transformed(records, transform)
        return made if source.group is None else grouped(made, source.group)

    return change, code


def _divided(rows: Rows, source: SourceChoice, split: str) -> Rows:
    """The part and the sample that the source says of all rows."""
    how = source.model_dump(mode="json", include={"fractions", "fractions_by", "split_by", "sample"})
    if source.sample is None or not source.sample.holds_for(split):
        how["sample"] = None
    if not any(how.values()):
        return rows
    key = digest(FORMAT, VERSION, rows.digest, split, json.dumps(how))  # as text: the order of the parts matters
    return selected_rows(rows, key, lambda: _numbers(rows, source, split))


def _numbers(rows: Rows, source: SourceChoice, split: str) -> Numbers:
    _, content, made_of = rows.hashes().T
    sample = source.sample
    if source.split_by is not None:
        numbers = selection.named(rows, source.split_by.field, source.split_by.splits[split])
    elif source.fractions is not None:
        hashes = made_of if source.fractions_by is None else selection.hashes_by(rows, source.fractions_by)
        numbers = selection.part(hashes, source.fractions, split)
    else:
        numbers = np.arange(len(rows))
    if sample is None or not sample.holds_for(split):
        return numbers
    if sample.rows_each is not None:
        return selection.balanced(rows, numbers, str(sample.by), sample.rows_each[split])
    count = sample.rows[split] if isinstance(sample.rows, dict) else sample.rows
    return selection.sampled(content, numbers, int(count or 0), sample.seed)
