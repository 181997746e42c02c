"""The cache of rows: exact, memory-mapped, in step with its source, and never half-written, damaged or out of date."""

from __future__ import annotations

import datetime
import decimal
import json
import math
import os
import pickle
import random
import shutil
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flantune.errors import FlantuneError
from flantune.tasks.sources import Rows, cache, digests, row_file
from flantune.tasks.sources.cache import asked_rows, cached_rows
from flantune.tasks.sources.row_file import HASHES, ROWS, SUMMARY, Damaged, Record, StoredRows, write_rows
from reading import json_lines, read, told

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
scalars = st.none() | st.booleans() | st.integers() | st.integers(-(2**200), 2**200) | st.floats() | text
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3))
many = st.lists(st.dictionaries(text, values, max_size=4), max_size=20)


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """The folder of a cache of this test's own."""
    monkeypatch.setenv("FLANTUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "rows"


def entries(folder):
    """Names of all that lies there but the locks."""
    return sorted(path.name for path in folder.iterdir() if path.name != ".locks") if folder.exists() else []


def records(rows, name="x.jsonl"):
    return [Record(row, f"{name}:", number) for number, row in enumerate(rows, start=1)]


def stored(folder, rows):
    write_rows(folder, [], records(rows))
    return Rows(StoredRows(folder, []))


# --- exact --------------------------------------------------------------------------------------------------


@settings(max_examples=200)
@given(rows=many, size=st.sampled_from([1, 60, 2**23]), count=st.sampled_from([1, 3, 4096]))
def test_rows_come_back_as_they_were_given_whatever_a_batch_holds(tmp_path_factory, rows, size, count):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_file, "BATCH_BYTES", size)
        patch.setattr(row_file, "BATCH_ROWS", count)
        found = stored(tmp_path_factory.mktemp("rows"), rows)
    assert repr(list(found)) == repr(rows)  # repr tells 1 from 1.0 and True, -0.0 from 0.0, and the order of keys
    assert [found.place(i) for i in range(len(rows))] == [f"x.jsonl:{i + 1}" for i in range(len(rows))]
    assert found.digest == Rows.of(rows).digest
    assert (found.hashes() == Rows.of(rows).hashes()).all()


@given(rows=many.filter(bool), picks=st.lists(st.integers(0, 19), max_size=8))
def test_any_row_at_random_is_that_of_the_walk(tmp_path_factory, rows, picks):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_file, "BATCH_ROWS", 3)
        found = stored(tmp_path_factory.mktemp("rows"), rows)
    for pick in picks:
        assert repr(found[pick % len(rows)]) == repr(rows[pick % len(rows)])


def test_any_arrow_reader_opens_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(row_file, "BATCH_ROWS", 2)
    rows = [{"a": i, "b": ["ü", None]} for i in range(5)]
    stored(tmp_path, rows)
    table = pa.ipc.open_file(str(tmp_path / ROWS)).read_all()
    table.validate(full=True)
    assert [json.loads(row) for row in table.column("row").to_pylist()] == rows
    assert table.column("line").to_pylist() == [1, 2, 3, 4, 5]


def test_what_json_has_not_but_a_database_or_a_parquet_file_may_hold_becomes_text_or_numbers(tmp_path):
    row = {
        "date": datetime.date(2024, 5, 6),
        "time": datetime.datetime(2024, 5, 6, 7, 8, 9, tzinfo=datetime.UTC),
        "clock": datetime.time(7, 8),
        "price": decimal.Decimal("1.50"),
        "id": uuid.UUID(int=1),
        "vector": np.array([1.5, 2.0]),
        "count": np.int64(3),
        "pair": (1, 2),
    }
    assert dict(stored(tmp_path, [row])[0]) == {
        "date": "2024-05-06",
        "time": "2024-05-06T07:08:09+00:00",
        "clock": "07:08:00",
        "price": "1.50",
        "id": "00000000-0000-0000-0000-000000000001",
        "vector": [1.5, 2.0],
        "count": 3,
        "pair": [1, 2],
    }


