"""Sources: rows from each kind of file, text that stays text, splits that stay put, and mistakes with their place."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import lzma
import random
from collections import Counter

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from flantune.errors import FlantuneError
from flantune.recipe.yaml_file import read_yaml
from flantune.tasks import load_task
from flantune.tasks.source import SourceChoice, content_hash, entities, read_split, split_names

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
json_rows = st.lists(st.dictionaries(texts, texts | st.integers() | st.none() | st.lists(texts), max_size=4))

# Text that some reader or other takes for a number, a truth value, a missing value, or the end of a line.
TRAPS = [
    "007",
    "1e5",
    "1.50",
    "NA",
    "nan",
    "null",
    "None",
    "",
    " ",
    "no",
    "yes",
    "true",
    "False",
    "=1+1",
    "1,5",
    "2024-01-01",
]
LINE_ENDS = ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1e"]


def read(folder, split="all", *, variables=None, **source):
    return read_split(SourceChoice.model_validate(source), split, folder, variables or {})


def rows_of(folder, content, name, **source):
    """The rows of one file of the kind that its name ends in."""
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return read(folder, kind=source.pop("kind", name.split(".")[1]), splits={"all": name}, **source)


def told(call, *arguments, **options):
    with pytest.raises(FlantuneError) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def json_lines(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


# --- JSON lines ---------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(rows=json_rows.filter(bool))
def test_json_rows_are_read_as_they_are_and_know_their_line(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("json")
    found = rows_of(folder, json_lines(rows), "rows.jsonl")
    assert list(found.rows) == rows
    assert list(found.places) == [f"{folder}/rows.jsonl:{line}" for line in range(1, len(rows) + 1)]


def test_empty_lines_a_missing_last_line_end_and_windows_line_ends_make_no_difference(tmp_path):
    found = rows_of(tmp_path, '{"a": 1}\r\n\n  \r\n{"a": 2}', "rows.jsonl")
    assert found.rows == ({"a": 1}, {"a": 2})
    assert found.places == (f"{tmp_path}/rows.jsonl:1", f"{tmp_path}/rows.jsonl:4")


def test_numbers_truth_and_text_of_json_stay_apart(tmp_path):
    row = {"a": "007", "b": 7, "c": True, "d": None, "e": 1.5, "f": ["no", {"g": "NA"}], "h": "ü🙂"}
    assert rows_of(tmp_path, json.dumps(row), "rows.jsonl").rows == (row,)


JSON_MISTAKES = {
    b'{"a": 1}\n{"a": 2\n': ":2: not valid JSON at column 8: Expecting ',' delimiter; one JSON object a line is wanted",
    b'{"a": 1}\n\n{"a": x}\n': ":3: not valid JSON at column 7: Expecting value; one JSON object a line is wanted",
    b"{'a': 1}": ":1: not valid JSON at column 2: Expecting property name enclosed in double quotes; one JSON object "
    "a line is wanted",
    b'[{"a": 1}]\n': ":1: a JSON array; one JSON object a line is wanted",
    b'"a"\n': ":1: a JSON string; one JSON object a line is wanted",
    b"5\n": ":1: a JSON number; one JSON object a line is wanted",
    b"true\n": ":1: a JSON boolean; one JSON object a line is wanted",
    b"null\n": ":1: a JSON null; one JSON object a line is wanted",
    b'{"a": "x"}\n{"a": "\xfc"}\n': ":2: not UTF-8 text; save it as UTF-8",
    '{"a": 1}'.encode("utf-16"): ":1: not UTF-8 text; save it as UTF-8",
    b'{"a": "ok"}\n{"a": "\\ud83d"}\n': r":2: half of a character (an escape of \ud800 to \udfff stands alone)",
    b'{"a": ' + b"[" * 100_000: ":1: JSON nested too deeply",
    b'{"a": ' + b"9" * 5000 + b"}": ":1: not usable JSON: Exceeds the limit (4300 digits) for integer string "
    "conversion: value has 5000 digits; use sys.set_int_max_str_digits() to increase the limit",
    b"": ": the file has no rows; give a file with at least one",
    b"\n \n": ": the file has no rows; give a file with at least one",
}


@pytest.mark.parametrize("content", JSON_MISTAKES, ids=lambda content: content[:20])
def test_a_mistake_in_json_lines_is_told_with_its_line(tmp_path, content):
    assert told(rows_of, tmp_path, content, "rows.jsonl") == f"{tmp_path}/rows.jsonl{JSON_MISTAKES[content]}"


def test_the_two_halves_of_a_character_in_escapes_are_one_character(tmp_path):
    assert rows_of(tmp_path, rb'{"a": "\ud83d\ude42"}', "rows.jsonl").rows == ({"a": "🙂"},)


def test_the_line_of_a_broken_character_is_exact_far_into_a_file(tmp_path):
    content = b'{"a": "x"}\n' * 5000 + b'{"a": "\xff"}\n' + b'{"a": "x"}\n' * 5000
    assert told(rows_of, tmp_path, content, "rows.jsonl") == (
        f"{tmp_path}/rows.jsonl:5001: not UTF-8 text; save it as UTF-8"
    )


# --- CSV and TSV --------------------------------------------------------------------------------------------

headers = st.lists(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8).filter(
        lambda text: text == text.strip() and text
    ),
    min_size=1,
    max_size=4,
    unique=True,
)


@st.composite
def tables(draw):
    names = draw(headers)
    row = st.lists(texts, min_size=len(names), max_size=len(names))
    return names, draw(st.lists(row, min_size=1, max_size=5))


@settings(deadline=None)
@given(table=tables(), line_end=st.sampled_from(["\n", "\r\n"]), bom=st.booleans())
def test_a_table_that_python_writes_is_read_as_it_was(tmp_path_factory, table, line_end, bom):
    names, rows = table
    assume(not names[0].startswith("\ufeff"))
    stream = io.StringIO(newline="")
    csv.writer(stream, lineterminator=line_end, quoting=csv.QUOTE_ALL).writerows([names, *rows])
    content = stream.getvalue().encode("utf-8-sig" if bom else "utf-8")
    found = rows_of(tmp_path_factory.mktemp("csv"), content, "rows.csv")
    assert [list(row) for row in found.rows] == [names] * len(rows)
    assert [list(row.values()) for row in found.rows] == rows


@pytest.mark.parametrize("kind", ["csv", "tsv"])
@pytest.mark.parametrize("text", [text for text in TRAPS if text != "1,5"] + [f"a{end}b" for end in LINE_ENDS])
def test_text_in_a_table_stays_text(tmp_path, kind, text):
    content = f"a,b\n{text},x\n".replace(",", {"csv": ",", "tsv": "\t"}[kind])
    assert rows_of(tmp_path, content, f"rows.{kind}").rows == ({"a": text, "b": "x"},)


@pytest.mark.parametrize("text", TRAPS + [f"a{end}b" for end in LINE_ENDS])
def test_text_in_json_lines_stays_text(tmp_path, text):
    assert rows_of(tmp_path, json_lines([{"a": text}]), "rows.jsonl").rows == ({"a": text},)


def test_quoted_cells_hold_line_ends_commas_and_quotes_and_rows_know_where_they_begin(tmp_path):
    content = 'id,text\n1,"two\nlines, and ""quotes"""\n2,"three\r\n\nlines"\n\n3,end\n'
    found = rows_of(tmp_path, content, "rows.csv")
    assert [row["text"] for row in found.rows] == ['two\nlines, and "quotes"', "three\r\n\nlines", "end"]
    assert [place.rpartition(":")[2] for place in found.places] == ["2", "4", "8"]


