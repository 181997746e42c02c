"""Sources: rows from JSONL, CSV, TSV, parallel text, CoNLL columns and Hugging Face data sets.

A row is a plain dict; text stays text ("007", "NA" and "no" are not interpreted). Each row knows where it stands
(`file:line`), so that an error about it can say so.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import lzma
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from flantune.errors import FlantuneError, Place
from flantune.recipe.yaml_file import Strict

Row = dict[str, Any]
Files = tuple[str, ...]


@dataclass(frozen=True)
class Rows:
    """The rows of one split, each with its place."""

    rows: tuple[Row, ...]
    places: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.rows)


class Sample(Strict):
    """The same number of rows of each value of a field, chosen by a hash of the row's content."""

    by: str = Field(description="The field whose values are balanced.")
    rows_each: dict[str, int] = Field(description="Rows of each value, by split.")


class SourceChoice(Strict):
    """Where a task's rows come from."""

    kind: Literal["jsonl", "csv", "tsv", "parallel", "conll", "huggingface"]
    splits: dict[str, Files | dict[str, str] | str] = Field(
        min_length=1, description="Split name to file, files, or for parallel text to {field: file}."
    )
    path: str | None = Field(None, description="huggingface: name of the data set on the hub, or a local folder.")
    config: str | None = Field(None, description="huggingface: configuration of the data set.")
    revision: str | None = Field(None, description="huggingface: branch, tag or commit.")
    header: tuple[str, ...] | None = Field(
        None, description="csv, tsv: column names where the file has no header line."
    )
    fractions: dict[str, float] | None = Field(
        None, description="Divides the one split `all` by a hash of each row, for example {test: 0.2, train: 0.8}."
    )
    sample: Sample | None = None
    where: str | None = Field(
        None, description="Jinja expression over the row; rows for which it is false are left out."
    )

    @field_validator("splits", mode="before")
    @classmethod
    def _file_or_files(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return {split: tuple(files) if isinstance(files, list) else files for split, files in value.items()}
        return value

    @model_validator(mode="after")
    def _complete(self) -> SourceChoice:
        if (self.kind == "huggingface") != (self.path is not None):
            raise ValueError(
                "`path` names a Hugging Face data set: it belongs to kind: huggingface, and is needed there"
            )
        if self.fractions is not None and (set(self.splits) != {"all"} or abs(sum(self.fractions.values()) - 1) > 1e-9):
            raise ValueError("`fractions` divides the one split `all`, and its values sum to 1")
        return self


def read_split(source: SourceChoice, split: str, folder: Path, variables: Mapping[str, str]) -> Rows:
    """All rows of a split, in the order of the files, after `where`, `fractions` and `sample`.

    Args:
        source: What the task's file says.
        split: A name among the splits (or fractions).
        folder: Relative paths start here.
        variables: Values for `${NAME}` in paths.
    Raises:
        FlantuneError: A missing or empty file, a malformed line, an unknown variable; with file and line.
    """
    rows, places = [], []
    for row, place in _all_rows(source, split if source.fractions is None else "all", folder, variables):
        rows.append(row)
        places.append(place)
    keep = range(len(rows))
    if source.where is not None:
        keep = [i for i in keep if _holds(source.where, rows[i], places[i])]
    if source.fractions is not None:
        keep = [i for i in keep if _part(rows[i], source.fractions) == split]
    if source.sample is not None and split in source.sample.rows_each:
        keep = _balanced(rows, keep, source.sample.by, source.sample.rows_each[split], places)
    return Rows(tuple(rows[i] for i in keep), tuple(places[i] for i in keep))


def split_names(source: SourceChoice) -> list[str]:
    """Names of the splits that a source offers."""
    return list(source.fractions if source.fractions is not None else source.splits)


def _all_rows(
    source: SourceChoice, split: str, folder: Path, variables: Mapping[str, str]
) -> Iterator[tuple[Row, str]]:
    given = source.splits[split]
    if source.kind == "huggingface":
        yield from _hugging_face(source, str(given))
    elif source.kind == "parallel":
        if not isinstance(given, dict):
            raise FlantuneError(f"source.splits.{split}: parallel text is given as {{field: file}}", folder)
        yield from _parallel({name: _path(text, folder, variables) for name, text in given.items()})
    else:
        if isinstance(given, dict):
            raise FlantuneError(f"source.splits.{split}: a file or a list of files is wanted", folder)
        for text in (given,) if isinstance(given, str) else given:
            path = _path(text, folder, variables)
            count = 0
            for count, (row, line) in enumerate(READERS[source.kind](path, source), start=1):  # noqa: B007
                yield row, f"{path}:{line}"
            if count == 0:
                raise FlantuneError("the file has no rows; give a file with at least one", path)


def _path(text: str, folder: Path, variables: Mapping[str, str]) -> Path:
    for name, value in variables.items():
        text = text.replace("${" + name + "}", value)
    if "${" in text:
        name = text.partition("${")[2].partition("}")[0]
        raise FlantuneError(f"the path {text!r} needs a value: put `variables: {{{name}: ...}}` into the recipe")
    return folder / text


def open_text(path: Path) -> io.TextIOBase:
    """A UTF-8 text file, also `.gz` and `.xz`, without a byte order mark and with its line ends as they are."""
    try:
        if path.suffix == ".gz":
            return gzip.open(path, "rt", encoding="utf-8-sig", newline="")  # type: ignore[return-value]
        if path.suffix == ".xz":
            return lzma.open(path, "rt", encoding="utf-8-sig", newline="")  # type: ignore[return-value]
        return path.open(encoding="utf-8-sig", newline="")
    except FileNotFoundError:
        raise FlantuneError("no such file; check the path in the task's `source`", path) from None
    except IsADirectoryError:
        raise FlantuneError("is a folder; a file is wanted here", path) from None


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines with their number; only newline ends a line (U+2028 and the like are text)."""
    with open_text(path) as stream:
        number = 0
        try:
            for number, line in enumerate(stream, start=1):
                yield number, line.rstrip("\r\n")
        except UnicodeDecodeError:
            raise FlantuneError("not UTF-8 text; save it as UTF-8", Place(path, number + 1)) from None
        except (gzip.BadGzipFile, lzma.LZMAError, EOFError) as error:
            raise FlantuneError(f"damaged compressed file: {error}", path) from None


def _jsonl(path: Path, source: SourceChoice) -> Iterator[tuple[Row, int]]:
    for number, line in _lines(path):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise FlantuneError(
                f"not valid JSON at column {error.colno}: {error.msg}; one JSON object a line is wanted",
                Place(path, number),
            ) from None
        except RecursionError:
            raise FlantuneError("JSON nested too deeply", Place(path, number)) from None
        if not isinstance(row, dict):
            raise FlantuneError(f"a JSON {type(row).__name__}; one JSON object a line is wanted", Place(path, number))
        yield row, number


def _table(path: Path, source: SourceChoice) -> Iterator[tuple[Row, int]]:
    with open_text(path) as stream:
        quoting: Any = csv.QUOTE_NONE if source.kind == "tsv" else csv.QUOTE_MINIMAL
        reader = csv.reader(
            stream, delimiter="\t" if source.kind == "tsv" else ",", quoting=quoting, strict=source.kind == "csv"
        )
        names = list(source.header) if source.header else None
        begins = 1
        try:
            for cells in reader:
                place, begins = Place(path, begins), reader.line_num + 1
                if not cells:
                    continue
                if names is None:
                    names = _column_names(cells, path)
                    continue
                if len(cells) != len(names):
                    raise FlantuneError(
                        f"{len(cells)} fields where {len(names)} are wanted ({', '.join(names)}); "
                        "quote a field that holds a comma or a line end",
                        place,
                    )
                yield dict(zip(names, cells, strict=True)), place.line or 0
        except csv.Error as error:
            raise FlantuneError(f"not a valid table row: {error}", Place(path, begins)) from None
        except UnicodeDecodeError:
            raise FlantuneError("not UTF-8 text; save it as UTF-8", Place(path, begins)) from None


def _column_names(cells: Sequence[str], path: Path) -> list[str]:
    names = [cell.strip() or f"column_{i}" for i, cell in enumerate(cells, start=1)]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise FlantuneError(f'column "{min(twice)}" stands twice in the header; rename one', Place(path, 1))
    return names


def _parallel(paths: Mapping[str, Path]) -> Iterator[tuple[Row, str]]:
    columns = {name: [line for _, line in _lines(path)] for name, path in paths.items()}
    counts = {name: len(column) for name, column in columns.items()}
    if len(set(counts.values())) != 1:
        told = ", ".join(f"{paths[name].name} {count}" for name, count in counts.items())
        raise FlantuneError(f"parallel files with different numbers of lines: {told}", next(iter(paths.values())))
    if not all(counts.values()):
        raise FlantuneError("the file has no rows; give a file with at least one", next(iter(paths.values())))
    first = next(iter(paths.values()))
    for number, cells in enumerate(zip(*columns.values(), strict=True), start=1):
        yield dict(zip(columns, cells, strict=True)), f"{first}:{number}"


def _conll(path: Path, source: SourceChoice) -> Iterator[tuple[Row, int]]:
    """Sentences of `token ... tag` lines; BIO tags become a list of entities in order of appearance."""
    tokens: list[str] = []
    tags: list[str] = []
    begins = 1
    for number, line in [*_lines(path), (0, "")]:
        cells = line.split("\t") if "\t" in line else line.split()
        if line.strip() and len(cells) < 2:
            raise FlantuneError("one field where a token and a tag are wanted", Place(path, number))
        if line.strip() and cells[0].strip():
            if not tokens:
                begins = number
            tokens.append(cells[0].strip())
            tags.append(cells[-1].strip())
        elif tokens:
            yield {"text": " ".join(tokens), "tokens": tokens, "tags": tags, "entities": entities(tokens, tags)}, begins
            tokens, tags = [], []


def entities(tokens: Sequence[str], tags: Sequence[str]) -> list[dict[str, str]]:
    """Spans of BIO (or IO) tags as `{"type", "text"}`."""
    spans: list[tuple[str, list[str]]] = []
    previous = "O"
    for token, tag in zip(tokens, tags, strict=True):
        prefix, _, kind = tag.partition("-")
        if prefix == "B" or (prefix == "I" and previous.partition("-")[2] != kind):
            spans.append((kind, [token]))
        elif prefix == "I":
            spans[-1][1].append(token)
        previous = tag
    return [{"type": kind, "text": " ".join(words)} for kind, words in spans]


READERS: dict[str, Callable[[Path, SourceChoice], Iterator[tuple[Row, int]]]] = {
    "jsonl": _jsonl,
    "csv": _table,
    "tsv": _table,
    "conll": _conll,
}


def _hugging_face(source: SourceChoice, split: str) -> Iterator[tuple[Row, str]]:
    try:
        import datasets
    except ImportError:
        raise FlantuneError(
            'Hugging Face data sets need the package "datasets"; pip install "flantune[train]"'
        ) from None
    datasets.disable_progress_bars()
    name = str(source.path)
    try:
        if Path(name).is_dir() and (Path(name) / "dataset_dict.json").exists():
            loaded: Any = datasets.load_from_disk(name)[split]
        else:
            loaded = datasets.load_dataset(name, source.config, split=split, revision=source.revision)
    except Exception as error:  # the library raises many kinds: offline, unknown name, unknown split, refused script
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise FlantuneError(
            f'cannot load split "{split}": {first_line[:200]}; check the name, and that the hub can be reached',
            f"huggingface:{name}",
        ) from None
    for number, row in enumerate(loaded):
        yield dict(row), f"huggingface:{name}[{split}]:{number}"


def content_hash(row: Row) -> int:
    """64 bits from a row's content, the same on every machine."""
    text = json.dumps(row, sort_keys=True, ensure_ascii=False, default=str)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


def _part(row: Row, fractions: Mapping[str, float]) -> str:
    """By content, so that appending rows never moves a row to another split."""
    at = content_hash(row) / 2**64
    bound = 0.0
    for name, fraction in fractions.items():
        bound += fraction
        if at < bound:
            return name
    return next(reversed(list(fractions)))


def _balanced(rows: Sequence[Row], keep: Sequence[int], field: str, rows_each: int, places: Sequence[str]) -> list[int]:
    by_value: dict[str, list[int]] = defaultdict(list)
    for i in keep:
        if field not in rows[i]:
            raise FlantuneError(f'source.sample asks for field "{field}", which the row lacks', places[i])
        by_value[str(rows[i][field])].append(i)
    chosen = [i for group in by_value.values() for i in sorted(group, key=lambda i: content_hash(rows[i]))[:rows_each]]
    return sorted(chosen, key=lambda i: (content_hash(rows[i]), i))


def _holds(expression: str, row: Row, place: str) -> bool:
    from flantune.tasks.template import render_text

    try:
        return render_text("{{ 1 if (" + expression + ") else 0 }}", row, "source.where") == "1"
    except FlantuneError as error:
        raise FlantuneError(error.message, place) from None