def nested(levels):
    value = "x"
    for _ in range(levels):
        value = [value]
    return value


NOT_KEPT = {
    "bytes": (
        {"a": 1, "image": b"\x89PNG"},
        'field "image" holds a value of type bytes, which is neither text nor number; leave it out, or turn it into '
        "one",
    ),
    "deep inside": (
        {"a": [{"b": {1, 2}}]},
        'field "a" holds a value of type set, which is neither text nor number; leave it out, or turn it into one',
    ),
    "half": ({"a": "\ud83d"}, r"half of a character (of \ud800 to \udfff) stands alone; repair the text"),
    "201 levels": ({"a": nested(200)}, "nested deeper than 200 levels; flatten it"),
    "many levels": ({"a": nested(20_000)}, "nested deeper than 200 levels; flatten it"),
    "long number": (
        {"a": 10**5000},
        "cannot be kept: Exceeds the limit (4300 digits) for integer string conversion; use "
        "sys.set_int_max_str_digits() to increase the limit",
    ),
}


@pytest.mark.parametrize("what", NOT_KEPT)
def test_what_cannot_be_kept_is_told_at_the_place_of_the_row_and_nothing_is_kept(kept, what):
    row, message = NOT_KEPT[what]
    rows = [{"a": 1}] * 10_000 + [row]
    assert told(cached_rows, "key", [], lambda: iter(records(rows))) == f"x.jsonl:10001: {message}"
    assert entries(kept) == []


def test_two_hundred_levels_are_kept_and_read_from_deep_inside_a_program(tmp_path):
    row = {"a": nested(199)}
    rows = stored(tmp_path, [row])

    def deep(levels):
        return deep(levels - 1) if levels else rows[0]

    assert deep(600) == row


def test_no_rows_are_rows_too(tmp_path, kept):
    (tmp_path / "x.jsonl").write_text(json_lines([{"a": 1}]))
    source = {"kind": "jsonl", "splits": {"all": "x.jsonl"}, "where": "a > 1"}
    for _ in range(2):
        assert list(read(tmp_path, **source)) == []
        assert len(read(tmp_path, "test", **source, fractions={"test": 0.5, "train": 0.5})) == 0
        assert read(tmp_path, **source).hashes().shape == (0, 3)


# --- in step with the source --------------------------------------------------------------------------------


def numbers(folder, **source):
    return [row["a"] for row in read(folder, kind="jsonl", splits={"all": "x.jsonl"}, **source)]


def test_rows_are_read_once_and_then_opened(kept):
    asked = []

    def give():
        asked.append(len(asked))
        return iter(records([{"a": 1}]))

    for _ in range(3):
        assert list(cached_rows("key", [], give)) == [{"a": 1}]
    assert asked == [0]
    assert entries(kept) == ["key"]


@pytest.mark.parametrize("length", [10, 200_000])
def test_a_changed_source_is_noticed_also_where_size_and_time_of_writing_stay(tmp_path, kept, length):
    file = tmp_path / "x.jsonl"
    for value in (1, 2, 3, 2):
        file.write_text(json_lines([{"a": value, "b": "x" * length}]))
        os.utime(file, (10**9, 10**9))
        assert numbers(tmp_path) == [value]
    assert len(entries(kept)) == 3


def test_a_large_file_is_hashed_once_while_it_stays_as_it_is(tmp_path, kept, monkeypatch):
    monkeypatch.setattr(digests, "RECENT", 0)
    file = tmp_path / "x.jsonl"
    file.write_text(json_lines([{"a": 1, "b": "x" * 10**5}]))
    hashed = []
    whole = digests.file_digest
    monkeypatch.setattr(digests, "file_digest", lambda path, how: hashed.append(path) or whole(path, how))
    first = digests.content_digest(file)
    assert [digests.content_digest(file) for _ in range(3)] == [first] * 3
    assert len(hashed) == 1
    os.utime(file, (10**9, 10**9))  # the time of this change is the file's too
    assert digests.content_digest(file) == first
    assert len(hashed) == 2
    for memo in digests.digests_folder().iterdir():
        memo.write_text("{")
    assert digests.content_digest(file) == first
    assert len(hashed) == 3


