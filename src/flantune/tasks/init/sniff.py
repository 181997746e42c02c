"""How rows lie in a file: its format, header, delimiter, quoting, encoding, and where in a document they are."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flantune.errors import FlantuneError
from flantune.tasks.init.columns import NUMBER
from flantune.tasks.init.given import Given, encoding_of
from flantune.tasks.init.names import ROLES, parts, split_of, suggests

ROWS_LOOKED_AT = 200
DELIMITERS = (",", "\t", ";", "|")
LARGEST_DOCUMENT = 2**28  # bytes of a JSON document that is read whole to look for its rows
_TAG = re.compile(r"O|[BIESLU]-\S+")


@dataclass(frozen=True)
class Form:
    """How rows lie in a file.

    Attributes:
        kind: As a source names it; `lines` where each line is a text of its own.
        keys: Further keys of the source.
        paths: Record paths under which rows may be, likeliest first; empty where there is nothing to choose.
        splits: Split to record paths, where one document holds several.
        named: Whether the names of the columns come from the file.
        words: Texts that stand once beside the rows, such as a definition of the task; of a list of names, the names.
        notes: What is worth telling, in plain words.
    """

    kind: str
    keys: Mapping[str, Any] = field(default_factory=dict)
    paths: tuple[str, ...] = ()
    splits: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    named: bool = True
    words: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def form_of(file: Given) -> Form:
    """Looks at the beginning of a file (of a JSON document, at all of it).

    Raises:
        FlantuneError: Nothing in it, or nothing that could be rows.
    """
    if file.many:
        return Form("documents")
    head = file.head()
    if not head.strip():
        raise FlantuneError("the file is empty; give one with rows", str(file))
    if head.startswith(b"PAR1"):
        return Form("parquet")
    if head.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
        return Form("arrow")
    encoding = encoding_of(file)
    text = head.decode(encoding or "utf-8-sig", "ignore")
    if "\0" in text[:5000]:
        raise FlantuneError(
            "is no text, and no format that is known here; give CSV, JSON, Parquet, XML or text", str(file)
        )
    found = _text_form(file, text, encoding)
    if encoding is None:
        return found
    notes = (*found.notes, f"its text is {encoding}, not UTF-8")
    keys = {**found.keys, "encoding": encoding} if found.kind != "xml" else found.keys
    return Form(found.kind, keys, found.paths, found.splits, found.named, found.words, notes)


def _text_form(file: Given, text: str, encoding: str | None) -> Form:
    start = text.lstrip()[:1]
    if start == "<" and re.match(r"\s*<[?!a-zA-Z]", text):
        return _xml_form(file, text)
    if start in ("[", "{") and (found := _json_form(file, text, encoding)) is not None:
        return found
    if file.suffixes[-1:] in ([".yaml"], [".yml"]):
        return _yaml_form(file, text)
    lines = [line.rstrip("\r") for line in text.split("\n")]
    if len(text) > 2**19:
        lines.pop()  # it may be cut off
    return _conll_form(lines) or _table_form(file, lines) or _label_first_form(lines) or Form("lines", named=False)


# --- tables -------------------------------------------------------------------------------------------------


def _table_form(file: Given, lines: Sequence[str]) -> Form | None:
    best = max((_table(lines, delimiter) for delimiter in DELIMITERS), key=lambda found: (found[0], len(found[1])))
    agreement, rows, delimiter, quoting = best
    if agreement < 0.97 or len(rows) < 2:
        stated = {".csv": ",", ".tsv": "\t"}.get((file.suffixes or [""])[-1])
        if stated is None or agreement > 0:
            return None
        delimiter, quoting, rows = stated, "minimal", [[line] for line in lines if line.strip()]
    kind = "tsv" if delimiter == "\t" else "csv"
    keys: dict[str, Any] = {"delimiter": delimiter} if delimiter not in (",", "\t") else {}
    if quoting != ("none" if kind == "tsv" else "minimal"):
        keys["quoting"] = quoting
    named = has_header(rows[:ROWS_LOOKED_AT])
    if not named:
        keys["header"] = [f"column_{number}" for number in range(1, len(rows[0]) + 1)]
    return Form(kind, keys, named=named, notes=() if named else ("it has no header line",))


def _table(lines: Sequence[str], delimiter: str) -> tuple[float, list[list[str]], str, str]:
    """The share of rows with the commonest number of cells (0 where that is one), the rows, and how they are quoted."""
    quoting = _quoting(lines, delimiter)
    some = lines[: 10 * ROWS_LOOKED_AT]
    if quoting == "none":
        rows = [line.split(delimiter) for line in some if line]
    else:
        try:
            rows = list(
                csv.reader(
                    io.StringIO("\n".join(some), newline=""), delimiter=delimiter, strict=len(some) == len(lines)
                )
            )
        except csv.Error:
            return 0.0, [], delimiter, quoting
        rows = [row for row in (rows if len(some) == len(lines) else rows[:-1]) if row]
    counts = Counter(map(len, rows))
    width, times = counts.most_common(1)[0] if counts else (0, 0)
    return (times / len(rows) if width > 1 else 0.0), rows, delimiter, quoting


def _quoting(lines: Sequence[str], delimiter: str) -> str:
    """Whether quotation marks around cells are no part of them: each that opens a cell then closes one."""
    if delimiter != "\t" and any(re.search(r'(^|[,;|])"', line) for line in lines):
        return "minimal"
    cells = [cell for line in lines for cell in line.split(delimiter)]
    opened = [cell for cell in cells if cell.startswith('"')]
    closed = sum(
        len(cell) > 1 and cell.endswith('"') and cell[1:-1].replace('""', "").count('"') == 0 for cell in opened
    )
    if delimiter == "\t":
        return "minimal" if opened and closed > 0.9 * len(opened) and len(opened) > 1 else "none"
    return "minimal"


def has_header(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first row names the columns: it differs from what stands below, or consists of well-known names."""
    first, rest = [cell.strip() for cell in rows[0]], rows[1:]
    if len(set(first)) < len(first) or all(not cell for cell in first):
        return False
    return (
        sum(
            _header_points(cell, [row[place].strip() for row in rest if len(row) > place])
            for place, cell in enumerate(first)
        )
        > 0
    )