def test_quotes_in_a_tsv_are_text(tmp_path):
    found = rows_of(tmp_path, 'a\tb\n"x\ty" "z"\n', "rows.tsv")
    assert found.rows == ({"a": '"x', "b": 'y" "z"'},)


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_lines_of_a_table_end_as_on_any_system(tmp_path, line_end):
    found = rows_of(tmp_path, f"a,b{line_end}1,2{line_end}3,4{line_end}", "rows.csv")
    assert found.rows == ({"a": "1", "b": "2"}, {"a": "3", "b": "4"})


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl"])
def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path, kind):
    content = {"csv": "a,b\n1,2\n", "tsv": "a\tb\n1\t2\n", "jsonl": '{"a": "1", "b": "2"}\n'}[kind]
    assert rows_of(tmp_path, b"\xef\xbb\xbf" + content.encode(), f"rows.{kind}").rows == ({"a": "1", "b": "2"},)


def test_a_header_in_the_task_names_the_columns_of_a_file_without_one(tmp_path):
    found = rows_of(tmp_path, "5,good\n1,bad\n", "rows.csv", header=["stars", "text"])
    assert found.rows == ({"stars": "5", "text": "good"}, {"stars": "1", "text": "bad"})
    assert found.places[0] == f"{tmp_path}/rows.csv:1"


