"""Readers of Parquet and Arrow files: the values that pyarrow reads, batch by batch."""

from __future__ import annotations

import datetime
import decimal
import gzip
import math
import tracemalloc
import zipfile

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reading import AWKWARD, WITH_LINE_ENDS, lines_of, read, texts, told


def parquet(table, path, **options):
    pq.write_table(table, path, **options)


def arrow_file(table, path, **options):
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema, **options) as writer:
        writer.write_table(table, max_chunksize=2)


def arrow_stream(table, path, **options):
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema, **options) as writer:
        writer.write_table(table, max_chunksize=2)


def feather(table, path):
    pyarrow.feather.write_feather(table, path)


FORMS = {"parquet": parquet, "arrow": arrow_file, "stream.arrow": arrow_stream, "feather.arrow": feather}


def rows_of(folder, table, form, **source):
    FORMS[form](table, folder / f"rows.{form}")
    return read(folder, kind=form.rpartition(".")[2], splits={"all": f"rows.{form}"}, **source)


@pytest.mark.parametrize("form", FORMS)
def test_text_stays_text_in_every_form(tmp_path, form):
    rows = [{"a": text, "b": text[::-1]} for text in AWKWARD + WITH_LINE_ENDS]
    found = rows_of(tmp_path, pa.Table.from_pylist(rows), form)
    assert list(found) == rows
    assert lines_of(found) == [f"record {number}" for number in range(1, len(rows) + 1)]


cells = {
    pa.string(): texts,
    pa.large_string(): texts,
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.float64(): st.floats(allow_nan=False),
    pa.bool_(): st.booleans(),
    pa.list_(pa.string()): st.lists(texts, max_size=3),
    pa.struct([("x", pa.string()), ("y", pa.list_(pa.int32()))]): st.fixed_dictionaries(
        {"x": texts, "y": st.lists(st.integers(-9, 9), max_size=2)}
    ),
}


@st.composite
def tables(draw):
    kinds = draw(st.lists(st.sampled_from(list(cells)), min_size=1, max_size=4))
    count = draw(st.integers(1, 7))
    columns = [draw(st.lists(cells[kind] | st.none(), min_size=count, max_size=count)) for kind in kinds]
    arrays = [pa.array(column, kind) for column, kind in zip(columns, kinds, strict=True)]
    return pa.table(arrays, [f"f{number}" for number in range(len(kinds))])


@settings(max_examples=40)
@given(table=tables(), form=st.sampled_from(list(FORMS)))
def test_rows_are_those_that_pyarrow_reads(tmp_path_factory, table, form):
    assert list(rows_of(tmp_path_factory.mktemp("rows"), table, form)) == table.to_pylist()


@pytest.mark.parametrize("form", FORMS)
def test_values_that_json_lacks_are_kept_as_text_and_words_of_a_dictionary_as_themselves(tmp_path, form):
    table = pa.table(
        {
            "day": pa.array([datetime.date(2020, 2, 29)]),
            "time": pa.array([datetime.datetime(2020, 2, 29, 12, 30)], pa.timestamp("ns")),
            "price": pa.array([decimal.Decimal("1.50")]),
            "word": pa.array(["yes"]).dictionary_encode(),
            "bytes": pa.array(["grün".encode()], pa.binary()),
            "map": pa.array([[("k", "v"), ("n", None)]], pa.map_(pa.string(), pa.string())),
        }
    )
    assert list(rows_of(tmp_path, table, form)) == [
        {
            "day": "2020-02-29",
            "time": "2020-02-29T12:30:00",
            "price": "1.50",
            "word": "yes",
            "bytes": "grün",
            "map": {"k": "v", "n": None},
        }
    ]


def test_floats_that_are_no_numbers_are_kept(tmp_path):
    (row,) = rows_of(tmp_path, pa.table({"a": [math.nan], "b": [math.inf]}), "parquet")
    assert math.isnan(row["a"])
    assert row["b"] == math.inf


@pytest.mark.parametrize("form", FORMS)
def test_a_column_that_is_not_asked_for_is_not_read(tmp_path, form):
    table = pa.table({"text": ["x"], "image": pa.array([b"\xff\xd8"], pa.binary())})
    assert list(rows_of(tmp_path, table, form, fields=["text"])) == [{"text": "x"}]
    assert told(rows_of, tmp_path, table, form) == (
        f'{tmp_path}/rows.{form}: records 1 to 1: field "image" cannot be read: Invalid UTF8 payload; '
        "leave it out with `fields`"
    )


@pytest.mark.parametrize("form", FORMS)
def test_a_compressed_file_and_a_member_of_an_archive_are_read_like_the_file_itself(tmp_path, form):
    rows = list(rows_of(tmp_path, pa.table({"a": ["x", "y", "z"]}), form))
    content = (tmp_path / f"rows.{form}").read_bytes()
    (tmp_path / f"rows.{form}.gz").write_bytes(gzip.compress(content))
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr(f"data/rows.{form}", content)
    kind = form.rpartition(".")[2]
    for path in (f"rows.{form}.gz", "all.zip!data/*"):
        assert list(read(tmp_path, kind=kind, splits={"all": path})) == rows


@pytest.mark.parametrize("codec", ["lz4", "zstd", None])
def test_buffers_of_an_arrow_file_may_be_compressed(tmp_path, codec):
    table = pa.table({"a": ["word " * 50, "x"]})
    for form, write in (("arrow", arrow_file), ("stream.arrow", arrow_stream)):
        write(table, tmp_path / f"x.{form}", options=pa.ipc.IpcWriteOptions(compression=codec))
        assert list(read(tmp_path, kind="arrow", splits={"all": f"x.{form}"})) == table.to_pylist()


@pytest.mark.parametrize("form", FORMS)
def test_a_table_without_rows_is_told(tmp_path, form):
    message = told(rows_of, tmp_path, pa.table({"a": pa.array([], pa.string())}), form)
    assert message == f"{tmp_path}/rows.{form}: the file has no rows; give a file with at least one"


def test_a_large_file_is_read_in_the_memory_of_few_rows(tmp_path):
    from flantune.tasks.sources import SourceChoice, binary
    from flantune.tasks.sources.files import located, open_files

    text = "word " * 200
    pq.write_table(pa.table({"a": [f"{i} {text}" for i in range(20_000)]}), tmp_path / "x.parquet")
    source = SourceChoice.model_validate({"kind": "parquet", "splits": {"all": "x.parquet"}})
    (file,) = open_files(located("x.parquet", tmp_path, {})[0], None, None)
    tracemalloc.start()
    try:
        assert sum(1 for _ in binary.parquet(file, source)) == 20_000
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20  # all rows as Python objects take 20 MiB
    finally:
        tracemalloc.stop()
