"""Readers of text files: JSON lines and documents, YAML, tables, parallel text, classes, CoNLL columns."""

from __future__ import annotations

import csv
import gzip
import io
import json

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from flantune.tasks.sources.conll import entities
from flantune.tasks.sources.record_path import records
from flantune.tasks.sources.yaml_records import plain_scalar
from reading import AWKWARD, WITH_LINE_ENDS, json_lines, lines_of, parsed, read, rows_of, texts

scalars = texts | st.integers() | st.booleans() | st.none() | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3))
json_rows = st.lists(st.dictionaries(texts, values, max_size=4), min_size=1, max_size=6)

# --- text stays text ----------------------------------------------------------------------------------------


def as_csv(rows, delimiter=",", **how):
    stream = io.StringIO(newline="")
    names = list(rows[0])
    writer = csv.writer(stream, delimiter=delimiter, lineterminator="\n", **how)
    writer.writerows([names, *([row[name] for name in names] for row in rows)])
    return stream.getvalue()


WRITERS = {
    "jsonl": json_lines,
    "json": lambda rows: json.dumps(rows, indent=1),
    "csv": as_csv,
    "tsv": lambda rows: "\n".join("\t".join(row.values()) for row in [dict(zip(rows[0], rows[0], strict=True)), *rows]),
    "yaml": lambda rows: yaml.safe_dump(rows, allow_unicode=True),
    "ascii.yaml": yaml.safe_dump,
    "folded.yaml": lambda rows: yaml.safe_dump(rows, default_style=">", allow_unicode=True),
}


@pytest.mark.parametrize(
    ("kind", "text"),
    [(kind, text) for kind in WRITERS for text in AWKWARD + (WITH_LINE_ENDS if kind != "tsv" else [])],
)
def test_text_stays_text_in_every_kind_of_file(tmp_path, kind, text):
    rows = [{"a": text, "b": "x"}, {"a": "y", "b": text}]
    found = rows_of(tmp_path, WRITERS[kind](rows), f"rows.{kind}", kind=kind.rpartition(".")[2])
    assert list(found) == rows


# --- JSON lines ---------------------------------------------------------------------------------------------


@given(rows=json_rows)
def test_json_lines_are_read_as_they_are(tmp_path_factory, rows):
    assert parsed(tmp_path_factory.mktemp("json"), json_lines(rows), "rows.jsonl") == rows


def test_empty_lines_a_missing_last_line_end_and_windows_line_ends_make_no_difference(tmp_path):
    found = rows_of(tmp_path, '{"a": 1}\r\n\n  \r\n{"a": 2}', "rows.jsonl")
    assert list(found) == [{"a": 1}, {"a": 2}]
    assert lines_of(found) == ["1", "4"]


def test_numbers_truth_and_text_of_json_stay_apart(tmp_path):
    row = {"a": "007", "b": 7, "c": True, "d": None, "e": 1.5, "f": ["no", {"g": "NA"}], "h": "ü🙂"}
    assert list(rows_of(tmp_path, json.dumps(row), "rows.jsonl")) == [row]


def test_the_two_halves_of_a_character_in_escapes_are_one_character(tmp_path):
    assert list(rows_of(tmp_path, rb'{"a": "\ud83d\ude42"}', "rows.jsonl")) == [{"a": "🙂"}]


def test_lines_that_are_lists_take_their_names_from_the_header(tmp_path):
    found = rows_of(tmp_path, '["5", "good"]\n[1, null]\n{"stars": 3}\n', "rows.jsonl", header=["stars", "text"])
    assert list(found) == [{"stars": "5", "text": "good"}, {"stars": 1, "text": None}, {"stars": 3}]


def test_rows_of_json_know_their_line_or_their_number(tmp_path):
    rows = [{"a": i} for i in range(12)]
    assert lines_of(rows_of(tmp_path, json_lines(rows), "x.jsonl")) == [str(i) for i in range(1, 13)]
    assert lines_of(rows_of(tmp_path, json.dumps(rows), "x.json")) == [f"record {i}" for i in range(1, 13)]