def test_a_file_that_was_just_written_is_hashed_again_each_time(tmp_path, kept):
    file = tmp_path / "x.jsonl"
    file.write_bytes(b"x" * 10**5)
    os.utime(file, (10**9, 10**9))
    digests.content_digest(file)
    assert not digests.digests_folder().exists()


def test_the_same_files_elsewhere_need_not_be_read_again_and_places_name_them(tmp_path, kept):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        for part in ("a.jsonl", "b.jsonl"):
            (tmp_path / name / part).write_text(json_lines([{"a": part}]))
        rows = read(tmp_path / name, kind="jsonl", splits={"all": "*.jsonl"})
        assert [rows.place(i) for i in range(2)] == [f"{tmp_path}/{name}/{part}:1" for part in ("a.jsonl", "b.jsonl")]
    assert len(entries(kept)) == 1


CHANGES: list[dict[str, Any]] = [
    {"where": "a > 1"},
    {"where": "a > 2"},
    {"fields": ["a"]},
    {"fields": ["b", "a"]},
    {"fields": ["a", "b"]},
    {"transforms": [{"rename": {"b": "c"}}]},
    {"transforms": [{"rename": {"b": "d"}}]},
    {"sample": {"rows": 2}},
    {"sample": {"rows": 2, "seed": 1}},
    {"sample": {"rows": 3}},
    {"sample": {"by": "b", "rows_each": {"all": 1}}},
    {},
]


@pytest.mark.parametrize("seed", range(3))
def test_a_changed_source_choice_never_gives_the_rows_of_another(tmp_path, kept, seed, monkeypatch):
    (tmp_path / "x.jsonl").write_text(json_lines([{"a": i, "b": i % 2} for i in range(6)]))

    def found():
        source = {"kind": "jsonl", "splits": {"all": "x.jsonl"}}
        return [repr(list(read(tmp_path, **source, **change))) for change in changes]

    changes = random.Random(seed).sample(CHANGES, len(CHANGES))
    together = found()
    alone = []
    for change in changes:
        shutil.rmtree(kept)
        changes = [change]
        alone += found()
    assert together == alone


def test_an_answer_that_only_asking_tells_is_asked_once_in_a_process_and_kept_by_its_content(kept, monkeypatch):
    answers = [[{"a": 1}], [{"a": 1}], [{"a": 2}]]
    asked = []

    def ask():
        asked.append(1)
        return iter(records(answers[len(asked) - 1], "sql:train"))

    found = []
    for _ in answers:
        monkeypatch.setattr(cache, "_answers", {})  # as in another process
        found += [asked_rows("key", ask) for _ in range(2)]
    assert len(asked) == 3
    assert [rows[0]["a"] for rows in found] == [1, 1, 1, 1, 2, 2]
    assert len({rows.digest for rows in found}) == 2
    assert len(entries(kept)) == 2
    assert found[0].place(0) == "sql:train:1"


# --- whole --------------------------------------------------------------------------------------------------

KEPT_ROWS = [{"a": i, "b": "x" * (i % 50)} for i in range(300)]


def made(folder, monkeypatch=None):
    """A source file and its rows, in batches of 64."""
    (folder / "x.jsonl").write_text(json_lines(KEPT_ROWS))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_file, "BATCH_ROWS", 64)
        return read(folder, kind="jsonl", splits={"all": "x.jsonl"})


def changed(path, at, length=1):
    content = bytearray(path.read_bytes())
    for i in range(at, min(at + length, len(content))):
        content[i] ^= 0xFF
    with path.open("r+b") as file:  # in place, as a disk would
        file.write(content)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from([ROWS, HASHES, SUMMARY]),
    at=st.floats(0, 1, exclude_max=True),
    how=st.sampled_from(["change", "cut", "append", "remove", "empty"]),
)
def test_damaged_rows_are_made_anew_wherever_the_damage_is(tmp_path, kept, name, at, how):
    made(tmp_path)
    (entry,) = entries(kept)
    path = kept / entry / name
    size = path.stat().st_size
    if how == "change":
        changed(path, int(at * size))
    elif how == "append":
        path.write_bytes(path.read_bytes() + b"x")
    elif how == "remove":
        path.unlink()
    else:
        os.truncate(path, int(at * size) if how == "cut" else 0)
    rows = made(tmp_path)
    assert list(rows) == KEPT_ROWS
    assert (rows.hashes() == Rows.of(KEPT_ROWS).hashes()).all()
    assert entries(kept) == [entry]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from([ROWS, HASHES]), at=st.floats(0, 1, exclude_max=True), touched=st.integers(0, 299))
