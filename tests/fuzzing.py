"""Hostile files: valid ones of every kind, spoiled in ways in which files are spoiled, and the laws of reading them."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import random
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from pydantic import ValidationError

from flantune.errors import FlantuneError
from flantune.tasks.sources import Row, Rows, SourceChoice, cache, read_split
from flantune.tasks.sources.choice import KINDS_OF

KINDS = ("jsonl", "json", "yaml", "csv", "tsv", "parquet", "arrow", "parallel", "classes", "documents", "conll", "xml")

WORDS = [
    *[
        "",
        " ",
        "word",
        "007",
        "NA",
        "no",
        "1e5",
        "null",
        "true",
        "-0",
        "\u2028",
        "\x85",
        "\x0b",
        "\x1c",
        "\xa0",
        "\ufeff",
    ],
    *[
        "שלום \u202eabc",
        "👩‍👩‍👧🇩🇪",
        "e\u0301",
        "\U0010ffff",
        "日本語",
        "\ue000",
        "\ufdd0",
        "\t",
        "\n",
        "\r",
        "\r\n",
        "\\",
        '"',
        '""',
    ],
    *[
        "'",
        ",",
        ";",
        "|",
        "<",
        ">",
        "&",
        "&amp;",
        "<b>",
        "]]>",
        "{",
        "}",
        "[",
        "]",
        "- ",
        ": ",
        "#",
        "!tag",
        "*a",
        "&a",
    ],
    *["{{ x }}", "%s", "\\n", "\\ud83d", "\\u0000", "=1+1", "../..", "O", "B-X", "I-X", "-DOCSTART-"],
]
SPOILS = [
    *[
        b"\0",
        b"\xff",
        b"\xfe\xff",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"\xc3",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\r",
        b"\n\n\n",
    ],
    *[
        b'"',
        b"'",
        b"\\",
        b"\t",
        b",",
        b"NaN",
        b"-Infinity",
        b"1e999",
        b"9" * 5000,
        b"\\ud800",
        b"\\u0000",
        b'{"a":1,"a":2}',
    ],
    *[
        b"[" * 3000,
        b'{"a":' * 500,
        b"- " * 300,
        b"? " * 50,
        b"&a [*a, *a]",
        b"<<: ",
        b"!!python/name:os.system",
        b"%YAML 9.9\n",
    ],
    *[
        b"---\n",
        b"...\n",
        b"<a>" * 300,
        b"</a>",
        b"<!DOCTYPE r [<!ENTITY e '&f;'>]>",
        b"&e;",
        b"<![CDATA[",
        b"<?x",
        b"<!--",
    ],
    *[
        b'<?xml version="1.0" encoding="utf-16"?>',
        b"PAR1",
        b"ARROW1",
        b"\x1f\x8b",
        b"\xfd7zXZ",
        b"\x28\xb5\x2f\xfd",
        b"PK\x03\x04",
    ],
]
ENCODINGS = [
    "utf-8",
    "utf-16",
    "utf-16-le",
    "utf-32",
    "latin-1",
    "cp1252",
    "shift_jis",
    "gb18030",
    "utf-7",
    "ascii",
    "hz",
]


@dataclass(frozen=True)
class Case:
    """A source and the folder where its files lie."""

    source: dict[str, Any]
    folder: Path


def text_of(chance: random.Random) -> str:
    """A text, mostly short, now and then of a megabyte."""
    if chance.random() < 0.003:
        return chance.choice(WORDS) * chance.choice([10_000, 100_000])
    return "".join(chance.choice(WORDS) for _ in range(chance.randrange(4)))


def value_of(chance: random.Random, depth: int = 2) -> Any:
    """A value as JSON has them."""
    kind = chance.randrange(9 if depth else 6)
    if kind == 6 or kind == 7:
        return [value_of(chance, depth - 1) for _ in range(chance.randrange(3))]
    if kind == 8:
        return {text_of(chance): value_of(chance, depth - 1) for _ in range(chance.randrange(3))}
    return chance.choice([None, True, 7, -1.5, 10**18]) if kind == 0 else text_of(chance)


def rows_of(chance: random.Random, *, flat: bool) -> list[Row]:
    """Rows with the same fields; flat ones hold text alone."""
    names = [
        chance.choice(["a", "text", "label", "日", " x", "key", ""]) + str(number)
        for number in range(chance.randrange(1, 4))
    ]
    value = text_of if flat else value_of
    return [{name: value(chance) for name in names} for _ in range(chance.choice([0, 1, 2, 5, 30]))]


# --- valid files --------------------------------------------------------------------------------------------


def jsonl(chance: random.Random) -> bytes:
    rows = rows_of(chance, flat=False)
    return "\n".join(json.dumps(row, ensure_ascii=chance.random() < 0.5) for row in rows).encode()


def json_document(chance: random.Random) -> bytes:
    rows: Any = rows_of(chance, flat=False)
    shape = chance.choice([0, 0, 0, 0, 1, 2, 3])
    if shape == 1:
        rows = {"version": 1, "data": [{"title": text_of(chance), "rows": rows}]}
    elif shape == 2:
        rows = {"train": [list(row.values()) for row in rows], "test": {str(i): row for i, row in enumerate(rows)}}
    elif shape == 3:
        rows = {name: [row[name] for row in rows] for name in (rows[0] if rows else {})}
    return json.dumps(rows, ensure_ascii=chance.random() < 0.5, indent=chance.choice([None, 1])).encode()


def yaml_document(chance: random.Random) -> bytes:
    rows: Any = rows_of(chance, flat=False)
    if chance.random() < 0.3:
        rows = {"data": rows, "again": rows}  # written with an anchor
    style, flow = chance.choice([None, '"', "'", "|", ">"]), chance.choice([None, True, False])
    return yaml.safe_dump(
        rows, default_style=style, default_flow_style=flow, allow_unicode=chance.random() < 0.5
    ).encode()


def table(chance: random.Random) -> bytes:
    rows = rows_of(chance, flat=True)
    stream = io.StringIO(newline="")
    how = {"delimiter": chance.choice(",;\t |"), "lineterminator": chance.choice(["\n", "\r\n", "\r"])}
    writer = csv.writer(stream, quoting=chance.choice([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]), **how)
    writer.writerows([list(rows[0]) if rows else ["a"], *(list(row.values()) for row in rows)])
    return stream.getvalue().encode()


def plain_table(chance: random.Random) -> bytes:
    rows = rows_of(chance, flat=True)
    return "\n".join(
        "\t".join(cells) for cells in [list(rows[0]) if rows else ["a"], *(row.values() for row in rows)]
    ).encode()


def arrow_table(chance: random.Random) -> pa.Table:
    columns: dict[str, Any] = {}
    count = chance.choice([0, 1, 5, 400])
    for number in range(chance.randrange(1, 4)):
        make = chance.choice([text_of, lambda c: c.randrange(9), lambda c: c.random(), lambda c: text_of(c).encode()])
        cells = [None if chance.random() < 0.1 else make(chance) for _ in range(count)]
        columns[f"f{number}"] = [[cell] for cell in cells] if chance.random() < 0.2 else cells
    return pa.table(columns)


def parquet(chance: random.Random) -> bytes:
    stream = io.BytesIO()
    how = {
        "compression": chance.choice(["none", "snappy", "gzip", "zstd"]),
        "row_group_size": chance.choice([1, 3, 1000]),
    }
    pq.write_table(arrow_table(chance), stream, use_dictionary=chance.random() < 0.5, **how)
    return stream.getvalue()


def arrow(chance: random.Random) -> bytes:
    made, stream = arrow_table(chance), io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression=chance.choice([None, "lz4", "zstd"]))
    with chance.choice([pa.ipc.new_file, pa.ipc.new_stream])(stream, made.schema, options=options) as writer:
        writer.write_table(made, max_chunksize=chance.choice([1, 2, 1000]))
    return stream.getvalue()


def lines(chance: random.Random) -> bytes:
    return "".join(
        text_of(chance) + chance.choice(["\n", "\r\n"]) for _ in range(chance.choice([0, 3, 3, 3, 20]))
    ).encode()


def conll(chance: random.Random) -> bytes:
    made = (
        chance.choice(
            ["\n", f"{text_of(chance)}{chance.choice([' ', chr(9)])}{chance.choice(['O', 'B-X', 'I-X', 'x'])}\n"]
        )
        for _ in range(chance.randrange(20))
    )
    return "".join(made).encode()


def xml(chance: random.Random) -> bytes:
    def element(depth: int) -> str:
        name = chance.choice(["a", "item", "b"])
        attributes = f" id={quoteattr(text_of(chance))}" if chance.random() < 0.3 else ""
        inner = "".join(element(depth - 1) for _ in range(chance.randrange(3))) if depth else ""
        return f"<{name}{attributes}>{escape(text_of(chance))}{inner}</{name}>{escape(text_of(chance))}"

    before = chance.choice(["", '<?xml version="1.0"?>\n', '<!DOCTYPE r SYSTEM "x.dtd">\n'])
    return f"{before}<r>{''.join(element(2) for _ in range(chance.randrange(4)))}</r>".encode()


FILES: dict[str, Callable[[random.Random], bytes]] = {
    "jsonl": jsonl,
    "json": json_document,
    "yaml": yaml_document,
    "csv": table,
    "tsv": plain_table,
    "parquet": parquet,
    "arrow": arrow,
    "parallel": lines,
    "classes": lines,
    "documents": lines,
    "conll": conll,
    "xml": xml,
}

# --- spoiled ones -------------------------------------------------------------------------------------------


def spoiled(chance: random.Random, content: bytes) -> bytes:
    """The content with one thing wrong."""
    at, other = sorted(chance.randrange(len(content) + 1) for _ in range(2))
    match chance.randrange(9):
        case 0:
            return content[:at]
        case 1:
            return content[:at] + chance.choice(SPOILS) + content[at:]
        case 2:
            return content[:at] + content[other:]
        case 3:
            return content[:other] + content[at:other] * chance.choice([1, 3, 100]) + content[other:]
        case 4:
            return (
                content[:at]
                + bytes(byte ^ (1 << chance.randrange(8)) for byte in content[at : at + 3])
                + content[at + 3 :]
            )
        case 5:
            return content.decode("utf-8", "ignore").encode(chance.choice(ENCODINGS), "replace")
        case 6:
            return content.replace(b"\n", chance.choice([b"\r\n", b"\r", b"\n\n", b""]))
        case 7:
            return chance.choice([b"\xef\xbb\xbf", b"\xff\xfe", b"\0"]) + content
        case _:
            return chance.randbytes(chance.choice([0, 1, 20, 3000]))


def packed(chance: random.Random, folder: Path, name: str, content: bytes) -> str:
    """Writes the content as it is, compressed, or into an archive; the path that the source gives."""
    how = chance.choice(["", "", "", ".gz", ".xz", ".bz2", "zip", "tar"])
    if how == "zip":
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"in/{name}", content)
        packed_content, file, path = stream.getvalue(), f"{name}.zip", f"{name}.zip!in/*"
    elif how == "tar":
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w:gz") as archive:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        packed_content, file, path = stream.getvalue(), f"{name}.tar.gz", f"{name}.tar.gz!**"
    else:
        compress = {".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress}.get(how, bytes)
        packed_content, file, path = compress(content), f"{name}{how}", f"{name}{how}"
    if how and chance.random() < 0.35:
        packed_content = spoiled(chance, packed_content)
    (folder / file).write_bytes(packed_content)
    return path


def case_of(chance: random.Random, kind: str, folder: Path) -> Case:
    """A source of a kind whose files may be spoiled, written into an empty folder."""
    split: Any
    if kind in ("parallel", "classes", "documents"):
        split = {name: _file(chance, kind, folder, f"x.{name}") for name in ("a", "b")}
    else:
        split = _file(chance, kind, folder, f"rows.{kind}")
    source = {"kind": kind, "splits": {"all": split}, **_says(chance, kind)}
    return Case(source, folder)


def _file(chance: random.Random, kind: str, folder: Path, name: str) -> str:
    content = FILES[kind](chance)
    while chance.random() < 0.5:
        content = spoiled(chance, content)
    return packed(chance, folder, name, content[: 4 * 2**20])


def _says(chance: random.Random, kind: str) -> dict[str, Any]:
    """What else the source says, at random."""
    paths = [".", "data", "data.*.rows", "train", "test.*", "again.1:", "0", "*.*", "data.*.rows.*.a0"]
    elements = ["item", ".//item", ".//a[@id]", "*/*", "."]
    said: dict[str, Any] = {
        "encoding": chance.choice(ENCODINGS),
        "records": chance.choice(elements if kind == "xml" else paths),
        "header": chance.choice([["a"], ["a", "b"], ["text0", "label1", "a2"]]),
        "delimiter": chance.choice([",", ";", "\t", " ", "|"]),
        "quoting": chance.choice(["none", "minimal"]),
        "columns": 2,
        "orient": "columns",
        "lists": ["a", "item"],
        "fields": ["a0"],
        "transforms": [chance.choice(TRANSFORMS)],
    }
    fitting = {key: value for key, value in said.items() if kind in KINDS_OF.get(key, KINDS)}
    chosen = {key: value for key, value in fitting.items() if chance.random() < 0.15}
    return {**chosen, **({"records": said["records"]} if kind == "xml" else {})}


TRANSFORMS = [
    {"rename": {"a0": "b"}},
    {"map": {"field": "a0", "values": {"007": "seven"}, "else": "keep"}},
    {"join": {"fields": ["a0"], "with": "\n", "into": "c"}},
    {"split": {"field": "text0", "by": ","}},
    {"regex": {"field": "text", "pattern": "(a|aa|.)+?$"}},
    {"regex": {"field": "text", "pattern": r"(\w*)\s", "replace": r"\1"}},
    {"cast": {"field": "a0", "to": "json"}},
    {"cast": {"field": "a0", "to": "float"}},
    {"explode": "a0"},
    {"filter": "a0 != ''"},
    {"unescape": "text0"},
]

# --- the laws -----------------------------------------------------------------------------------------------


LONGEST_MESSAGE = 2000  # characters; one line that a person reads


def outcome(case: Case) -> str:
    """Reads a case; `rows`, `error`, or `refused` where the source contradicts itself.

    Raises:
        AssertionError: A law is broken: an error of more than one line, rows that are not the same again, something
            left half-written in the cache.
    """
    try:
        source = SourceChoice.model_validate(case.source)
    except ValidationError:
        return "refused"
    try:
        rows = read_split(source, "all", case.folder, {})
        found, message = _checked(rows, source, case.folder), None
    except FlantuneError as error:
        found, message = "error", str(error)
    assert message is None or (message.isprintable() and len(message) < LONGEST_MESSAGE), ascii(message)
    assert not [path for path in cache.rows_folder().iterdir() if ".unfinished-" in path.name]
    return found


def _checked(rows: Rows, source: SourceChoice, folder: Path) -> str:
    for number, row in enumerate(rows):
        json.dumps(row, ensure_ascii=False).encode()
        assert rows.place(number).startswith(str(folder))
    assert len(rows)
    assert read_split(source, "all", folder, {}).digest == rows.digest
    return "rows"
