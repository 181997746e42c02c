"""SQL sources: rows as a database has them, streamed; mistakes in one line; what of an answer is kept."""

from __future__ import annotations

import base64
import math
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from databases import READER, ask, rows_of, source, told
from flantune.errors import FlantuneError
from flantune.tasks.sources.sql import answer, plain, single_statement, sql_rows

# --- rows ---------------------------------------------------------------------------------------------------


def test_rows_come_as_the_database_has_them_with_their_number(shop):
    assert ask(shop, "SELECT * FROM posts ORDER BY id") == [
        ({"id": 1, "body": "Fine: 50% off", "stars": 5}, 1),
        ({"id": 2, "body": "007", "stars": None}, 2),
    ]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT body FROM posts WHERE body LIKE '%50!%%' ESCAPE '!' AND body LIKE '%: %' -- a comment",
        "/* first */ select body from posts where id = 1;",
        "  \n (-- brackets and a comment\n SELECT body FROM posts WHERE id = 1)",
        "WITH first AS (SELECT * FROM posts WHERE id = 1) SELECT body FROM first ; ;",
        "SELECT body FROM posts WHERE id = 1 AND body <> 'a;b' AND body <> 'it''s; ok'",
    ],
)
def test_a_query_is_sent_as_it_is_written(shop, postgresql, query):
    wanted = [{"body": "Fine: 50% off"}]
    if not query.strip().startswith("("):  # SQLite knows no brackets around a whole query
        assert rows_of(shop, query) == wanted
    assert rows_of(shop, query, postgresql) == wanted


@settings(max_examples=50)
@given(
    values=st.lists(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
        | st.integers(-(2**63), 2**63 - 1)
        | st.floats(allow_nan=False)
        | st.none(),
        min_size=1,
        max_size=5,
    )
)
def test_text_numbers_and_null_of_sqlite_stay_what_they_are(tmp_path_factory, values):
    folder = tmp_path_factory.mktemp("sqlite")
    with closing(sqlite3.connect(folder / "posts.db")) as made:
        made.execute("CREATE TABLE kept (id INTEGER PRIMARY KEY, value)")
        made.executemany("INSERT INTO kept (value) VALUES (?)", [(value,) for value in values])
        made.commit()
    found = [row["value"] for row in rows_of(folder, "SELECT value FROM kept ORDER BY id")]
    assert [(type(value), value) for value in found] == [(type(value), value) for value in values]


def test_values_of_postgresql_have_their_stated_plain_forms(tmp_path, postgresql):
    query = """
        SELECT 'text ''quoted''' AS a, 7::bigint AS b, 1.5::float8 AS c, true AS d, NULL AS e, 19.90::numeric AS f,
        date '2024-02-29' AS g, timestamp '2024-02-29 12:30' AS h, timestamptz '2024-02-29 12:30+02' AS i,
        time '12:30' AS j, interval '1 day 1 second' AS k, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid AS l,
        '\\x00ff'::bytea AS m, array[[1, 2], [3, NULL]] AS n, '{"a": [1, null, {"b": "c"}]}'::jsonb AS o,
        inet '10.0.0.1' AS p, cidr '10.0.0.0/8' AS q, 1e30::numeric AS r, array[1.10::numeric] AS s
    """
    assert rows_of(tmp_path, query, postgresql) == [
        {
            "a": "text 'quoted'",
            "b": 7,
            "c": 1.5,
            "d": True,
            "e": None,
            "f": "19.90",
            "g": "2024-02-29",
            "h": "2024-02-29T12:30:00",
            "i": "2024-02-29T10:30:00+00:00",
            "j": "12:30:00",
            "k": 86401.0,
            "l": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "m": base64.b64encode(b"\x00\xff").decode(),
            "n": [[1, 2], [3, None]],
            "o": {"a": [1, None, {"b": "c"}]},
            "p": "10.0.0.1",
            "q": "10.0.0.0/8",
            "r": "1" + "0" * 30,
            "s": ["1.10"],
        }
    ]


def test_bytes_of_sqlite_are_base64_text(shop):
    assert rows_of(shop, "SELECT x'00ff' AS b") == [{"b": "AP8="}]