# --- JSON documents -----------------------------------------------------------------------------------------


@given(rows=json_rows, indent=st.sampled_from([None, 0, 2]))
def test_a_json_list_has_the_rows_of_the_same_lines(tmp_path_factory, rows, indent):
    folder = tmp_path_factory.mktemp("json")
    assert parsed(folder, json.dumps(rows, indent=indent), "rows.json") == rows
    assert parsed(folder, json_lines(rows), "rows.jsonl") == rows


questions = st.lists(st.fixed_dictionaries({"id": texts, "answers": st.lists(texts, max_size=2)}), max_size=3)
paragraphs = st.lists(st.fixed_dictionaries({"context": texts, "qas": questions}), max_size=3)
articles = st.lists(st.fixed_dictionaries({"title": texts, "id": texts, "paragraphs": paragraphs}), max_size=3)


@given(data=articles)
def test_records_inside_records_bring_along_what_is_said_above_them_and_the_inner_one_wins(data):
    document = {"version": "2.0", "data": data, "notes": ["none"]}
    expected = [
        {"version": "2.0", "title": article["title"], "context": paragraph["context"], **question}
        for article in data
        for paragraph in article["paragraphs"]
        for question in paragraph["qas"]
    ]
    for path in ("data.*.paragraphs.*.qas.*", "data.*.paragraphs.*.qas"):
        found = [{**record.outer, **record.value} for record in records(document, path, "file")]
        assert found == expected
    assert [record.number for record in records(document, path, "file")] == list(range(1, len(expected) + 1))


DOCUMENT = {
    "train": [["how are you", "greet"], ["bye", "leave"]],
    "by id": {"q1": {"text": "one"}, "q2": {"text": "two", "key": "own"}},
    "v1.0": [{"a": 1}],
    "single": {"a": 1, "b": [2]},
    "texts": {"greet": ["hi", "hello"], "leave": ["bye"]},
    "some": [{"qas": [{"a": 1}]}, {"other": 1}, {"qas": None}, {"qas": [{"a": 2}]}],
}


@pytest.mark.parametrize(
    ("path", "header", "rows"),
    [
        ("train", ["text", "intent"], [{"text": "how are you", "intent": "greet"}, {"text": "bye", "intent": "leave"}]),
        (
            "train.*",
            ["text", "intent"],
            [{"text": "how are you", "intent": "greet"}, {"text": "bye", "intent": "leave"}],
        ),
        ("train.1:", ["text", "intent"], [{"text": "bye", "intent": "leave"}]),
        ("train.:-1", ["text", "intent"], [{"text": "how are you", "intent": "greet"}]),
        ("train.0", ["text"], [{"text": "how are you"}, {"text": "greet"}]),
        ("by id.*", None, [{"key": "q1", "text": "one"}, {"key": "own", "text": "two"}]),
        (r"v1\.0", None, [{"a": 1}]),
        ("single", None, [{"a": 1, "b": [2]}]),
        (
            "texts.*.*",
            ["text"],
            [{"key": "greet", "text": "hi"}, {"key": "greet", "text": "hello"}, {"key": "leave", "text": "bye"}],
        ),
        ("some.*.qas", None, [{"a": 1}, {"a": 2}]),
        ("some.1:.qas", None, [{"a": 2}]),
    ],
)
@pytest.mark.parametrize("kind", ["json", "yaml"])
def test_a_record_path_leads_to(tmp_path, kind, path, header, rows):
    content = json.dumps(DOCUMENT)
    assert list(rows_of(tmp_path, content, "rows.json", kind=kind, records=path, header=header)) == rows
    assert list(rows_of(tmp_path, content, "rows.json", kind=kind, at=path, header=header)) == rows