def _header_points(cell: str, below: Sequence[str]) -> float:
    if NUMBER.fullmatch(cell):
        return -3.0
    filled = [text for text in below if text]
    numeric = sum(bool(NUMBER.fullmatch(text)) for text in filled) > 0.9 * len(filled) if filled else False
    points = 2.0 if numeric and cell else 0.0
    known = max(suggests(cell, role) for role in ROLES) if len(parts(cell)) <= 4 else 0.0
    points += 1.5 * known if len(cell) < 40 else 0.0
    points -= 3.0 if cell in filled and len(set(filled)) < len(filled) else 1.0 if not cell else 0.0
    long = sorted(map(len, filled))[len(filled) // 2] if filled else 0
    points += 1.5 if long > 40 and len(cell) < 25 else 0.0
    return points - (3.0 if len(cell) > 60 or re.search(r"[.!?]$", cell) else 0.0)


# --- texts by line ------------------------------------------------------------------------------------------


def _conll_form(lines: Sequence[str]) -> Form | None:
    """Words with a tag, one a line, and blank lines between sentences."""
    cells = [line.split("\t") if "\t" in line else line.split() for line in lines if line.strip()]
    blank = sum(not line.strip() for line in lines[:-1])
    tagged = sum(len(row) > 1 and bool(_TAG.fullmatch(row[-1].strip())) for row in cells)
    if not cells or not blank or tagged < 0.95 * len(cells) or all(row[-1] == "O" for row in cells):
        return None
    return Form("conll", notes=("a word and its tag on each line, blank lines between sentences",))


def _label_first_form(lines: Sequence[str]) -> Form | None:
    """Lines that begin with their label: `1 text`, `__label__x text`, `DESC:manner text`."""
    found = [re.match(r"(\S{1,40})[ \t]+(?=\S)", line) for line in lines if line.strip()]
    if not found or not all(found):
        return None
    labels = Counter(match[1] for match in found if match)
    marks = r"\d+|__label__\S+|[A-Z]{2,}\w*:\w+|[A-Z]{2,}|\S+[:|]|[+-]1"
    alike = all(re.fullmatch(marks, label) for label in labels)
    if not alike or not 2 <= len(labels) <= 100 or len(found) < 4 * len(labels):
        return None
    keys = {"delimiter": " ", "columns": 2, "header": ["column_1", "column_2"]}
    return Form("csv", keys, named=False, notes=("each line begins with its label",))


# --- documents ----------------------------------------------------------------------------------------------


def _json_form(file: Given, text: str, encoding: str | None) -> Form | None:
    values = _lines_of_json(text)
    if values is not None:
        width = _width(values)
        if width is not None:
            return Form("jsonl", {"header": _header(width)}, named=False)
        return Form("jsonl") if all(isinstance(value, dict) for value in values) else None
    with file.opened() as stream:
        content = stream.read(LARGEST_DOCUMENT + 1)
    if len(content) > LARGEST_DOCUMENT:
        raise FlantuneError("a JSON document of more than 256 MiB; write one record a line (.jsonl)", str(file))
    try:
        document = json.loads(content.decode(encoding or "utf-8-sig"))
    except (ValueError, RecursionError):
        return Form("json") if file.suffixes[-1:] == [".json"] else None  # the reader tells what is wrong
    return document_form(document, file)


def _lines_of_json(text: str) -> list[Any] | None:
    """The values of the first lines, where each line is one; a single line must be a flat object."""
    lines = [line for line in text.split("\n")[: ROWS_LOOKED_AT + 1] if line.strip()]
    complete = lines if len(text) < 2**19 or len(lines) > ROWS_LOOKED_AT else lines[:-1]
    try:
        values = [json.loads(line) for line in complete[:ROWS_LOOKED_AT]]
    except (ValueError, RecursionError):
        return None
    if len(values) == 1 and (
        isinstance(values[0], list)
        or any(isinstance(inner, dict | list) for inner in values[0].values() if isinstance(values[0], dict))
    ):
        return None
    return values or None


def document_form(document: Any, file: Given) -> Form:
    """Where in a document of dicts and lists the rows are.

    Raises:
        FlantuneError: Nothing in it that could be rows.
    """
    if (names := _only_names(document)) is not None:
        return Form("names", words=names)
    if isinstance(document, dict) and _is_columns(document):
        return Form("json", {"orient": "columns"}, notes=("one list of values a column",))
    found = sorted(
        _lists_of_rows(document, (), 0), key=lambda each: (each.width is not None, each.path.count("*"), -each.count)
    )
    if not found:
        raise FlantuneError("no list of records in it; give a file of rows", str(file))
    splits: dict[str, list[str]] = {}
    for each in found:
        split = split_of(parts(each.path)) if each.path and "*" not in each.path else None
        if split is not None and (each.width is None) == (found[0].width is None):
            splits.setdefault(split, []).append(each.path)
    most = max(each.count for each in found if each.path.count("*") == found[0].path.count("*"))
    found = [each for each in found if each.count >= 0.2 * most or each.path.count("*") > found[0].path.count("*")]
    width = found[0].width
    keys = {"header": _header(width)} if width is not None else {}
    transforms = [{"triple": {}}] if width == 3 and found[0].triples else []
    if transforms:
        keys["header"] = ["input", "outputs", "id"]
    keys |= {"transforms": transforms} if transforms else {}
    paths = tuple(dict.fromkeys(each.path for each in found if each.count >= 3 or len(found) == 1))[:5]
    words = _words_beside(document) if isinstance(document, dict) else {}
    inside = {split: tuple(sorted(these)) for split, these in splits.items()} if len(splits) > 1 else {}
    return Form("json", keys, paths, inside, named=width is None or bool(transforms), words=words)


def _only_names(document: Any) -> dict[str, str] | None:
    """A list of short texts, or lists of them under a name: names of classes, each with the name it stands under."""
    groups = document if isinstance(document, dict) else {"": document}
    if not all(
        isinstance(names, list) and names and all(isinstance(name, str) for name in names) for names in groups.values()
    ):
        return None
    found = {name: str(group) for group, names in groups.items() for name in names}
    return found if 2 <= len(found) <= 1000 and max(map(len, found)) <= 80 else None


def _header(width: int) -> list[str]:
    return [f"column_{number}" for number in range(1, width + 1)]


def _width(values: Sequence[Any]) -> int | None:
    """How many parts each row has, where rows are lists of one length."""
    widths = {len(value) if isinstance(value, list) else 0 for value in values}
    return widths.pop() if len(widths) == 1 and not widths & {0, 1} and widths <= set(range(2, 13)) else None


@dataclass(frozen=True)
class _Found:
    path: str
    count: int
    width: int | None
    triples: bool


def _lists_of_rows(node: Any, path: tuple[str, ...], depth: int) -> Iterator[_Found]:
    if depth > 6 or (isinstance(node, list) and not node):
        return
    if isinstance(node, list):
        some = node[:ROWS_LOOKED_AT]
        if all(isinstance(item, dict) for item in some):
            yield _Found(".".join(path), len(node), None, False)
            yield from _below(some, (*path, "*"), depth)
        elif all(isinstance(item, list) for item in some) and (width := _width(some)) is not None:
            if not any(isinstance(part, str) for part in some[0]):
                return
            yield _Found(".".join(path), len(node), width, width == 3 and all(_is_triple(item) for item in some))
    elif isinstance(node, dict):
        values = list(node.values())
        alike = (
            len(values) > 5
            and all(isinstance(value, dict) for value in values)
            and len({tuple(sorted(value)) for value in values[:50]}) < 5
        )
        if alike:
            yield _Found(".".join((*path, "*")), len(values), None, False)
            yield from _below(values[:ROWS_LOOKED_AT], (*path, "*"), depth)
        else:
            for key, value in node.items():
                yield from _lists_of_rows(value, (*path, str(key).replace(".", r"\.")), depth + 1)


def _below(rows: Sequence[dict[str, Any]], path: tuple[str, ...], depth: int) -> Iterator[_Found]:
    """Lists of objects inside the rows of a list."""
    for key in dict.fromkeys(key for row in rows for key in row):
        inner = [item for row in rows if isinstance(row.get(key), list) for item in row[key]]
        if inner and all(isinstance(item, dict) for item in inner):
            yield from _lists_of_rows(inner[: 5 * ROWS_LOOKED_AT], (*path, key.replace(".", r"\.")), depth + 1)


def _is_triple(item: Sequence[Any]) -> bool:
    return (
        isinstance(item[0], str)
        and isinstance(item[1], list)
        and all(isinstance(text, str) for text in item[1])
        and isinstance(item[2], str)
    )


def _is_columns(document: Mapping[str, Any]) -> bool:
    """One list of plain values a field, all of one length; or, as pandas writes, one object by row label."""
    columns = list(document.values())
    if len(columns) < 2 or not (all(isinstance(c, list) for c in columns) or all(isinstance(c, dict) for c in columns)):
        return False
    plain = all(
        not isinstance(value, dict | list) for c in columns for value in (c.values() if isinstance(c, dict) else c)
    )
    lengths = {len(c) for c in columns}
    same_rows = not isinstance(columns[0], dict) or len({tuple(c) for c in columns}) == 1
    numbered = not isinstance(columns[0], dict) or all(re.fullmatch(r"\d+", str(label)) for label in columns[0])
    return plain and len(lengths) == 1 and same_rows and numbered and lengths.pop() > 3


def _words_beside(document: Mapping[str, Any]) -> dict[str, str]:
    """Texts of the outermost object that may say what is asked."""
    found = {}
    for name, value in document.items():
        text = value[0] if isinstance(value, list) and len(value) == 1 else value
        if (
            isinstance(text, str)
            and len(text.split()) > 4
            and (suggests(name, "instruction") or "description" in name.lower())
        ):
            found[name] = text
    return found


def _yaml_form(file: Given, text: str) -> Form:
    if "!Template" in text or "jinja:" in text:
        raise FlantuneError("holds prompt templates and no rows; a task takes them by `templates_from`", str(file))
    if re.match(r"\s*(#.*\n|---.*\n|\s*\n)*\s*- ", text):
        return Form("yaml")
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        with file.opened() as stream:
            found = document_form(
                YAML(typ="safe", pure=True).load(stream.read(2**22).decode("utf-8-sig", "ignore")), file
            )
    except YAMLError:
        return Form("yaml")
    return Form("yaml", found.keys, found.paths, found.splits, found.named, found.words)


def _xml_form(file: Given, text: str) -> Form:
    """The elements that come again and again and have parts."""
    from xml.parsers import expat

    counts: Counter[str] = Counter()
    depths: dict[str, int] = {}
    parts_of: dict[str, set[str]] = {}
    trail: list[str] = []

    def starts(tag: str, attributes: dict[str, str]) -> None:
        counts[tag] += 1
        depths.setdefault(tag, len(trail))
        parts_of.setdefault(tag, set()).update(attributes)
        if trail:
            parts_of[trail[-1]].add(tag)
        trail.append(tag)

    parser = expat.ParserCreate("UTF-8")  # the text is decoded already
    parser.StartElementHandler = starts
    parser.EndElementHandler = lambda _: trail.pop()
    try:
        parser.Parse(text.encode(), len(text) < 2**19)
    except expat.ExpatError as error:
        told = f"not valid XML at line {error.lineno}: {expat.ErrorString(error.code)}; check the file"
        raise FlantuneError(told, str(file)) from None
    rows = [tag for tag in counts if counts[tag] > 1 and len(parts_of[tag]) > 1]
    rows.sort(key=lambda tag: (depths[tag], -counts[tag]))
    if not rows:
        raise FlantuneError("no element in it that comes again and again; give a file of rows", str(file))
    return Form("xml", {"records": f".//{rows[0]}"}, tuple(f".//{tag}" for tag in rows[:3]))