def test_a_value_without_a_plain_form_is_named_with_its_row(tmp_path, postgresql):
    query = "SELECT 1 AS id, NULL::int4range AS ages UNION ALL SELECT 2, int4range(1, 5)"
    assert told(ask, tmp_path, query, postgresql) == (
        'sql:train:2: column "ages" holds Range, which has no plain form; write CAST(ages AS TEXT) AS ages'
    )
    assert rows_of(tmp_path, "SELECT CAST(int4range(1, 5) AS TEXT) AS ages", postgresql) == [{"ages": "[1,5)"}]


def test_only_values_that_json_has_are_plain():
    assert math.isnan(plain(float("nan")))
    with pytest.raises(TypeError, match="object"):
        plain({"a": [object()]})


def test_relative_files_start_at_the_task_and_variables_stand_in_url_and_query(shop, tmp_path_factory, monkeypatch):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    given = source("SELECT body FROM ${TABLE} WHERE id = 1", "sqlite:///${DATA}/posts.db")
    rows = answer(given, "train", Path("/nowhere"), {"DATA": str(shop), "TABLE": "posts"})
    assert list(rows) == [({"body": "Fine: 50% off"}, 1)]
    assert rows_of(shop, "SELECT body FROM posts WHERE id = 1") == [{"body": "Fine: 50% off"}]


def test_json_and_full_text_search_of_sqlite_can_be_read(shop):
    with closing(sqlite3.connect(shop / "posts.db")) as made:
        made.execute("CREATE VIRTUAL TABLE words USING fts5(body)")
        made.execute("INSERT INTO words VALUES ('hello there'), ('good bye')")
        made.commit()
    assert rows_of(shop, "SELECT body FROM words WHERE words MATCH 'hello'") == [{"body": "hello there"}]
    assert rows_of(shop, "SELECT value FROM json_each('[1, 2]')") == [{"value": 1}, {"value": 2}]


def test_a_database_that_others_write_to_is_read_as_it_was_committed(shop):
    with closing(sqlite3.connect(shop / "posts.db")) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("INSERT INTO posts VALUES (3, 'committed', 1)")
        writer.commit()
        writer.execute("INSERT INTO posts VALUES (4, 'not committed', 1)")
        assert len(ask(shop, "SELECT * FROM posts")) == 3