def test_numbers_of_records_count_those_outside_a_slice(tmp_path):
    found = rows_of(tmp_path, json.dumps({"rows": [{"a": i} for i in range(9)]}), "x.json", records="rows.5:7")
    assert lines_of(found) == ["record 6", "record 7"]


def test_a_document_that_is_itself_the_record_is_said_by_a_dot(tmp_path):
    assert list(rows_of(tmp_path, '{"problem": "1+1", "steps": [1]}', "x.json", records=".")) == [
        {"problem": "1+1", "steps": [1]}
    ]


@settings(max_examples=40)
@given(data=st.data())
def test_columns_as_pandas_writes_them_are_the_rows_that_were_written(tmp_path_factory, data):
    pandas = pytest.importorskip("pandas")
    names = data.draw(st.lists(texts.filter(bool), min_size=1, max_size=3, unique=True))
    rows = data.draw(st.lists(st.fixed_dictionaries(dict.fromkeys(names, texts)), min_size=1, max_size=4))
    frame = pandas.DataFrame(rows, dtype=object)
    folder = tmp_path_factory.mktemp("columns")
    for content in (frame.to_json(), json.dumps(frame.to_dict("list"))):
        assert parsed(folder, content, "x.json", orient="columns") == rows
    nested = json.dumps({"name": "v1", "table": frame.to_dict("list")})
    assert parsed(folder, nested, "x.json", orient="columns", records="table") == [
        {"name": "v1", **row} for row in rows
    ]


# --- YAML ---------------------------------------------------------------------------------------------------

printable = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Cn"]) | st.sampled_from("\n\t\x85\u2028"), max_size=20
)
plain_values = st.recursive(
    printable | st.integers() | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(printable, inner, max_size=3),
)


@given(
    rows=st.lists(st.dictionaries(printable, plain_values, max_size=4), min_size=1, max_size=5),
    style=st.sampled_from([None, '"', "'", "|", ">"]),
    flow=st.booleans(),
    unicode=st.booleans(),
)
def test_rows_that_yaml_writes_are_read_as_they_were(tmp_path_factory, rows, style, flow, unicode):
    text = yaml.safe_dump(rows, default_style=style, default_flow_style=flow, allow_unicode=unicode)
    assume(style not in ("|", ">") or not {"\x85", "\u2028"} & set(text))  # which the writer cannot read back either
    # With a style for all, numbers are written as text with a tag: `!!int "5"`.
    assert parsed(tmp_path_factory.mktemp("yaml"), text, "rows.yaml") == rows


@pytest.mark.parametrize("text", [WRITERS["yaml"]([{"a": text}]) for text in AWKWARD + WITH_LINE_ENDS])
def test_yaml_is_read_alike_where_its_c_library_is_missing(tmp_path, monkeypatch, text):
    usual = parsed(tmp_path, text, "rows.yaml")
    monkeypatch.delattr(yaml, "CSafeLoader")
    assert parsed(tmp_path, text, "rows.yaml") == usual


@given(rows=st.lists(st.dictionaries(printable, plain_values, max_size=3), min_size=1, max_size=4), path=st.booleans())
def test_json_is_yaml(tmp_path_factory, rows, path):
    text = json.dumps({"rows": rows} if path else rows, ensure_ascii=False)
    source = {"records": "rows"} if path else {}
    assert parsed(tmp_path_factory.mktemp("yaml"), text, "rows.yaml", **source) == rows


@given(text=st.text("0123456789+-._eExXoOaAnNfFsStTrRuUlL~: ", max_size=8))
def test_a_plain_scalar_that_becomes_a_number_prints_as_it_was_written(text):
    value = plain_scalar(text)
    if isinstance(value, int | float) and not isinstance(value, bool):
        assert repr(value) == text
    else:
        assert value == text or text.lower() in ("", "~", "null", "true", "false")


def test_line_ends_of_yaml_are_those_of_version_1_2(tmp_path):
    found = rows_of(
        tmp_path, '- {a: "x\u2028y\x85z", b: "p \u2029  q"}\n- a: |\n    one \u2028two\x85three\n', "x.yaml"
    )
    assert list(found) == [{"a": "x\u2028y\x85z", "b": "p \u2029  q"}, {"a": "one \u2028two\x85three\n"}]