def test_damage_after_opening_is_met_and_mended(tmp_path, kept, name, at, touched):
    shutil.rmtree(kept, ignore_errors=True)
    rows = made(tmp_path)
    first = rows[touched]
    (entry,) = entries(kept)
    path = kept / entry / name
    changed(path, int(at * path.stat().st_size), 4000)
    assert first == KEPT_ROWS[touched]
    batch = range(touched // 64 * 64, touched // 64 * 64 + 64)  # checked already, and in the hands of the disk since
    assert [rows[i] for i in range(300) if i not in batch] == [row for i, row in enumerate(KEPT_ROWS) if i not in batch]
    assert (rows.hashes() == Rows.of(KEPT_ROWS).hashes()).all()


def test_damage_that_cannot_be_mended_is_told_and_the_next_start_makes_the_rows_anew(tmp_path, kept):
    rows = pickle.loads(pickle.dumps(made(tmp_path)))  # as in a worker process, which has no source
    (entry,) = entries(kept)
    changed(kept / entry / ROWS, 5000, 9)
    message = f"{kept}/{entry}: the kept rows are damaged; start again, and they are made anew"
    assert told(list, rows) == message
    assert list(made(tmp_path)) == KEPT_ROWS


def test_rows_that_changed_while_their_copy_was_damaged_are_not_put_in_their_place(tmp_path, kept):
    rows = made(tmp_path)
    (entry,) = entries(kept)
    (tmp_path / "x.jsonl").write_text(json_lines([{"a": 0}] * 300))
    changed(kept / entry / ROWS, 5000, 9)
    assert told(list, rows) == f"{kept}/{entry}: the kept rows are damaged; start again, and they are made anew"


def test_a_damaged_choice_of_rows_is_made_anew(tmp_path, kept):
    (tmp_path / "x.jsonl").write_text(json_lines(KEPT_ROWS))
    source = {"kind": "jsonl", "splits": {"all": "x.jsonl"}, "sample": {"rows": 9}}
    before = list(read(tmp_path, **source))
    for name in ("numbers.bin", SUMMARY):
        for damage in (lambda path: changed(path, 3), lambda path: os.truncate(path, 8), Path.unlink):
            (path,) = [path for path in kept.glob(f"*/{name}") if (path.parent / "numbers.bin").exists()]
            damage(path)
            assert list(read(tmp_path, **source)) == before


def test_a_mistake_far_into_a_file_leaves_nothing_behind(tmp_path, kept):
    (tmp_path / "x.jsonl").write_text(json_lines(KEPT_ROWS * 100) + "{")
    assert told(numbers, tmp_path).startswith(f"{tmp_path}/x.jsonl:30001: ")
    assert entries(kept) == []


KILLED = """
import os, signal, sys
from flantune.tasks.sources.cache import cached_rows
from flantune.tasks.sources.row_file import Record
def records():
    for number in range(20_000):
        yield Record({"a": number}, "x:", number)
    os.kill(os.getpid(), signal.SIGKILL)
cached_rows("key", [], records)
"""


def test_what_a_killed_process_left_is_neither_read_nor_kept(kept):
    left = subprocess.run([sys.executable, "-c", KILLED], check=False, env={**os.environ})
    assert left.returncode == -9
    assert len(entries(kept)) == 1
    with pytest.raises(Damaged):
        StoredRows(kept / "key", [])
    assert list(cached_rows("key", [], lambda: iter(records([{"a": 1}])))) == [{"a": 1}]
    assert entries(kept) == ["key"]


TOGETHER = """
import sys
from pathlib import Path
from typing import Any
from flantune.tasks.sources import SourceChoice, read_split
source = SourceChoice.model_validate(
    {"kind": "jsonl", "splits": {"all": sys.argv[1]}, "fractions": {"test": 0.5, "train": 0.5}}
)
print("ready", flush=True)
sys.stdin.readline()
rows = read_split(source, "train", Path("."), {})
print(rows.digest, len(rows), sum(row["a"] for row in rows))
"""


def test_processes_that_make_the_same_rows_at_once_agree(tmp_path, kept):
    (tmp_path / "x.jsonl").write_text(json_lines([{"a": i} for i in range(5000)]))
    command = [sys.executable, "-c", TOGETHER, str(tmp_path / "x.jsonl")]
    workers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    answers = {worker.communicate()[0] for worker in workers}
    assert len(answers) == 1
    assert len(entries(kept)) == 2


def test_rows_go_to_another_process_as_the_name_of_their_folder(tmp_path, kept):
    rows = made(tmp_path)
    sent = pickle.dumps(rows)
    assert len(sent) < 1000
    again = pickle.loads(sent)
    assert list(again) == KEPT_ROWS
    assert again.place(7) == rows.place(7)
    assert list(pickle.loads(pickle.dumps(rows.chosen([5, 3])))) == [KEPT_ROWS[5], KEPT_ROWS[3]]


FULL = """
import sys
from flantune.errors import FlantuneError
from flantune.tasks.sources.cache import cached_rows
from flantune.tasks.sources.row_file import Record
try:
    cached_rows("key", [], lambda: (Record({"a": "x" * 1000}, "x:", n) for n in range(20_000)))
except FlantuneError as error:
    print(error)
"""


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], check=False, capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("no small disk can be mounted here")
    try:
        environment = {**os.environ, "FLANTUNE_CACHE": str(disk / "cache")}
        run = subprocess.run([sys.executable, "-c", FULL], check=True, capture_output=True, text=True, env=environment)
        assert run.stdout == (
            f"{disk}/cache/rows/key: no space left on the disk; free some, or choose another folder\n"
        )
        assert entries(disk / "cache" / "rows") == []
    finally:
        subprocess.run(["umount", disk], check=True)