def test_a_column_without_a_name_gets_its_number(tmp_path):
    assert rows_of(tmp_path, ",text, stars \n0,good,5\n", "rows.csv").rows == (
        {"column_1": "0", "text": "good", "stars": "5"},
    )


def test_a_cell_may_hold_a_book(tmp_path):
    assert len(rows_of(tmp_path, f"a,b\n{'x' * 300_000},y\n", "rows.csv").rows[0]["a"]) == 300_000


TABLE_MISTAKES = {
    "a,b\n1,2\n3\n": ":3: 1 field where 2 are wanted (a, b); check each: quote it if it holds a comma or a line end",
    "a,b\n1,2,3\n": ":2: 3 fields where 2 are wanted (a, b); check each: quote it if it holds a comma or a line end",
    'a,b\n"x\ny",2\n3\n': ":4: 1 field where 2 are wanted (a, b); check each: quote it if it holds a comma or a line "
    "end",
    "a,b,a\n1,2,3\n": ':1: column "a" stands twice in the header; rename one',
    'a,b\n1,"x\n': ":2: not a valid table row: unexpected end of data",
    'a,b\n1,"x"y\n': ":2: not a valid table row: ',' expected after '\"'",
    "a,b\n": ": the file has no rows; give a file with at least one",
    "": ": the file has no rows; give a file with at least one",
}


@pytest.mark.parametrize("content", TABLE_MISTAKES)
def test_a_mistake_in_a_table_is_told_with_its_line(tmp_path, content):
    assert told(rows_of, tmp_path, content, "rows.csv") == f"{tmp_path}/rows.csv{TABLE_MISTAKES[content]}"


def test_a_tsv_row_with_too_many_fields_is_told_that_nothing_can_be_quoted(tmp_path):
    assert told(rows_of, tmp_path, "a\tb\n1\t2\t3\n", "rows.tsv") == (
        f"{tmp_path}/rows.tsv:2: 3 fields where 2 are wanted (a, b); check each: it can hold no tab and no line end"
    )


def test_a_table_in_another_encoding_is_told_with_its_line(tmp_path):
    assert told(rows_of, tmp_path, b"a,b\nx,y\n\xfc,z\n", "rows.csv") == (
        f"{tmp_path}/rows.csv:3: not UTF-8 text; save it as UTF-8"
    )


# --- files --------------------------------------------------------------------------------------------------

COMPRESS = {".gz": gzip.compress, ".xz": lzma.compress}