def test_records_of_yaml_know_their_line(tmp_path):
    content = "# made by hand\n- a: 1\n  b: |\n    text\n\n- {a: 2}\n- a: &three\n    3\n- a: *three\n"
    found = rows_of(tmp_path, content, "x.yaml")
    assert (list(found)[2:], lines_of(found)) == ([{"a": 3}, {"a": 3}], ["2", "6", "7", "9"])
    nested = "meta: x\nrows:\n  first:\n    a: 1\n\n  second: {a: 2}\ntexts:\n- p\n\n- q\n"
    assert lines_of(rows_of(tmp_path, nested, "x.yaml", at="rows.*")) == ["3", "6"]
    assert lines_of(rows_of(tmp_path, nested, "x.yaml", at="texts", header=["t"])) == ["8", "10"]
    assert lines_of(rows_of(tmp_path, nested, "x.yaml", at=".")) == ["1"]


def test_each_document_of_a_yaml_file_is_a_record_or_a_list_of_them(tmp_path):
    content = "---\na: 1\n---\na: 2\n--- # nothing\n---\n- a: 3\n- a: 4\n...\n"
    found = rows_of(tmp_path, content, "x.yaml")
    assert (list(found), lines_of(found)) == ([{"a": 1}, {"a": 2}, {"a": 3}, {"a": 4}], ["2", "4", "7", "8"])


def test_a_tag_that_says_what_a_value_is_anyway_is_read(tmp_path):
    found = rows_of(tmp_path, '- !!map {a: !!str 007, b: !!int "7", c: !!seq [5], d: !!null ""}\n', "x.yaml")
    assert list(found) == [{"a": "007", "b": 7, "c": [5], "d": None}]


# --- CSV and TSV --------------------------------------------------------------------------------------------

names = st.lists(
    texts.filter(lambda text: text == text.strip() and text and not text.startswith("\ufeff")),
    min_size=1,
    max_size=4,
    unique=True,
)


@st.composite
def tables(draw):
    header = draw(names)
    return header, draw(st.lists(st.lists(texts, min_size=len(header), max_size=len(header)), min_size=1, max_size=5))


@given(table=tables(), line_end=st.sampled_from(["\n", "\r\n"]), bom=st.booleans(), delimiter=st.sampled_from(",;\t|"))
def test_a_table_that_python_writes_is_read_as_it_was(tmp_path_factory, table, line_end, bom, delimiter):
    header, rows = table
    stream = io.StringIO(newline="")
    csv.writer(stream, delimiter=delimiter, lineterminator=line_end, quoting=csv.QUOTE_ALL).writerows([header, *rows])
    content = stream.getvalue().encode("utf-8-sig" if bom else "utf-8")
    found = parsed(tmp_path_factory.mktemp("csv"), content, "rows.csv", delimiter=delimiter)
    assert [list(row) for row in found] == [header] * len(rows)
    assert [list(row.values()) for row in found] == rows


@settings(max_examples=50)
@given(table=tables())
def test_a_table_is_read_as_pandas_reads_its_text(tmp_path_factory, table):
    pandas = pytest.importorskip("pandas")
    header, rows = table
    assume(not any("\r" in cell for cells in (header, *rows) for cell in cells))  # pandas ends a line there
    assume(not any(cells == [""] for cells in rows))  # an empty line
    folder = tmp_path_factory.mktemp("csv")
    content = as_csv([dict(zip(header, cells, strict=True)) for cells in rows])
    found = parsed(folder, content, "rows.csv")
    frame = pandas.read_csv(folder / "rows.csv", dtype=str, keep_default_na=False, na_filter=False)
    assert found == frame.to_dict("records")


plain_cells = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)