# --- small --------------------------------------------------------------------------------------------------

PEAK = """
from flantune.memory import peak_memory
from flantune.tasks.sources.cache import cached_rows
from flantune.tasks.sources.row_file import Record
def records(count):
    return (Record({"a": number, "b": "x" * 1000}, "x:", number) for number in range(count))
cached_rows("small", [], lambda: records(30_000))
before = peak_memory() // 2**10
rows = cached_rows("large", [], lambda: records(200_000))
print(peak_memory() // 2**10 - before)
"""


@pytest.mark.slow
def test_making_the_rows_of_a_file_six_times_as_large_takes_no_more_memory(kept):
    run = subprocess.run([sys.executable, "-c", PEAK], check=True, capture_output=True, text=True)
    assert int(run.stdout) < 20_000  # kB; the rows alone are 200 MB


def test_a_row_larger_than_a_batch_has_one_of_its_own(tmp_path):
    rows = [{"a": "x" * size} for size in (1, row_file.BATCH_BYTES + 1, 1, 1)]
    stored(tmp_path, rows)
    sizes = [batch.num_rows for batch in pa.ipc.open_file(str(tmp_path / ROWS)).read_all().to_batches()]
    assert sizes == [0, 2, 2]  # an empty one goes first, with the schema
    assert math.isclose((tmp_path / ROWS).stat().st_size, row_file.BATCH_BYTES, rel_tol=0.01)


def test_a_mistake_of_the_source_is_told_also_where_its_rows_were_kept(tmp_path, kept):
    made(tmp_path)
    (tmp_path / "x.jsonl").unlink()
    with pytest.raises(FlantuneError, match="no such file"):
        read(tmp_path, kind="jsonl", splits={"all": "x.jsonl"})