STREAM = """
import sys
from pathlib import Path
from flantune.memory import peak_memory
from flantune.tasks.sources.choice import SourceChoice
from flantune.tasks.sources.sql import answer

source = SourceChoice.model_validate({"kind": "sql", "url": sys.argv[1], "splits": {"train": sys.argv[2]}})
for row, number in answer(source, "train", Path(sys.argv[3]), {}):
    pass
print(number, peak_memory() // 2**20)
"""


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_memory_stays_flat_however_long_the_answer(shop, postgresql, kind):
    """3 MB and 150 MB of text: what is held at once is a batch, so the peak differs by less than a fifth of it."""
    numbers = {
        "sqlite": "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < {}) "
        "SELECT x, printf('%01000d', x) AS body FROM n",
        "postgresql": "SELECT x, repeat('x', 1000) AS body FROM generate_series(1, {}) AS x",
    }[kind]
    url = postgresql if kind == "postgresql" else "sqlite:///posts.db"
    peaks = []
    for count in (3_000, 150_000):
        command = [sys.executable, "-c", STREAM, url, numbers.format(count), str(shop)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        number, peak = map(int, done.stdout.split())
        assert number == count
        peaks.append(peak)
    assert peaks[1] - peaks[0] < 30, peaks


# --- mistakes -----------------------------------------------------------------------------------------------

MISTAKES = {
    "SELECT nope FROM posts": 'the query of split "train" fails: no such column: nope; check source.splits.train',
    "SELECT * FROM post": 'the query of split "train" fails: no such table: post; check source.splits.train',
    "SELECT * FROM posts WHERE id > 9": 'the query of split "train" gives no rows; write one that gives at least one',
    "SELECT id, body AS id FROM posts": 'column "id" stands twice in the answer; rename one: AS name',
    'SELECT id, 1 AS "" FROM posts': "column 2 of the answer has no name; give it one: AS name",
    "SELECT CAST(x'ff' AS TEXT) AS body": "the query of split \"train\" fails: Could not decode to UTF-8 column 'body' "
    "with text '\ufffd'; check source.splits.train",
    "SELECT '${env:HOME}' AS home": 'the query of split "train" names ${env:...}; the environment is for source.url '
    "alone",
    "SELECT * FROM ${TABLE}": 'the query of split "train" needs a value: put `variables: {TABLE: ...}` into the recipe',
}


@pytest.mark.parametrize("query", MISTAKES)
def test_a_mistake_in_a_query_is_told_in_one_line(shop, query):
    assert told(ask, shop, query) == MISTAKES[query]


URLS = {
    "sqlite:///nope.db": "source.url: no such file: {folder}/nope.db; a relative path starts at the task's file",
    "sqlite://": "source.url names no file; write sqlite:///FILE",
    "sqlite:///:memory:": "source.url names no file; write sqlite:///FILE",
    "sqlite:///posts.db?mode=rw": "source.url: SQLite is opened in one way only; write sqlite:///FILE, without more",
    "sqlite+aiosqlite:///posts.db": 'source.url: the driver "aiosqlite" is asynchronous; name another one',
    "postgresql+psycopg2://host/shop": 'source.url: the driver "psycopg2" is missing; pip install psycopg2-binary, '
    "or name one that is there, as in postgresql+psycopg://",
    "sqlite:///text.db": "cannot connect to the database: file is not a database; check source.url",
    "shop://host/shop": 'source.url: SQLAlchemy knows no database "shop" here; known: duckdb, mariadb, mssql, mysql, '
    "oracle, postgresql, sqlite; others need the package of their dialect, as duckdb needs duckdb-engine",
}


@pytest.mark.parametrize("url", URLS)
def test_a_mistake_in_a_url_is_told_in_one_line(shop, url):
    (shop / "text.db").write_text("This is no database, however long it is made to be." * 20)
    assert told(ask, shop, "SELECT 1 AS one", url) == URLS[url].format(folder=shop)


def test_the_missing_package_is_one_line(shop, monkeypatch):
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    assert told(ask, shop, "SELECT * FROM posts") == (
        'a source of kind sql needs the package "sqlalchemy"; pip install "flantune[sql]"'
    )


def test_two_statements_that_begin_otherwise_are_told_how_to_be_one(shop):
    assert told(ask, shop, "SELECT 1; SELECT 2") == (
        'a query is one statement: take out the ";" in it, or write CHR(59) for one in a text (it may stand in quotes '
        "only where the query has no comment, backslash, dollar sign, # and square bracket)"
    )
    assert told(ask, shop, "-- all\nDELETE FROM posts") == (
        'a query begins with SELECT, WITH, VALUES or TABLE, not with "DELETE"; it is there to read rows'
    )


FRAGMENTS = ["'", '"', "`", ";", "--", "/*", "*/", "\\", "$$", "$a$", "#", "[", "]", "\n", " ", "E", "x", "''"]


def semicolons_outside_quotes(text, *, escapes=False, dollars=False, hashes=False, brackets=False, nested=False):
    """How many there are by the rules of a kind of database: a plain scanner to compare with."""
    found = at = 0
    while at < len(text):
        closing_quote = {"[": "]"}.get(text[at], text[at])
        if text[at] in "'\"`" or (text[at] == "[" and brackets):
            at += 1
            while at < len(text) and text[at] != closing_quote:
                at += 2 if escapes and text[at] == "\\" else 1
        elif dollars and text[at] == "$" and "$" in text[at + 1 :]:
            tag = text[at : text.index("$", at + 1) + 1]
            end = text.find(tag, at + len(tag))
            at = len(text) if end < 0 else end + len(tag) - 1
        elif text.startswith("--", at) or (hashes and text[at] == "#"):
            end = text.find("\n", at)
            at = len(text) if end < 0 else end
        elif text.startswith("/*", at):
            depth, at = 1, at + 2
            while at < len(text) and depth:
                if nested and text.startswith("/*", at):
                    depth, at = depth + 1, at + 1
                elif text.startswith("*/", at):
                    depth, at = depth - 1, at + 1
                at += 1
            at -= 1
        elif text[at] == ";":
            found += 1
        at += 1
    return found


@settings(max_examples=500)
@given(parts=st.lists(st.sampled_from(FRAGMENTS), max_size=12))
def test_an_accepted_query_is_one_statement_by_the_rules_of_any_database(parts):
    try:
        statement = single_statement("SELECT " + "".join(parts))
    except FlantuneError:
        return
    for rules in ({}, {"escapes": True, "hashes": True}, {"dollars": True, "nested": True}, {"brackets": True}):
        assert semicolons_outside_quotes(statement, **rules) == 0


@pytest.mark.parametrize(
    "text", ["/*" * 50_000, "(" * 100_000, "/**/" * 50_000 + "!", "--\n" * 50_000, "SELECT ';" * 9_999]
)
def test_a_query_that_is_made_to_be_slow_to_look_at_is_not(text):
    with pytest.raises(FlantuneError):
        single_statement(text + " ; x")


# --- the cache ----------------------------------------------------------------------------------------------

READ = """
import sys
from pathlib import Path
from flantune.tasks.sources import SourceChoice, read_split

rows = read_split(SourceChoice.model_validate_json(sys.argv[1]), "train", Path(sys.argv[2]), {})
print(len(rows), rows.place(len(rows) - 1), rows.digest)
"""


def read_in_a_process(folder, given):
    """Number of rows, place of the last one, digest: as a new process reads them, with a cache inside the folder."""
    command = [sys.executable, "-c", READ, given.model_dump_json(exclude_unset=True), str(folder)]
    environment = {**os.environ, "FLANTUNE_CACHE": str(folder / "cache")}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return done.stdout.split()


def change(folder, statement):
    with closing(sqlite3.connect(folder / "posts.db")) as made:
        made.execute(statement)
        made.commit()


def test_the_same_answer_is_the_same_rows_and_another_is_noticed(shop):
    given = source("SELECT * FROM posts ORDER BY id")
    first = read_in_a_process(shop, given)
    assert first[:2] == ["2", "sql:train:2"]
    change(shop, "CREATE TABLE unasked (id)")
    assert read_in_a_process(shop, given) == first
    change(shop, "UPDATE posts SET stars = 4 WHERE id = 1")
    changed = read_in_a_process(shop, given)
    assert changed[:2] == first[:2]
    assert changed[2] != first[2]


def test_an_answer_that_is_not_to_be_refreshed_is_kept(shop):
    given = source("SELECT * FROM posts ORDER BY id", refresh=False)
    first = read_in_a_process(shop, given)
    change(shop, "INSERT INTO posts VALUES (3, 'new', 1)")
    assert read_in_a_process(shop, given) == first
    assert read_in_a_process(shop, source("SELECT * FROM posts ORDER BY id"))[0] == "3"
    other_query = source("SELECT id FROM posts ORDER BY id", refresh=False)
    assert read_in_a_process(shop, other_query)[0] == "3"
    (shop / "posts.db").unlink()
    assert read_in_a_process(shop, given) == first


def test_an_origin_has_an_identity_only_where_its_answer_is_kept(shop):
    query = "SELECT * FROM posts"
    asked = sql_rows(source(query), "train", shop, {})
    assert (asked.identity, asked.name, len(list(asked.records()))) == (None, "sql:train", 2)
    kept = sql_rows(source(query, refresh=False), "train", shop, {})
    again = sql_rows(source(query, f"sqlite:///{shop}/posts.db", refresh=False, timeout=5), "train", Path("/"), {})
    assert kept.identity == again.identity != sql_rows(source(query + " p", refresh=False), "train", shop, {}).identity


def test_a_server_that_goes_away_is_one_line_and_no_traceback(server, postgresql, tmp_path, capfd):
    asked = answer(source("SELECT x FROM generate_series(1, 1000000) AS x", postgresql), "train", tmp_path, {})
    assert next(asked) == ({"x": 1}, 1)
    with server.boss() as boss:
        boss.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [READER])
    message = told(lambda: list(asked))
    assert message.startswith('the query of split "train" fails: ')
    assert message.endswith("; check source.splits.train")
    assert capfd.readouterr() == ("", "")


def test_a_reader_that_stops_early_leaves_no_connection(postgresql, tmp_path):
    before = os.listdir("/dev/fd")
    asked = answer(source("SELECT x FROM generate_series(1, 1000000) AS x", postgresql), "train", tmp_path, {})
    assert next(asked) == ({"x": 1}, 1)
    assert len(os.listdir("/dev/fd")) > len(before)
    del asked
    assert os.listdir("/dev/fd") == before