@given(
    rows=st.lists(st.lists(plain_cells, min_size=2, max_size=2), min_size=1, max_size=5),
    delimiter=st.sampled_from(["\t", " ||| ", "<::::>", "\u00a7"]),
)
def test_what_is_not_quoted_is_what_stands_between_the_delimiters(tmp_path_factory, rows, delimiter):
    assume(not any(delimiter in delimiter.join(cells).replace(delimiter, "", 1) for cells in rows))
    assume(not any(cell.endswith(part) for cell, _ in rows for part in (" ", "<", "|")))
    content = "".join(delimiter.join(cells) + "\n" for cells in rows)
    found = parsed(tmp_path_factory.mktemp("tsv"), content, "x.tsv", delimiter=delimiter, header=["a", "b"])
    assert [list(row.values()) for row in found] == [cells for cells in rows if delimiter.join(cells)]


def test_quoted_cells_hold_line_ends_commas_and_quotes_and_rows_know_where_they_begin(tmp_path):
    content = 'id,text\n1,"two\nlines, and ""quotes"""\n2,"three\r\n\nlines"\n\n3,end\n'
    found = rows_of(tmp_path, content, "rows.csv")
    assert [row["text"] for row in found] == ['two\nlines, and "quotes"', "three\r\n\nlines", "end"]
    assert lines_of(found) == ["2", "4", "8"]


def test_a_carriage_return_ends_a_line_of_a_csv_and_is_text_in_quotes(tmp_path):
    found = rows_of(tmp_path, 'a,b\n"x\ry",1\r2,3\n4,5\n', "rows.csv")
    assert [list(row.values()) for row in found] == [["x\ry", "1"], ["2", "3"], ["4", "5"]]
    assert lines_of(found) == ["2", "2", "3"]


def test_quotes_in_a_tsv_are_text_unless_the_source_says_otherwise(tmp_path):
    content = 'a\tb\n"x y"\t"z"" w"\n'
    assert list(rows_of(tmp_path, content, "rows.tsv")) == [{"a": '"x y"', "b": '"z"" w"'}]
    assert list(rows_of(tmp_path, content, "rows.tsv", quoting="minimal")) == [{"a": "x y", "b": 'z" w'}]
    assert list(rows_of(tmp_path, 'a,b\n"x,"y"\n', "rows.csv", quoting="none")) == [{"a": '"x', "b": '"y"'}]


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("kind", ["csv", "tsv"])
def test_lines_of_a_table_end_as_on_any_system(tmp_path, kind, line_end):
    content = f"a,b{line_end}1,2{line_end}3,4{line_end}".replace(",", "," if kind == "csv" else "\t")
    found = rows_of(tmp_path, content, f"rows.{kind}")
    assert (list(found), lines_of(found)) == ([{"a": "1", "b": "2"}, {"a": "3", "b": "4"}], ["2", "3"])


def test_a_carriage_return_inside_a_line_of_a_tsv_is_text(tmp_path):
    assert list(rows_of(tmp_path, "a\tb\nx\ry\tz\r\n", "rows.tsv")) == [{"a": "x\ry", "b": "z"}]


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "json", "yaml"])
def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path, kind):
    content = WRITERS[kind]([{"a": "1", "b": "2"}])
    assert list(rows_of(tmp_path, b"\xef\xbb\xbf" + content.encode(), f"rows.{kind}")) == [{"a": "1", "b": "2"}]


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1", "cp1252", "shift_jis", "utf-8-sig"])
@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "json", "yaml"])
def test_text_in_another_encoding_is_read_where_the_source_names_it(tmp_path, kind, encoding):
    text = {"shift_jis": "日本", "utf-16": "日本 ü🙂"}.get(encoding, "größer")
    content = WRITERS[kind]([{"a": text, "b": ""}]).encode(encoding)
    assert list(rows_of(tmp_path, content, f"rows.{kind}", encoding=encoding)) == [{"a": text, "b": ""}]