@pytest.mark.parametrize("ending", COMPRESS)
@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv"])
def test_a_compressed_file_is_read_like_the_file_inside(tmp_path, ending, kind):
    content = {"csv": "a,b\n007,ü\n", "tsv": "a\tb\n007\tü\n", "jsonl": '{"a": "007", "b": "ü"}\n'}[kind]
    found = rows_of(tmp_path, COMPRESS[ending](content.encode()), f"rows.{kind}{ending}")
    assert found.rows == ({"a": "007", "b": "ü"},)


@pytest.mark.parametrize("kind", ["jsonl", "csv", "conll"])
@pytest.mark.parametrize("ending", COMPRESS)
@pytest.mark.parametrize("damage", ["cut", "changed", "not compressed"])
def test_a_damaged_compressed_file_is_told(tmp_path, kind, ending, damage):
    whole = bytearray(COMPRESS[ending](json_lines([{"a": i} for i in range(999)]).encode()))
    if damage == "changed":
        whole[12:21] = b"\xff" * 9  # where the compressed bytes begin
    content = {"cut": bytes(whole[: len(whole) // 2]), "changed": bytes(whole), "not compressed": b"a,b\n1,2\n"}[damage]
    message = told(rows_of, tmp_path, content, f"rows.{kind}{ending}", header=["x"])
    assert message.startswith(f"{tmp_path}/rows.{kind}{ending}: damaged compressed file: ")
    assert message.endswith("; fetch it again")


def test_a_missing_file_a_folder_and_a_path_through_a_file_are_told(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")

    def message(path):
        return told(read, tmp_path, kind="jsonl", splits={"all": path})

    check = "check the path in the task's `source`"
    assert message("rows.jsonl") == f"{tmp_path}/rows.jsonl: no such file; {check}"
    assert message("rows.jsonl.gz") == f"{tmp_path}/rows.jsonl.gz: no such file; {check}"
    assert message("folder") == f"{tmp_path}/folder: is a folder; a file is wanted here"
    assert message("file/rows") == f"{tmp_path}/file/rows: cannot be read: Not a directory; {check}"
    assert message("x" * 300) == f"{tmp_path}/{'x' * 300}: cannot be read: File name too long; {check}"


def test_the_rows_of_several_files_follow_each_other_and_each_file_needs_some(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n{"a": 2}\n')
    (tmp_path / "b.jsonl").write_text('{"a": 3}\n')
    (tmp_path / "empty.jsonl").write_text("")
    assert [row["a"] for row in read(tmp_path, kind="jsonl", splits={"all": ["b.jsonl", "a.jsonl"]}).rows] == [3, 1, 2]
    assert told(read, tmp_path, kind="jsonl", splits={"all": ["a.jsonl", "empty.jsonl"]}) == (
        f"{tmp_path}/empty.jsonl: the file has no rows; give a file with at least one"
    )


def test_variables_stand_in_paths(tmp_path):
    (tmp_path / "set" / "v2").mkdir(parents=True)
    (tmp_path / "set" / "v2" / "a.jsonl").write_text('{"a": 1}\n')
    source = {"kind": "jsonl", "splits": {"all": "${data}/${version}/a.jsonl"}}
    for data in ("set", str(tmp_path / "set")):
        assert len(read(tmp_path, variables={"data": data, "version": "v2"}, **source)) == 1
    assert told(read, tmp_path, variables={"data": "set"}, **source) == (
        "the path 'set/${version}/a.jsonl' needs a value: put `variables: {version: ...}` into the recipe"
    )


# --- several sources ----------------------------------------------------------------------------------------


def test_rows_of_further_sources_follow_and_are_divided_with_the_first(tmp_path):
    (tmp_path / "a.csv").write_text("text,stars\n" + "".join(f"a{i},1\n" for i in range(40)))
    (tmp_path / "b.jsonl").write_text(json_lines([{"text": f"b{i}", "stars": "5"} for i in range(40)]))
    source = {
        "kind": "csv",
        "splits": {"all": "a.csv"},
        "also": [{"kind": "jsonl", "splits": {"all": "b.jsonl"}}],
        "where": "text != 'b0'",
        "fractions": {"test": 0.3, "train": 0.7},
    }
    parts = {split: {row["text"] for row in read(tmp_path, split, **source).rows} for split in ("test", "train")}
    assert parts["test"] | parts["train"] == {f"a{i}" for i in range(40)} | {f"b{i}" for i in range(1, 40)}
    assert not parts["test"] & parts["train"]
    assert {text[0] for text in parts["test"]} == {text[0] for text in parts["train"]} == {"a", "b"}


# --- parallel text ------------------------------------------------------------------------------------------


def test_line_i_of_one_file_belongs_to_line_i_of_the_other(tmp_path):
    (tmp_path / "a.txt").write_bytes("one \u2028 line\r\n\nthree".encode())
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"eins\nzwei\rzwei\ndrei\n"))
    found = read(tmp_path, kind="parallel", splits={"all": {"en": "a.txt", "de": "b.txt.gz"}})
    assert found.rows == (
        {"en": "one \u2028 line", "de": "eins"},
        {"en": "", "de": "zwei\rzwei"},
        {"en": "three", "de": "drei"},
    )
    assert found.places[2] == f"{tmp_path}/a.txt:3"


def test_parallel_files_of_different_lengths_and_empty_ones_are_told(tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    (tmp_path / "b.txt").write_text("eins\n")
    (tmp_path / "c.txt").write_text("")
    assert told(read, tmp_path, kind="parallel", splits={"all": {"en": "a.txt", "de": "b.txt"}}) == (
        f"{tmp_path}/a.txt: parallel files with different numbers of lines: a.txt 2, b.txt 1; line i belongs to line i"
    )
    assert told(read, tmp_path, kind="parallel", splits={"all": {"x": "c.txt", "y": "c.txt"}}) == (
        f"{tmp_path}/c.txt: the file has no rows; give a file with at least one"
    )


# --- CoNLL columns ------------------------------------------------------------------------------------------


def conll(folder, content):
    return rows_of(folder, content, "x.conll")


def test_sentences_of_tokens_and_tags_become_text_and_entities(tmp_path):
    found = conll(tmp_path, "Ada\tB-person\nLovelace\tI-person\nwrote\tO\n.\tO\n\n\nIn\tO\nNew\tB-creative-work\n")
    assert found.rows == (
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
    )
    assert found.places == (f"{tmp_path}/x.conll:1", f"{tmp_path}/x.conll:7")


def test_columns_by_spaces_marks_of_documents_and_windows_line_ends_are_understood(tmp_path):
    found = conll(tmp_path, "-DOCSTART- -X- O O\r\n\r\nEU NNP I-NP I-ORG\r\n. . O O\r\n \r\nPeter NNP I-NP I-PER\r\n")
    assert [row["text"] for row in found.rows] == ["EU .", "Peter"]
    assert [row["entities"][0]["type"] for row in found.rows] == ["ORG", "PER"]


def test_a_line_with_one_field_is_told(tmp_path):
    assert told(conll, tmp_path, "EU B-ORG\nrejects\n") == (
        f"{tmp_path}/x.conll:2: one field where a token and a tag are wanted"
    )


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


# --- Hugging Face data sets ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with a saved data set of two splits, one of a single table, and an empty one."""
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    folder = tmp_path_factory.mktemp("hub")
    train = datasets.Dataset.from_list([{"text": "007", "label": 1}, {"text": "no\nNA", "label": None}])
    test = datasets.Dataset.from_list([{"text": "x", "label": 2}])
    datasets.DatasetDict({"train": train, "test": test}).save_to_disk(str(folder / "two"))
    train.save_to_disk(str(folder / "one"))
    (folder / "none").mkdir()
    return folder


def test_a_saved_data_set_is_read_from_a_path_beside_the_task(saved):
    found = read(saved, "train", kind="huggingface", path="two", splits={"train": "train"})
    assert found.rows == ({"text": "007", "label": 1}, {"text": "no\nNA", "label": None})
    assert found.places[1] == f"huggingface:{saved}/two[train]:1"
    with_variable = read(saved, "t", variables={"d": "two"}, kind="huggingface", path="${d}", splits={"t": "test"})
    assert with_variable.rows == ({"text": "x", "label": 2},)


def test_a_saved_data_set_without_splits_is_the_split_all(saved):
    assert len(read(saved, kind="huggingface", path="one", splits={"all": "all"})) == 2
    assert told(read, saved, kind="huggingface", path="one", splits={"all": "train"}) == (
        f'huggingface:{saved}/one: no split "train"; known: all'
    )


def test_an_unknown_split_and_a_folder_without_data_are_told(saved):
    assert told(read, saved, kind="huggingface", path="two", splits={"all": "tran"}) == (
        f'huggingface:{saved}/two: no split "tran"; did you mean "train"? (test, train)'
    )
    # What stands between is the library's own.
    message = told(read, saved, kind="huggingface", path="none", splits={"all": "train"})
    assert message.startswith(f'huggingface:{saved}/none: cannot load split "train": ')
    assert message.endswith("; check the name, and that the hub can be reached")


# --- which rows ---------------------------------------------------------------------------------------------

many_rows = st.lists(st.fixed_dictionaries({"text": texts}), min_size=1, max_size=30)
shares = st.lists(st.integers(1, 9), min_size=1, max_size=4).map(
    lambda parts: {f"part{i}": part / sum(parts) for i, part in enumerate(parts)}
)


def divided(folder, rows, fractions):
    """Split to the texts of its rows, in order."""
    (folder / "rows.jsonl").write_text(json_lines(rows), encoding="utf-8")
    source = {"kind": "jsonl", "splits": {"all": "rows.jsonl"}, "fractions": fractions}
    return {split: [row["text"] for row in read(folder, split, **source).rows] for split in fractions}


@settings(deadline=None)
@given(rows=many_rows, more=many_rows, fractions=shares)
def test_every_row_is_in_one_split_and_appending_rows_moves_none(tmp_path_factory, rows, more, fractions):
    folder = tmp_path_factory.mktemp("fractions")
    before, after = divided(folder, rows, fractions), divided(folder, rows + more, fractions)
    assert Counter(text for part in before.values() for text in part) == Counter(row["text"] for row in rows)
    assert all(after[split][: len(part)] == part for split, part in before.items())


@settings(deadline=None)
@given(rows=many_rows, fractions=shares, seed=st.integers(0, 9))
def test_the_order_of_rows_and_of_keys_moves_none(tmp_path_factory, rows, fractions, seed):
    folder = tmp_path_factory.mktemp("fractions")
    shuffled = random.Random(seed).sample(rows, len(rows))
    before, after = divided(folder, rows, fractions), divided(folder, shuffled, fractions)
    assert {split: sorted(part) for split, part in before.items()} == {s: sorted(part) for s, part in after.items()}
    assert all(content_hash({"a": 1, "b": row}) == content_hash({"b": row, "a": 1}) for row in rows)


def test_each_split_is_near_its_share(tmp_path):
    parts = divided(
        tmp_path, [{"text": f"row {i}"} for i in range(10_000)], {"test": 0.1, "validation": 0.2, "train": 0.7}
    )
    # The hash is fixed, so this cannot flicker; three standard deviations of 10,000 coins are 1.4 %.
    for split, share in {"test": 0.1, "validation": 0.2, "train": 0.7}.items():
        assert len(parts[split]) / 10_000 == pytest.approx(share, abs=0.014)


def test_rows_of_the_same_content_are_in_the_same_split(tmp_path):
    parts = divided(tmp_path, [{"text": f"row {i % 50}"} for i in range(200)], {"test": 0.5, "train": 0.5})
    assert not set(parts["test"]) & set(parts["train"])


def test_the_hash_of_a_row_is_the_blake2b_of_its_json_with_sorted_keys():
    described = hashlib.blake2b('{"stars": 5, "text": "ü"}'.encode(), digest_size=8)
    assert content_hash({"text": "ü", "stars": 5}) == int(described.hexdigest(), 16)


def sampled(folder, rows, **rows_each):
    (folder / "rows.jsonl").write_text(json_lines(rows), encoding="utf-8")
    sample = {"by": "stars", "rows_each": rows_each}
    return read(folder, kind="jsonl", splits={"all": "rows.jsonl"}, sample=sample).rows


stars = st.lists(st.fixed_dictionaries({"stars": st.integers(1, 3), "text": texts}), min_size=1, max_size=30)


@settings(deadline=None)
@given(rows=stars, each=st.integers(1, 6), seed=st.integers(0, 9))
def test_a_sample_has_as_many_rows_of_each_value_and_does_not_depend_on_their_order(tmp_path_factory, rows, each, seed):
    folder = tmp_path_factory.mktemp("sample")
    chosen = sampled(folder, rows, all=each)
    there = Counter(row["stars"] for row in rows)
    assert Counter(row["stars"] for row in chosen) == {value: min(each, count) for value, count in there.items()}
    shuffled = random.Random(seed).sample(rows, len(rows))
    assert sampled(folder, shuffled, all=each) == chosen


def test_a_row_that_lacks_the_field_of_the_sample_is_told(tmp_path):
    assert told(sampled, tmp_path, [{"stars": 1}, {"star": 1}], all=1) == (
        f'{tmp_path}/rows.jsonl:2: source.sample asks for field "stars", which the row lacks'
    )


def test_only_rows_for_which_a_condition_holds_are_kept_and_know_their_line(tmp_path):
    content = json_lines([{"text": "a", "stars": 5}, {"text": " ", "stars": 5}, {"text": "b", "stars": 1}])
    found = rows_of(tmp_path, content, "rows.jsonl", where="text | trim and stars > 3")
    assert [row["text"] for row in found.rows] == ["a"]
    found = rows_of(tmp_path, content, "rows.jsonl", where="stars < 3")
    assert found.places == (f"{tmp_path}/rows.jsonl:3",)
    assert len(rows_of(tmp_path, content, "rows.jsonl", where="false")) == 0


def test_a_condition_that_a_row_does_not_fit_is_told_with_the_row(tmp_path):
    assert told(rows_of, tmp_path, '{"text": "a"}\n', "rows.jsonl", where="txt") == (
        f'{tmp_path}/rows.jsonl:1: source.where asks for field "txt", which the row lacks; did you mean "text"? (text)'
    )
    assert told(rows_of, tmp_path, "stars\n5\n", "rows.csv", where="stars > 3") == (
        f"{tmp_path}/rows.csv:2: source.where fails on this row: TypeError: '>' not supported between instances of "
        "'str' and 'int'"
    )


# --- mistakes in a task's `source` --------------------------------------------------------------------------

TASK = """\
name: mine
metrics: [accuracy]
templates: [{name: t, text: "{{ a }} ||| {{ a }}"}]
source:
"""
SOURCES = {
    "  kind: json\n  splits: {all: a}": (
        ':5: source.kind: unknown value "json"; did you mean "jsonl"? (conll, csv, huggingface, jsonl, parallel, tsv)'
    ),
    "  kind: csv": ":4: source.splits: is missing; add it",
    "  kind: csv\n  splits: {}": ":6: source.splits: is empty; give at least one",
    "  kind: csv\n  splits: {all: a}\n  wher: a": (
        ':7: source.wher: unknown key "wher"; did you mean "where"? (also, config, fractions, header, kind, '
        "path, revision, sample, splits, where)"
    ),
    "  kind: csv\n  splits:\n    all: 5": ":7: source.splits.all: a list is wanted, such as [5]",
    "  kind: csv\n  splits:\n    all: {a: b}": ":7: source.splits.all: kind: csv wants a file or a list of files here",
    "  kind: csv\n  splits:\n    all: ''": ":7: source.splits.all: kind: csv wants a file or a list of files here",
    "  kind: csv\n  splits:\n    all: []": ":7: source.splits.all: kind: csv wants a file or a list of files here",
    "  kind: parallel\n  splits:\n    all: a": ":7: source.splits.all: kind: parallel wants {field: file, ...} here",
    "  kind: huggingface\n  path: a\n  splits:\n    all: [a]": (
        ":8: source.splits.all: kind: huggingface wants the name of a split of the data set here"
    ),
    "  kind: huggingface\n  splits: {all: a}": (
        ":4: source.path: names a Hugging Face data set: it belongs to kind: huggingface, and is needed there"
    ),
    "  kind: csv\n  path: a\n  splits: {all: a}": (
        ":6: source.path: names a Hugging Face data set: it belongs to kind: huggingface, and is needed there"
    ),
    "  kind: csv\n  splits: {all: a}\n  fractions: {a: 0.5, b: 0.4}": ":7: source.fractions: must sum to 1, not 0.9",
    "  kind: csv\n  splits: {all: a}\n  fractions: {a: 1.5, b: -0.5}": (
        ":7: source.fractions.b: must be greater than 0, not -0.5"
    ),
    "  kind: csv\n  splits: {a: a}\n  fractions: {a: 1}": (
        ":7: source.fractions: divides one split that is called `all`; name the one split so"
    ),
    "  kind: csv\n  splits: {all: a}\n  sample: {by: x, rows_each: {al: 3}}": (
        ':7: source.sample.rows_each.al: no such split; did you mean "all"? (all)'
    ),
    "  kind: csv\n  splits: {all: a}\n  sample: {by: x, rows_each: {all: 0}}": (
        ":7: source.sample.rows_each.all: must be at least 1, not 0"
    ),
    "  kind: csv\n  splits: {all: a}\n  also:\n    - {kind: csv, splits: {train: a}}": (
        ":8: source.also.0.splits: must be the same as above (all)"
    ),
    "  kind: csv\n  splits: {all: a}\n  also:\n    - {kind: csv, splits: {all: a}, where: x}": (
        ":8: source.also.0.where: belongs to the first source and holds for all; move it there"
    ),
    "  kind: csv\n  splits: {all: a}\n  where: a b": (
        ":7: source.where is not valid Jinja (line 1 of the text): expected token ')', got 'b'"
    ),
}


@pytest.mark.parametrize("source", SOURCES)
def test_a_mistake_in_a_source_is_told_with_line_and_field(tmp_path, source):
    path = tmp_path / "task.yaml"
    path.write_text(TASK + source + "\n")
    assert read_yaml(path)
    assert told(load_task, path) == f"{path}{SOURCES[source]}"


def test_a_missing_variable_and_an_unknown_split_are_told_with_the_task(tmp_path):
    path = tmp_path / "task.yaml"
    path.write_text(TASK + "  kind: csv\n  splits: {train: '${data}/a.csv', test: a.csv}\n")
    assert told(load_task(path).split, "train") == (
        f"{path}:4: the path '${{data}}/a.csv' needs a value: put `variables: {{data: ...}}` into the recipe"
    )
    assert told(load_task(path).split, "tset") == (
        f'{path}: task mine has no split "tset"; did you mean "test"? (test, train)'
    )


def test_the_names_of_splits_are_those_of_the_fractions_where_there_are_some():
    source = {"kind": "csv", "splits": {"all": "a"}}
    assert split_names(SourceChoice.model_validate(source)) == ["all"]
    assert split_names(SourceChoice.model_validate({**source, "fractions": {"x": 0.5, "y": 0.5}})) == ["x", "y"]
    with pytest.raises(ValidationError):
        SourceChoice.model_validate({**source, "fractions": {}})
