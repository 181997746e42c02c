"""Sources: rows from JSONL, CSV, TSV, parallel text, CoNLL columns and Hugging Face data sets.

A row is a plain dict; text stays text ("007", "NA" and "no" are not interpreted). Each row knows where it stands
(`file:line`), so that an error about it can say so.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import lzma
import re
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from flantune.errors import FlantuneError, Place, nearest
from flantune.recipe.yaml_file import Strict, WrongAt

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
    """At most the same number of rows of each value of a field, chosen by a hash of the row's content."""

    by: str = Field(description="The field whose values are balanced.")
    rows_each: dict[str, Annotated[int, Field(ge=1)]] = Field(
        description="Rows of each value, by split; a value with fewer gives all it has."
    )


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
    fractions: dict[str, Annotated[float, Field(gt=0)]] | None = Field(
        None, description="Divides the one split `all` by a hash of each row, for example {test: 0.2, train: 0.8}."
    )
    also: tuple[SourceChoice, ...] = Field(
        (),
        description="More sources with the same fields and splits; their rows follow before `where`, `fractions` "
        "and `sample` are applied.",
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
            raise WrongAt(
                ["path"], "names a Hugging Face data set: it belongs to kind: huggingface, and is needed there"
            )
        form, wanted = FORMS.get(self.kind, ((str, tuple), "a file or a list of files"))
        for split, files in self.splits.items():
            if not isinstance(files, form) or not files:
                raise WrongAt(["splits", split], f"kind: {self.kind} wants {wanted} here")
        if self.fractions is not None:
            if set(self.splits) != {"all"}:
                raise WrongAt(["fractions"], "divides one split that is called `all`; name the one split so")
            if abs(sum(self.fractions.values()) - 1) > 1e-9:
                raise WrongAt(["fractions"], f"must sum to 1, not {sum(self.fractions.values()):g}")
        for number, more in enumerate(self.also):
            if set(more.splits) != set(self.splits):
                raise WrongAt(["also", number, "splits"], f"must be the same as above ({', '.join(self.splits)})")
            for key in ("fractions", "sample", "where"):
                if getattr(more, key) is not None:
                    raise WrongAt(["also", number, key], "belongs to the first source and holds for all; move it there")
        for split in self.sample.rows_each if self.sample is not None else ():
            if split not in split_names(self):
                raise WrongAt(["sample", "rows_each", split], f"no such split; {nearest(split, split_names(self))}")
        return self


FORMS: dict[str, tuple[type, str]] = {
    "parallel": (dict, "{field: file, ...}"),
    "huggingface": (str, "the name of a split of the data set"),
}


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
        yield from _hugging_face(source, str(given), folder, variables)
    elif isinstance(given, dict):
        yield from _parallel({name: _path(text, folder, variables) for name, text in given.items()})
    else:
        for text in (given,) if isinstance(given, str) else given:
            path = _path(text, folder, variables)
            count = 0
            for count, (row, line) in enumerate(READERS[source.kind](path, source), start=1):  # noqa: B007
                yield row, f"{path}:{line}"
            if count == 0:
                raise FlantuneError("the file has no rows; give a file with at least one", path)
    for more in source.also:
        yield from _all_rows(more, split, folder, variables)


def _path(text: str, folder: Path, variables: Mapping[str, str]) -> Path:
    for name, value in variables.items():
        text = text.replace("${" + name + "}", value)
    if "${" in text:
        name = text.partition("${")[2].partition("}")[0]
        raise FlantuneError(f"the path {text!r} needs a value: put `variables: {{{name}: ...}}` into the recipe")
    return folder / text


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines of a UTF-8 text file, also `.gz` and `.xz`, with their number from 1 and their line end.

    Only newline ends a line (U+2028 and the like are text). A byte order mark is left out.

    Raises:
        FlantuneError: No such file, damaged, or not UTF-8: with the line.
    """
    opened: Callable[[Path], Any] = {".gz": gzip.open, ".xz": lzma.open}.get(path.suffix, _open)
    number = 0
    try:
        with opened(path) as stream:
            for number, line in enumerate(stream, start=1):
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError:
        raise FlantuneError("not UTF-8 text; save it as UTF-8", Place(path, number)) from None
    except (gzip.BadGzipFile, lzma.LZMAError, zlib.error, EOFError) as error:
        raise FlantuneError(f"damaged compressed file: {error}; fetch it again", path) from None
    except FileNotFoundError:
        raise FlantuneError("no such file; check the path in the task's `source`", path) from None
    except IsADirectoryError:
        raise FlantuneError("is a folder; a file is wanted here", path) from None
    except OSError as error:
        raise FlantuneError(f"cannot be read: {error.strerror}; check the path in the task's `source`", path) from None


def _open(path: Path) -> Any:
    return path.open("rb")


def _without_end(line: str) -> str:
    return line.removesuffix("\n").removesuffix("\r")


def _jsonl(path: Path, source: SourceChoice) -> Iterator[tuple[Row, int]]:
    for number, line in lines(path):
        if not line.strip():
            continue
        place = Place(path, number)
        try:
            row = json.loads(_without_end(line))
        except json.JSONDecodeError as error:
            raise FlantuneError(
                f"not valid JSON at column {error.colno}: {error.msg}; one JSON object a line is wanted", place
            ) from None
        except ValueError as error:  # a number of more digits than Python reads
            raise FlantuneError(f"not usable JSON: {error}", place) from None
        except RecursionError:
            raise FlantuneError("JSON nested too deeply", place) from None
        if not isinstance(row, dict):
            kind = {list: "array", str: "string", bool: "boolean", type(None): "null"}.get(type(row), "number")
            raise FlantuneError(f"a JSON {kind}; one JSON object a line is wanted", place)
        if HALF_CHARACTER.search(line):
            try:
                json.dumps(row, ensure_ascii=False).encode()
            except UnicodeEncodeError:
                raise FlantuneError(
                    r"half of a character (an escape of \ud800 to \udfff stands alone)", place
                ) from None
        yield row, number


HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")


def _table(path: Path, source: SourceChoice) -> Iterator[tuple[Row, int]]:
    csv.field_size_limit(2**31 - 1)  # a field may hold a whole book
    tabs = source.kind == "tsv"
    quoting: Any = csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL
    pieces = (piece for _, line in lines(path) for piece in CARRIAGE_RETURN.split(line))
    reader = csv.reader(pieces, delimiter="\t" if tabs else ",", quoting=quoting, strict=not tabs)
    names = list(source.header) if source.header else None
    begins = 1
    try:
        for cells in reader:
            place, begins = Place(path, begins), reader.line_num + 1
            if not cells:
                continue
            if names is None:
                names = _column_names(cells, place)
                continue
            if len(cells) != len(names):
                remedy = "it can hold no tab and no line end" if tabs else "quote it if it holds a comma or a line end"
                found = f"{len(cells)} field{'s' if len(cells) > 1 else ''}"
                wanted = f"{len(names)} {'are' if len(names) > 1 else 'is'} wanted ({', '.join(names)})"
                raise FlantuneError(f"{found} where {wanted}; check each: {remedy}", place)
            yield dict(zip(names, cells, strict=True)), place.line or 0
    except csv.Error as error:
        raise FlantuneError(f"not a valid table row: {error}", Place(path, begins)) from None


CARRIAGE_RETURN = re.compile(r"(?<=\r)(?!\n|$)")  # old tables end their lines with it alone


def _column_names(cells: Sequence[str], place: Place) -> list[str]:
    names = [cell.strip() or f"column_{i}" for i, cell in enumerate(cells, start=1)]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise FlantuneError(f'column "{min(twice)}" stands twice in the header; rename one', place)
    return names


def _parallel(paths: Mapping[str, Path]) -> Iterator[tuple[Row, str]]:
    columns = {name: [_without_end(line) for _, line in lines(path)] for name, path in paths.items()}
    counts = {name: len(column) for name, column in columns.items()}
    first = next(iter(paths.values()))
    if len(set(counts.values())) != 1:
        told = ", ".join(f"{paths[name].name} {count}" for name, count in counts.items())
        raise FlantuneError(f"parallel files with different numbers of lines: {told}; line i belongs to line i", first)
    if not all(counts.values()):
        raise FlantuneError("the file has no rows; give a file with at least one", first)
    for number, cells in enumerate(zip(*columns.values(), strict=True), start=1):
        yield dict(zip(columns, cells, strict=True)), f"{first}:{number}"


def _conll(path: Path, source: SourceChoice) -> Iterator[tuple[Row, int]]:
    """Sentences of `token ... tag` lines; their tags become a list of entities in order of appearance."""
    tokens: list[str] = []
    tags: list[str] = []
    begins = 1
    for number, line in [*lines(path), (0, "")]:
        line = _without_end(line)
        cells = line.split("\t") if "\t" in line else line.split()
        if line.strip() and len(cells) < 2:
            raise FlantuneError("one field where a token and a tag are wanted", Place(path, number))
        if line.strip() and cells[0].strip() and cells[0] != "-DOCSTART-":
            if not tokens:
                begins = number
            tokens.append(cells[0].strip())
            tags.append(cells[-1].strip())
        elif tokens:
            yield {"text": " ".join(tokens), "tokens": tokens, "tags": tags, "entities": entities(tokens, tags)}, begins
            tokens, tags = [], []


def entities(tokens: Sequence[str], tags: Sequence[str]) -> list[dict[str, str]]:
    """Spans of BIO, IO, BIOES or BILOU tags as `{"type", "text"}`.

    A span begins at B, S or U, and where I, E or L follows another type or no open span.
    """
    spans: list[tuple[str, list[str]]] = []
    open_kind: str | None = None
    for token, tag in zip(tokens, tags, strict=True):
        prefix, _, kind = tag.partition("-")
        if prefix in ("B", "S", "U") or (prefix in ("I", "E", "L") and kind != open_kind):
            spans.append((kind, [token]))
        elif prefix in ("I", "E", "L"):
            spans[-1][1].append(token)
        open_kind = kind if prefix in ("B", "I") else None
    return [{"type": kind, "text": " ".join(words)} for kind, words in spans]


READERS: dict[str, Callable[[Path, SourceChoice], Iterator[tuple[Row, int]]]] = {
    "jsonl": _jsonl,
    "csv": _table,
    "tsv": _table,
    "conll": _conll,
}


def _hugging_face(
    source: SourceChoice, split: str, folder: Path, variables: Mapping[str, str]
) -> Iterator[tuple[Row, str]]:
    try:
        import datasets
    except ImportError:
        raise FlantuneError(
            'Hugging Face data sets need the package "datasets"; pip install "flantune[train]"'
        ) from None
    datasets.disable_progress_bars()
    name = str(source.path)
    here = _path(name, folder, variables)
    if here.is_dir():
        name = str(here)
    try:
        if (here / "dataset_dict.json").exists() or (here / "state.json").exists():
            saved: Any = datasets.load_from_disk(name)
            splits = saved if isinstance(saved, dict) else {"all": saved}
            if split not in splits:
                raise FlantuneError(f'no split "{split}"; {nearest(split, splits)}', f"huggingface:{name}")
            loaded: Any = splits[split]
        else:
            loaded = datasets.load_dataset(name, source.config, split=split, revision=source.revision)
    except FlantuneError:
        raise
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


def expression(condition: str) -> str:
    """A Jinja text that renders to 1 where a condition over the row holds."""
    return "{{ 1 if (" + condition + ") else 0 }}"


def _holds(condition: str, row: Row, place: str) -> bool:
    from flantune.tasks.template import render_text

    try:
        return render_text(expression(condition), row, "source.where") == "1"
    except FlantuneError as error:
        raise FlantuneError(error.message, place) from None