def test_a_header_in_the_task_names_the_columns_of_a_file_without_one(tmp_path):
    found = rows_of(tmp_path, "5,good\n1,bad\n", "rows.csv", header=["stars", "text"])
    assert list(found) == [{"stars": "5", "text": "good"}, {"stars": "1", "text": "bad"}]
    assert lines_of(found) == ["1", "2"]


def test_a_column_without_a_name_gets_its_number(tmp_path):
    found = rows_of(tmp_path, ",text, stars \n0,good,5\n", "rows.csv")
    assert list(found) == [{"column_1": "0", "text": "good", "stars": "5"}]


@pytest.mark.parametrize("kind", ["csv", "tsv"])
def test_the_last_column_may_take_the_rest_of_the_line(tmp_path, kind):
    content = 'DESC:manner How did "it" end ?\nHUM:ind Who, then  ?\n'
    source = {"delimiter": " ", "columns": 2, "header": ["label", "text"]}
    assert list(rows_of(tmp_path, content, f"rows.{kind}", **source)) == [
        {"label": "DESC:manner", "text": 'How did "it" end ?'},
        {"label": "HUM:ind", "text": "Who, then  ?"},
    ]
    found = rows_of(tmp_path, "label text\n1 a b c\n", f"rows.{kind}", delimiter=" ", columns=2)
    assert list(found) == [{"label": "1", "text": "a b c"}]


def test_a_cell_may_hold_a_book(tmp_path):
    assert len(rows_of(tmp_path, f"a,b\n{'x' * 300_000},y\n", "rows.csv")[0]["a"]) == 300_000


# --- parallel text and classes ------------------------------------------------------------------------------


def test_line_i_of_one_file_belongs_to_line_i_of_the_other(tmp_path):
    (tmp_path / "a.txt").write_bytes("one \u2028 line\r\n\nthree".encode())
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"eins\nzwei\rzwei\ndrei\n"))
    found = read(tmp_path, kind="parallel", splits={"all": {"en": "a.txt", "de": "b.txt.gz"}})
    assert list(found) == [
        {"en": "one \u2028 line", "de": "eins"},
        {"en": "", "de": "zwei\rzwei"},
        {"en": "three", "de": "drei"},
    ]
    assert found.place(2) == f"{tmp_path}/a.txt:3"


lines = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\n\r"), max_size=12)


