"""Malformed files of every kind: each is told in one line that says where, what is wrong and what to do."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import tarfile
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flantune.tasks.sources import binary, json_records, tables, xml, yaml_records
from reading import json_lines, read, rows_of, told

NO_ROWS = ": the file has no rows; give a file with at least one"
DEEP = "not usable JSON: nested more than 100 deep"
FEW = "1 field where 2 are wanted (a, b); check each: "
BY_COMMA = "quote it if it holds a comma or a line end"
BY_TAB = "it can hold no tab and no line end"
ONE = "one JSON object a line is wanted"
NO_LIST = "one object, not a list of records; say with `records` where they lie (`.`: the object is the only one)"
DOCUMENT = "one JSON document is wanted (one a line is `kind: jsonl`)"
NUL = "a NUL character; the file is binary, or in another encoding (`encoding: utf-16`)"
UTF8 = "not UTF-8 text; save it as UTF-8, or name its `encoding`"
UTF16 = "not UTF-8 text; it begins like UTF-16, so say `encoding: utf-16`"

BOMB = (
    "<!DOCTYPE r ["
    + "".join(f'<!ENTITY l{i + 1} "{f"&l{i};" * 10}">' if i else '<!ENTITY l1 "ha">' for i in range(9))
    + "]>\n<r><a>&l9;</a></r>"
)
ALIASES = "- &l0 {a: ha}\n" + "".join(f"- &l{i + 1} {{a: [{', '.join([f'*l{i}'] * 10)}]}}\n" for i in range(9))

CHAIN = "- &l0 {a: x}\n" + "".join(f"- &l{i + 1} {{a: *l{i}}}\n" for i in range(150))

# What the file is, its name, its content, what the source says, and the message after the name of the file.
TEXT = [
    # JSON lines
    (
        "cut in the middle",
        "x.jsonl",
        '{"a": 1}\n{"a": "tw',
        {},
        f":2: not valid JSON at column 7: Unterminated string starting at; {ONE}",
    ),
    ("no quotes", "x.jsonl", '{"a": 1}\n\n{"a": x}\n', {}, f":3: not valid JSON at column 7: Expecting value; {ONE}"),
    (
        "single quotes",
        "x.jsonl",
        "{'a': 1}",
        {},
        f":1: not valid JSON at column 2: Expecting property name enclosed in double quotes; {ONE}",
    ),
    ("two values a line", "x.jsonl", '{"a": 1} {"a": 2}\n', {}, f":1: not valid JSON at column 10: Extra data; {ONE}"),
    ("a list", "x.jsonl", '[{"a": 1}]\n', {}, f":1: a list; {ONE}, or names for its parts in `header`"),
    ("a text", "x.jsonl", '"a"\n', {}, f":1: a text; {ONE}"),
    ("a number", "x.jsonl", "5\n", {}, f":1: a number; {ONE}"),
    ("a truth value", "x.jsonl", "true\n", {}, f":1: a truth value; {ONE}"),
    ("null", "x.jsonl", "null\n", {}, f":1: null; {ONE}"),
    (
        "another number of parts",
        "x.jsonl",
        "[1, 2]\n[1]\n",
        {"header": ["a", "b"]},
        ":2: 1 part where `header` names 2 (a, b)",
    ),
    ("not UTF-8", "x.jsonl", b'{"a": "x"}\n{"a": "\xfc"}\n', {}, f":2: {UTF8}"),
    ("not UTF-8 far into it", "x.jsonl", b'{"a": "x"}\n' * 5000 + b'{"a": "\xff"}\n', {}, f":5001: {UTF8}"),
    ("UTF-16", "x.jsonl", '{"a": 1}'.encode("utf-16"), {}, f":1: {UTF16}"),
    ("a NUL byte", "x.jsonl", b'{"a": 1}\n\0\n', {}, f":2: {NUL}"),
    (
        "half a character",
        "x.jsonl",
        '{"a": "ok"}\n{"a": "\\ud83d"}\n',
        {},
        r":2: half of a character (an escape of \ud800 to \udfff stands alone)",
    ),
    ("nested", "x.jsonl", '{"a": ' + "[" * 100_000, {}, f":1: {DEEP}"),
    ("nested, and closed", "x.jsonl", '{"a": ' + "[" * 100 + "]" * 100 + "}", {}, f":1: {DEEP}"),
    (
        "a long number",
        "x.jsonl",
        '{"a": ' + "9" * 5000 + "}",
        {},
        ":1: not usable JSON: a number of more than 4,300 digits; write it as text",
    ),
    (
        "a large number",
        "x.jsonl",
        '{"a": -1e999}',
        {},
        ":1: the number -1e999 is larger than can be held; write it as text",
    ),
    (
        "NaN",
        "x.jsonl",
        '{"NaN \\" NaN": [1, NaN]}',
        {},
        ":1: not valid JSON at column 20: NaN is no JSON value; write null",
    ),
    (
        "a key twice",
        "x.jsonl",
        '{"a": 1, "b": {"ü": 1, "ü": 2}}',
        {},
        ':1: key "ü" stands twice in one object; keep one',
    ),
    ("empty", "x.jsonl", "", {}, NO_ROWS),
    ("empty lines", "x.jsonl", "\n \n", {}, NO_ROWS),
    # JSON documents
    (
        "cut in the middle",
        "x.json",
        '[\n {"a": 1},\n {"a": \n',
        {},
        f":4: not valid JSON at column 1: Expecting value; {DOCUMENT}",
    ),
    ("lines", "x.json", '{"a": 1}\n{"a": 2}\n', {}, f":2: not valid JSON at column 1: Extra data; {DOCUMENT}"),
    (
        "Infinity",
        "x.json",
        '[\n {"a": -Infinity}]',
        {},
        ":2: not valid JSON at column 8: -Infinity is no JSON value; write null",
    ),
    (
        "half a character",
        "x.json",
        '[{"\\udc00": 1}]',
        {},
        r": half of a character (an escape of \ud800 to \udfff stands alone)",
    ),
    (
        "one object",
        "x.json",
        '{"version": 1, "data": []}',
        {},
        f": {NO_LIST}; its keys: version, data",
    ),
    ("a list of texts", "x.json", '["a"]', {}, ": record 1: a text; an object is wanted"),
    (
        "a list of lists",
        "x.json",
        '[["a", "b"]]',
        {},
        ": record 1: a list; an object is wanted, or names for its parts in `header`",
    ),
    (
        "another number of parts",
        "x.json",
        '[["a", "b"], ["c"]]',
        {"header": ["p", "q"]},
        ": record 2: 1 part where `header` names 2 (p, q)",
    ),
    (
        "a path to nothing",
        "x.json",
        '{"data": [{"x": 1}]}',
        {"at": "dat.*.x"},
        ': the record path \'dat.*.x\' leads nowhere: at the top there is no "dat"; did you mean "data"? (data)',
    ),
    (
        "a path that goes on",
        "x.json",
        '{"data": [{"x": 1}]}',
        {"at": "data.*.y"},
        ": the record path 'data.*.y' leads nowhere: at data.0 there is no \"y\"; known: x",
    ),
    (
        "a path without a star",
        "x.json",
        '{"data": [{"x": 1}]}',
        {"records": "data.x"},
        ": the record path 'data.x' leads nowhere: at data there is a list; write `*` before step \"x\"",
    ),
    (
        "a path into a text",
        "x.json",
        '{"data": "x"}',
        {"records": "data.x"},
        ": the record path 'data.x' leads nowhere: at data there is a text, where step \"x\" needs an object",
    ),
    (
        "a path to null",
        "x.json",
        '{"data": null}',
        {"records": "data"},
        ": the record path 'data' leads nowhere: at data there is null, which holds no records",
    ),
    (
        "a number beyond the end",
        "x.json",
        "[[1]]",
        {"records": "3"},
        ": the record path '3' leads nowhere: at the top there is a list of 1; the first has number 0",
    ),
    (
        "an empty step",
        "x.json",
        "[[1]]",
        {"records": "a..b"},
        ": the record path 'a..b' has an empty step; write one dot between steps",
    ),
    ("an empty list", "x.json", "[]", {}, NO_ROWS),
    ("empty", "x.json", " \n", {}, NO_ROWS),
    (
        "no columns",
        "x.json",
        '[{"a": 1}]',
        {"orient": "columns"},
        ': column "a" is a number; `orient: columns` wants a list of values',
    ),
    (
        "columns of different lengths",
        "x.json",
        '{"a": [1, 2], "b": [1]}',
        {"orient": "columns"},
        ': the columns have different rows: "a" 2, "b" 1; each row needs a value in each',
    ),
    (
        "a column that is none",
        "x.json",
        '{"a": [1], "b": 1}',
        {"orient": "columns"},
        ': column "b" is a number; `orient: columns` wants a list of values',
    ),
    # YAML
    (
        "an object",
        "x.yaml",
        "- a: 1\n- !!python/object/apply:os.system [ls]\n",
        {},
        ":2: not usable YAML: the tag !!python/object/apply:os.system makes an object; records are plain values",
    ),
    (
        "a tag of its own",
        "x.yaml",
        "- a: !Template\n    b: 1\n",
        {},
        ":1: not usable YAML: the tag !Template makes an object; records are plain values",
    ),
    (
        "aliases that multiply",
        "x.yaml",
        ALIASES,
        {},
        ":7: not usable YAML: its aliases stand for more than 100 times its text; write it out",
    ),
    (
        "an alias of itself",
        "x.yaml",
        "- &a {b: [*a]}\n",
        {},
        ":1: not valid YAML: the alias *a stands before its anchor is complete",
    ),
    ("nested", "x.yaml", "- " * 200 + "x", {}, ":1: not usable YAML: nested more than 100 deep"),
    ("nested, in brackets", "x.yaml", "[" * 3000, {}, ":1: not usable YAML: nested more than 100 deep"),
    ("nested by aliases", "x.yaml", CHAIN, {}, ":100: not usable YAML: nested more than 100 deep"),
    ("empty, with a path", "x.yaml", "---\n", {"records": "rows"}, NO_ROWS),
    ("a key twice", "x.yaml", "- a: 1\n  b: 2\n  a: 3\n", {}, ':3: not usable YAML: key "a" stands twice; keep one'),
    (
        "a merged mapping",
        "x.yaml",
        "- &a {b: 1}\n- <<: *a\n",
        {},
        ":2: not usable YAML: `<<` copies from elsewhere; write the fields out",
    ),
    (
        "a key that is a list",
        "x.yaml",
        "- ? [a]\n  : 1\n",
        {},
        ":1: not usable YAML: a key that is not plain text; fields have names",
    ),
    ("a tab", "x.yaml", "- a:\n\t- b\n", {}, ":2: not valid YAML: found character that cannot start any token"),
    ("cut in the middle", "x.yaml", '- a: 1\n- a: "tw', {}, ":2: not valid YAML: found unexpected end of stream"),
    (
        "half a character",
        "x.yaml",
        '- "\\ud83d"\n',
        {},
        ":1: not valid YAML: found invalid Unicode character escape code",
    ),
    (
        "a control character",
        "x.yaml",
        "- a\n- b\x07\n",
        {},
        ":2: not valid YAML: the character U+0007; remove it, or write it as an escape in double quotes",
    ),
    (
        "one mapping",
        "x.yaml",
        "a: 1\n",
        {},
        f": {NO_LIST}; its keys: a",
    ),
    ("a text", "x.yaml", "words\n", {}, ":1: a text; a mapping of fields to values is wanted"),
    (
        "a list of lists",
        "x.yaml",
        "- a: 1\n- [1, 2]\n",
        {},
        ":2: a list; a mapping of fields to values is wanted, or names for its parts in `header`",
    ),
    (
        "a path to nothing",
        "x.yaml",
        "rows: []\n",
        {"records": "row"},
        ': the record path \'row\' leads nowhere: at the top there is no "row"; did you mean "rows"? (rows)',
    ),
    ("comments alone", "x.yaml", "# nothing\n", {}, NO_ROWS),
    # tables
    ("too few fields", "x.csv", "a,b\n1,2\n3\n", {}, f":3: {FEW}{BY_COMMA}"),
    ("too many fields", "x.csv", "a,b\n1,2,3\n", {}, f":2: 3 fields where 2 are wanted (a, b); check each: {BY_COMMA}"),
    ("too few fields after lines in quotes", "x.csv", 'a,b\n"x\ny",2\n3\n', {}, f":4: {FEW}{BY_COMMA}"),
    ("a column twice", "x.csv", "a,b,a\n1,2,3\n", {}, ':1: column "a" stands twice in the header; rename one'),
    (
        "a quote left open",
        "x.csv",
        'a,b\n1,"x\n2,y\n',
        {},
        ':2: not a valid table row: a quote is opened and never closed; a quote inside quotes is written twice ("")',
    ),
    (
        "text after a quote",
        "x.csv",
        'a,b\n1,"x"y\n',
        {},
        ":2: not a valid table row: text between a closing quote and the next comma; a quote inside quotes is written "
        'twice (""), or say `quoting: none`',
    ),
    ("the header alone", "x.csv", "a,b\n", {}, NO_ROWS),
    ("empty", "x.csv", "", {}, NO_ROWS),
    ("not UTF-8", "x.csv", b"a,b\nx,y\n\xfc,z\n", {}, f":3: {UTF8}"),
    ("UTF-16 without its mark", "x.csv", "a,b\n1,2\n".encode("utf-16-le"), {}, f":1: {NUL}"),
    (
        "too many fields",
        "x.tsv",
        "a\tb\n1\t2\t3\n",
        {},
        f":2: 3 fields where 2 are wanted (a, b); check each: {BY_TAB}",
    ),
    (
        "a space too few",
        "x.tsv",
        "HUM:ind Who ?\nHUM\n",
        {"delimiter": " ", "columns": 2, "header": ["a", "b"]},
        f":2: {FEW}it can hold no space and no line end",
    ),
    (
        "another encoding",
        "x.csv",
        "a,b\n日,本\n".encode(),
        {"encoding": "ascii"},
        ":2: not ascii text; check the `encoding` of the source",
    ),
    # CoNLL, XML
    ("one field", "x.conll", "EU B-ORG\nrejects\n", {}, ":2: one field where a token and a tag are wanted"),
    ("empty lines", "x.conll", "\n-DOCSTART- O\n\n", {}, NO_ROWS),
    (
        "an element left open",
        "x.xml",
        "<r>\n<a>x</a>\n<a>y\n",
        {"records": "a"},
        ":4: not valid XML at column 1: no element found",
    ),
    (
        "elements that cross",
        "x.xml",
        "<r>\n <a><b></a></b></r>",
        {"records": "a"},
        ":2: not valid XML at column 10: mismatched tag",
    ),
    (
        "an ampersand",
        "x.xml",
        "<r><a>you & me</a></r>",
        {"records": "a"},
        ":1: not valid XML at column 12: not well-formed (invalid token)",
    ),
    (
        "entities that multiply",
        "x.xml",
        BOMB,
        {"records": "a"},
        ':1: not usable XML: it declares the entity "l1"; write the characters themselves',
    ),
    (
        "a file as an entity",
        "x.xml",
        '<!DOCTYPE r [\n<!ENTITY e SYSTEM "file:///etc/passwd">]>\n<r><a>&e;</a></r>',
        {"records": "a"},
        ':2: not usable XML: it declares the entity "e"; write the characters themselves',
    ),
    (
        "an entity of a file elsewhere",
        "x.xml",
        '<!DOCTYPE r SYSTEM "http://x.org/r.dtd">\n<r><a>&nbsp;</a></r>',
        {"records": "a"},
        ':2: not usable XML: the entity "nbsp" is defined elsewhere; write the character itself',
    ),
    (
        "an entity of nowhere",
        "x.xml",
        "<r><a>&nbsp;</a></r>",
        {"records": "a"},
        ":1: not valid XML at column 7: undefined entity",
    ),
    (
        "nested",
        "x.xml",
        "<a>" * 200 + "</a>" * 200,
        {"records": "a"},
        ":1: not usable XML: elements nested more than 100 deep",
    ),
    (
        "no such element",
        "x.xml",
        "<r><items><item/></items></r>",
        {"records": "items/itm"},
        ': no element at the path "items/itm"; did you mean "item"? (item, items, r)',
    ),
    (
        "an unknown encoding",
        "x.xml",
        '<?xml version="1.0" encoding="klingon"?><r/>',
        {"records": "."},
        ": not readable XML: unknown encoding: klingon; name its encoding in `encoding`",
    ),
    (
        "not UTF-8",
        "x.xml",
        b"<r>\n<a>\xfc</a></r>",
        {"records": "a"},
        ":2: not valid XML at column 4: not well-formed (invalid token)",
    ),
    ("empty", "x.xml", "", {"records": "a"}, ":1: not valid XML at column 1: no element found"),
]


@pytest.mark.parametrize(
    ("name", "content", "source", "message"), [case[1:] for case in TEXT], ids=[f"{case[1]} {case[0]}" for case in TEXT]
)
def test_a_malformed_text_file_is_told(tmp_path, name, content, source, message):
    assert told(rows_of, tmp_path, content, name, **source) == f"{tmp_path}/{name}{message}"


def in_folder(folder, **files):
    for name, content in files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


# --- Parquet and Arrow --------------------------------------------------------------------------------------


@pytest.fixture
def table():
    return pa.table({"a": ["some words"] * 200, "n": list(range(200))})


def parquet_of(table):
    stream = io.BytesIO()
    pq.write_table(table, stream)
    return stream.getvalue()


def arrow_of(table, make=pa.ipc.new_file):
    stream = io.BytesIO()
    with make(stream, table.schema) as writer:
        writer.write_table(table)
    return stream.getvalue()


AGAIN = "; fetch or write it again"


def test_a_parquet_file_that_is_cut_or_no_such_file_is_told(tmp_path, table):
    # What stands between is the library's own.
    whole = parquet_of(table)
    for content in (whole[:-20], whole[: len(whole) // 2], b"PAR1", b"a,b\n1,2\n" * 9):
        message = told(rows_of, tmp_path, content, "x.parquet")
        assert message.startswith(f"{tmp_path}/x.parquet: not a readable Parquet file: ")
        assert message.endswith(AGAIN)
    assert told(rows_of, tmp_path, b"", "x.parquet") == (
        f"{tmp_path}/x.parquet: not a readable Parquet file: Parquet file size is 0 bytes{AGAIN}"
    )


def test_an_arrow_file_that_is_cut_or_no_such_file_is_told(tmp_path, table):
    for whole in (arrow_of(table), arrow_of(table, pa.ipc.new_stream)):
        for content in (whole[:-300], whole[: len(whole) // 2], whole[:9], b"ARROW1", b"a,b\n1,2\n"):
            message = told(rows_of, tmp_path, content, "x.arrow")
            assert message.startswith(f"{tmp_path}/x.arrow: not a readable Arrow file: ")
            assert message.endswith(AGAIN)
    assert told(rows_of, tmp_path, b"FEA1" + b"\0" * 99, "x.arrow") == (
        f"{tmp_path}/x.arrow: a Feather file of version 1, which is read no more; write it again"
    )


def test_a_column_that_stands_twice_is_told(tmp_path):
    table = pa.Table.from_arrays([pa.array(["x"]), pa.array(["y"])], names=["a", "a"])
    for name, content in (("x.parquet", parquet_of(table)), ("x.arrow", arrow_of(table))):
        assert told(rows_of, tmp_path, content, name) == f'{tmp_path}/{name}: column "a" stands twice; rename one'


def test_a_value_that_python_cannot_hold_is_told_with_its_field(tmp_path):
    table = pa.table({"a": ["x"] * 300, "day": pa.array([0] * 299 + [10**9], pa.date32())})
    message = told(rows_of, tmp_path, parquet_of(table), "x.parquet")
    assert message.startswith(f'{tmp_path}/x.parquet: records 257 to 300: field "day" cannot be read: ')
    assert message.endswith("; leave it out with `fields`")


def test_damage_inside_an_arrow_file_is_told_and_not_followed(tmp_path):
    content = bytearray(arrow_of(pa.table({"a": ["words", "and more"]})))
    at = content.index(b"\x00\x00\x00\x00\x05\x00\x00\x00\x0d\x00\x00\x00")
    content[at + 8 : at + 12] = b"\xff\xff\xff\x7f"  # where the second text ends
    message = told(rows_of, tmp_path, bytes(content), "x.arrow")
    assert message.startswith(f"{tmp_path}/x.arrow: not a readable Arrow file: ")


def test_a_size_beyond_all_memory_is_told(tmp_path, table):
    content = bytearray(arrow_of(table, pa.ipc.new_stream))
    messages = pa.ipc.MessageReader.open_stream(bytes(content))
    messages.read_next_message()  # the schema
    size = messages.read_next_message().body.size
    at = content.index(size.to_bytes(8, "little"))
    content[at : at + 8] = (2**60).to_bytes(8, "little")
    assert told(rows_of, tmp_path, bytes(content), "x.arrow") == (
        f"{tmp_path}/x.arrow: not a readable Arrow file: it asks for too much memory{AGAIN}"
    )


def test_what_a_message_quotes_from_a_file_is_short(tmp_path):
    name = "x" * 10**6
    for file, content in {
        "x.csv": f"{name},b\n1\n",
        "x.jsonl": f'{{"{name}": 1, "{name}": 2}}',
        "x.json": f'{{"{name}": 1}}',
        "x.yaml": f"- *{name}\n",
        "x.xml": f"<!DOCTYPE r [<!ENTITY {name} 'x'>]><r/>",
    }.items():
        source = {"records": "a"} if file == "x.xml" else {}
        assert len(told(rows_of, tmp_path, content, file, **source)) < len(str(tmp_path)) + 300


def test_what_a_message_quotes_from_a_file_moves_no_cursor_and_hides_nothing(tmp_path):
    assert told(rows_of, tmp_path, "\x1b[31mü\u202e,\x1b[31mü\u202e\n1,2\n", "x.csv") == (
        f'{tmp_path}/x.csv:1: column "\\x1b[31mü\\u202e" stands twice in the header; rename one'
    )


# --- files that are compressed, archives, files that belong together ----------------------------------------


@pytest.mark.parametrize(("suffix", "compress"), [("gz", gzip.compress), ("xz", lzma.compress), ("bz2", bz2.compress)])
def test_a_compressed_file_that_is_cut_is_told(tmp_path, suffix, compress):
    whole = compress(json_lines([{"a": i} for i in range(9999)]).encode())
    message = told(rows_of, tmp_path, whole[: len(whole) // 2], f"x.jsonl.{suffix}")
    assert message.startswith(f"{tmp_path}/x.jsonl.{suffix}: damaged compressed file: ")
    assert message.endswith("; fetch it again")


def test_a_member_that_an_archive_lacks_is_told(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("docs/train.jsonl", '{"a": 1}\n')
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "x.zip", "docs/train.jsonl")
    for name in ("x.zip", "x.tar.gz"):
        assert told(read, tmp_path, kind="jsonl", splits={"all": f"{name}!docs/trian.jsonl"}) == (
            f'{tmp_path}/{name}: no file "docs/trian.jsonl" in this archive; did you mean "docs/train.jsonl"? '
            "(docs/train.jsonl)"
        )


def test_an_archive_with_a_name_that_is_no_text_or_of_a_version_to_come_is_told(tmp_path):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("grün.jsonl", '{"a": 1}\n')
    whole = stream.getvalue()
    in_folder(tmp_path, **{"name.zip": whole.replace("ü".encode(), b"\xff\xff")})
    at = whole.index(b"PK\x01\x02") + 6  # the version that reading the file needs
    in_folder(tmp_path, **{"version.zip": whole[:at] + b"\xff" + whole[at + 1 :]})
    assert told(read, tmp_path, kind="jsonl", splits={"all": "name.zip!*"}) == (
        f"{tmp_path}/name.zip: damaged archive: 'utf-8' codec can't decode byte 0xff in position 2: invalid start byte"
        "; fetch it again"
    )
    assert told(read, tmp_path, kind="jsonl", splits={"all": "version.zip!*"}) == (
        f"{tmp_path}/version.zip: is packed in a way that Python does not read: zip file version 25.5; pack it anew"
    )


def test_parallel_files_of_different_lengths_and_empty_ones_are_told(tmp_path):
    in_folder(tmp_path, a="one\ntwo\n", b="eins\n", c="", d="1\n2\n3\n")

    def message(**files):
        return told(read, tmp_path, kind="parallel", splits={"all": files})

    assert message(en="a", de="b") == (
        f"{tmp_path}/a: parallel files with different numbers of lines: a 2, b 1; line i belongs to line i"
    )
    assert message(en="a", de=["a", "d"], x="c") == (
        f"{tmp_path}/a: parallel files with different numbers of lines: a 2, a 2, d 3, c 0; line i belongs to line i"
    )
    assert message(x="c", y="c") == f"{tmp_path}/c{NO_ROWS}"


def test_a_file_beside_with_fewer_or_more_lines_than_rows_is_told(tmp_path):
    in_folder(tmp_path, rows=json_lines([{"a": 1}, {"a": 2}]), few="0\n", many="0\n1\n1\n")

    def message(name):
        return told(read, tmp_path, kind="jsonl", splits={"all": "rows"}, beside={"label": {"all": name}})

    assert message("few") == (
        f'{tmp_path}/few: more rows than lines: line i is the field "label" of row i, and there are 1 lines'
    )
    assert message("many") == (
        f'{tmp_path}/many: more lines than rows: line i is the field "label" of row i, and there are 2 rows'
    )


# --- files that are too large -------------------------------------------------------------------------------


def test_what_would_not_fit_into_memory_is_refused_with_a_way_out(tmp_path, monkeypatch):
    monkeypatch.setattr(json_records, "LARGEST_DOCUMENT", 2**20)
    monkeypatch.setattr(yaml_records, "LARGEST_DOCUMENT", 2**20)
    monkeypatch.setattr(tables, "LARGEST_FIELD", 2**20)
    monkeypatch.setattr(xml, "LARGEST_RECORD", 2**20)
    monkeypatch.setattr(binary, "LARGEST_UNPACKED", 2**10)
    long = "x" * (2**20 + 1)
    assert told(rows_of, tmp_path, json.dumps([{"a": long}]), "x.json") == (
        f"{tmp_path}/x.json: a JSON document of more than 1 MiB is not read whole; write one record a line and say "
        "`kind: jsonl`"
    )
    assert told(rows_of, tmp_path, f"rows:\n- a: {long}\n", "x.yaml", records="rows") == (
        f"{tmp_path}/x.yaml: a YAML document of more than 1 MiB is not read whole; make its top a list of records"
    )
    assert len(rows_of(tmp_path, f"- a: {long}\n", "x.yaml")) == 1
    assert told(rows_of, tmp_path, f'a,b\n1,"x\n{long}\n', "x.csv") == (
        f"{tmp_path}/x.csv:2: not a valid table row: a field of more than 1 MiB; is a quote left open?"
    )
    assert told(rows_of, tmp_path, f"<r><a>{long}</a></r>", "x.xml", records=".") == (
        f"{tmp_path}/x.xml:1: not usable XML: a record of more than 1 MiB; name smaller elements in `records`"
    )
    assert told(rows_of, tmp_path, f"<r><!--{long * 2}--><a>x</a></r>", "x.xml", records="a") == (
        f"{tmp_path}/x.xml:1: not usable XML: a tag or a comment of more than 1 MiB; take it out"
    )
    unpacked = parquet_of(pa.table({"a": [str(i) for i in range(999)]}))
    assert told(rows_of, tmp_path, gzip.compress(unpacked), "x.parquet.gz") == (
        f"{tmp_path}/x.parquet.gz: unpacks to more than 0 MiB, which must be held whole; unpack it first"
    )
