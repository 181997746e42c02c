"""Hostile files of every kind give rows or one line of error, soon, and leave nothing half-written."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flantune.tasks.sources import cache
from fuzzing import FILES, KINDS, SPOILS, WORDS, Case, case_of, outcome


@pytest.fixture(autouse=True)
def folder_of_rows(rows_of_tests):
    cache.rows_folder().mkdir(parents=True, exist_ok=True)


def case(folder, kind, content, **said):
    """A source of one file, or of two with the same content."""
    (folder / "x").write_bytes(content)
    split = {"a": "x", "b": "x"} if kind in ("parallel", "classes", "documents") else "x"
    return Case(
        {"kind": kind, "splits": {"all": split}, **({"records": ".//a"} if kind == "xml" else {}), **said}, folder
    )


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40)
@given(seed=st.integers(0, 2**32))
def test_a_valid_file_that_was_spoiled_gives_rows_or_one_line(tmp_path_factory, kind, seed):
    folder = tmp_path_factory.mktemp(kind)
    outcome(case_of(random.Random(seed), kind, folder))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25)
@given(content=st.binary(max_size=200))
def test_bytes_of_any_kind_give_rows_or_one_line(tmp_path_factory, kind, content):
    outcome(case(tmp_path_factory.mktemp(kind), kind, content))


pieces = st.sampled_from([*SPOILS, *(word.encode() for word in WORDS), *(chr(i).encode() for i in range(32, 127))])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("parquet", "arrow")])
@settings(max_examples=40)
@given(content=st.lists(pieces, max_size=12).map(b"".join))
def test_what_means_something_to_a_parser_gives_rows_or_one_line(tmp_path_factory, kind, content):
    outcome(case(tmp_path_factory.mktemp(kind), kind, content))


DEEP = {
    "jsonl": b'{"a":' * 100_000,
    "json": b"[" * 100_000 + b"]" * 100_000,
    "yaml": b"[" * 100_000,
    "xml": b"<a>" * 100_000 + b"</a>" * 100_000,
}


@pytest.mark.parametrize("kind", DEEP)
def test_deep_nesting_is_an_error(tmp_path, kind):
    assert outcome(case(tmp_path, kind, DEEP[kind])) == "error"


HUGE = b"x" * (5 * 2**20)
HUGE_FILES = {
    "jsonl": b'{"a": "' + HUGE + b'"}',
    "json": b'[{"a": "' + HUGE + b'"}]',
    "yaml": b'- a: "' + HUGE + b'"\n- b: ' + HUGE,
    "csv": b"a,b\n" + HUGE + b',"' + HUGE + b'"\n',
    "tsv": b"a\tb\n" + HUGE + b"\t" + HUGE + b"\n",
    "parallel": HUGE,
    "classes": HUGE,
    "documents": HUGE,
    "conll": HUGE + b" O\n",
    "xml": b"<r><a>" + HUGE + b"</a></r>",
}


@pytest.mark.parametrize("kind", HUGE_FILES)
def test_a_field_of_five_megabytes_is_read(tmp_path, kind):
    assert outcome(case(tmp_path, kind, HUGE_FILES[kind])) == "rows"


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_not_spoiled_is_mostly_read(tmp_path_factory, kind):
    """Else the fuzzing would test nothing but the first check of a reader."""
    found = []
    for seed in range(20):
        content = FILES[kind](random.Random(seed))
        found.append(outcome(case(tmp_path_factory.mktemp(kind), kind, content)))
    assert found.count("rows") >= 5