@given(rows=st.lists(st.tuples(lines, lines, lines, lines), min_size=1, max_size=6))
def test_a_list_of_files_is_a_list_in_each_row(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("parallel")
    assume(not any(text.startswith("\ufeff") for text in rows[0]))
    for number, column in enumerate(zip(*rows, strict=True)):
        (folder / f"{number}.txt").write_text("".join(line + "\n" for line in column), encoding="utf-8", newline="")
    files = {"source": "0.txt", "references": ["1.txt", "2.txt"], "one": ["3.txt"]}
    found = read(folder, kind="parallel", splits={"all": files})
    assert list(found) == [{"source": a, "references": [b, c], "one": [d]} for a, b, c, d in rows]


def test_the_class_of_a_line_is_that_of_its_file(tmp_path):
    (tmp_path / "pos").write_bytes(b"good film \r\n\n  fine\n")
    (tmp_path / "neg.gz").write_bytes(gzip.compress(b"bad film\n \n"))
    found = read(tmp_path, kind="classes", splits={"all": {"positive": "pos", "negative": "neg.gz"}})
    assert list(found) == [
        {"text": "good film ", "label": "positive"},
        {"text": "  fine", "label": "positive"},
        {"text": "bad film", "label": "negative"},
    ]
    assert lines_of(found) == ["1", "3", "1"]


# --- CoNLL columns ------------------------------------------------------------------------------------------


def conll(folder, content):
    return rows_of(folder, content, "x.conll")


def test_sentences_of_tokens_and_tags_become_text_and_entities(tmp_path):
    found = conll(tmp_path, "Ada\tB-person\nLovelace\tI-person\nwrote\tO\n.\tO\n\n\nIn\tO\nNew\tB-creative-work\n")
    assert list(found) == [
        {
            "text": "Ada Lovelace wrote .",
            "tokens": ["Ada", "Lovelace", "wrote", "."],
            "tags": ["B-person", "I-person", "O", "O"],
            "entities": [{"type": "person", "text": "Ada Lovelace"}],
        },
        {
            "text": "In New",
            "tokens": ["In", "New"],
            "tags": ["O", "B-creative-work"],
            "entities": [{"type": "creative-work", "text": "New"}],
        },
    ]
    assert lines_of(found) == ["1", "7"]


def test_columns_by_spaces_marks_of_documents_and_windows_line_ends_are_understood(tmp_path):
    content = "-DOCSTART- -X- O O\r\n\r\nEU NNP I-NP I-ORG\r\n. . O O\r\n \r\n-DOCSTART-\n\nPeter NNP  I-NP I-PER\r\n"
    found = conll(tmp_path, content)
    assert [row["text"] for row in found] == ["EU .", "Peter"]
    assert [row["entities"][0]["type"] for row in found] == ["ORG", "PER"]


def test_only_spaces_and_tabs_stand_between_columns(tmp_path):
    found = conll(tmp_path, "a\u00a0b O\n\u2028 O\n\nc\td e\tO\n")
    assert [row["tokens"] for row in found] == [["a\u00a0b", "\u2028"], ["c"]]


@st.composite
def tagged(draw):
    """Spans drawn first, then their tags in one of the schemes: the spans are what must be found."""
    spans = draw(
        st.lists(st.tuples(st.sampled_from([None, "PER", "LOC", "creative-work"]), st.integers(1, 3)), max_size=8)
    )
    scheme = draw(st.sampled_from(["BIO", "IO", "BIOES", "BILOU"]))
    tags, expected = [], []
    for kind, length in spans:
        first = len(tags)
        if kind is None:
            tags += ["O"] * length
            continue
        if scheme in ("BIO", "IO"):
            prefixes = ["B" if scheme == "BIO" else "I", *["I"] * (length - 1)]
        else:
            single, last = ("S", "E") if scheme == "BIOES" else ("U", "L")
            prefixes = [single] if length == 1 else ["B", *["I"] * (length - 2), last]
        joined = scheme == "IO" and first > 0 and tags[first - 1] == f"I-{kind}"
        tags += [f"{prefix}-{kind}" for prefix in prefixes]
        words = [f"w{i}" for i in range(first, len(tags))]
        if joined:  # without B, two spans of one type that touch are one
            expected[-1][1].extend(words)
        else:
            expected.append((kind, words))
    return tags, [{"type": kind, "text": " ".join(words)} for kind, words in expected]


@given(made=tagged())
def test_the_spans_that_tags_were_made_of_are_found(made):
    tags, expected = made
    assert entities([f"w{i}" for i in range(len(tags))], tags) == expected


def plain_spans(tags):
    """BIO and IO by the words of their definition, token by token."""
    spans = []
    for i, tag in enumerate(tags):
        if tag == "O":
            continue
        inside, kind = tag.split("-")
        goes_on = inside == "I" and i > 0 and tags[i - 1] in (f"B-{kind}", f"I-{kind}")
        if goes_on:
            spans[-1]["text"] += f" w{i}"
        else:
            spans.append({"type": kind, "text": f"w{i}"})
    return spans


@given(tags=st.lists(st.sampled_from(["O", "B-X", "I-X", "B-Y", "I-Y"]), max_size=12))
def test_any_sequence_of_bio_tags_gives_the_spans_of_a_plain_reading(tags):
    assert entities([f"w{i}" for i in range(len(tags))], tags) == plain_spans(tags)


def test_tags_without_a_type_give_spans_without_one():
    assert entities(["a", "b", "c", "d"], ["I", "I", "O", "B"]) == [
        {"type": "", "text": "a b"},
        {"type": "", "text": "d"},
    ]
