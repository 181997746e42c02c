"""SQL sources: rows as a database has them, streamed; hostile queries change nothing; no credential is ever shown."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import logging
import math
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flantune.errors import FlantuneError
from flantune.tasks import load_task
from flantune.tasks.sources.choice import SourceChoice
from flantune.tasks.sources.database_url import database_url
from flantune.tasks.sources.read_only import read_only
from flantune.tasks.sources.sql import answer, plain, single_statement, sql_rows
from postgres import postgresql_server
from runs import flantune, write_recipe

POSTS = "CREATE TABLE posts (id INTEGER PRIMARY KEY, body TEXT, stars INTEGER)"
READER, READER_PASSWORD = "canary_user_7f3a", "canary p@ss/w:ord%41#?'\"\\ z9xq1k"
PATIENCE = 30.0  # seconds; more than any query here takes that is not meant to take for ever
ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n)"


def source(query, url="sqlite:///posts.db", **more):
    return SourceChoice.model_validate({"kind": "sql", "url": url, "splits": {"train": query}, **more})


def ask(folder, query, url="sqlite:///posts.db", **more):
    return list(answer(source(query, url, **more), "train", folder, {}))


def rows_of(*arguments, **more):
    return [row for row, _ in ask(*arguments, **more)]


def told(call, *arguments, **options):
    with pytest.raises(FlantuneError) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    return str(caught.value)


@pytest.fixture
def shop(tmp_path):
    """A folder with posts.db: two posts."""
    with closing(sqlite3.connect(tmp_path / "posts.db")) as made:
        made.execute(POSTS)
        made.execute("CREATE INDEX by_stars ON posts (stars)")
        made.executemany("INSERT INTO posts VALUES (?, ?, ?)", [(1, "Fine: 50% off", 5), (2, "007", None)])
        made.commit()
    return tmp_path


@pytest.fixture(scope="module")
def server():
    """A PostgreSQL server whose user owns a schema and may change all in it: only reading read-only keeps it whole."""
    with postgresql_server() as running, running.boss() as boss:
        boss.execute("CREATE DATABASE shop")
        quoted = boss.execute("SELECT quote_literal(%s)", [READER_PASSWORD]).fetchone()[0]
        boss.execute(f"CREATE ROLE {READER} LOGIN CREATEDB PASSWORD {quoted}")
        boss.execute(f"ALTER DATABASE shop OWNER TO {READER}")
        with running.boss("shop") as made:
            made.execute(f"SET ROLE {READER}")
            made.execute("CREATE SCHEMA stock")
            made.execute(f"ALTER ROLE {READER} SET search_path = stock")
            made.execute("SET search_path = stock")
            made.execute(POSTS)
            made.execute("INSERT INTO posts VALUES (1, 'Fine: 50% off', 5), (2, '007', NULL)")
            made.execute("CREATE SEQUENCE counter")
            made.execute(
                "CREATE FUNCTION destroy() RETURNS integer LANGUAGE plpgsql AS "
                "$$ BEGIN DROP TABLE posts; RETURN 1; END $$"
            )
        yield running


@pytest.fixture
def postgresql(server, monkeypatch):
    """The URL of a task's file, and the environment that it needs."""
    monkeypatch.setenv("DB_USER", READER)
    monkeypatch.setenv("DB_PASSWORD", READER_PASSWORD)
    return f"postgresql+psycopg://${{env:DB_USER}}:${{env:DB_PASSWORD}}@/shop?host={server.folder}"


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
import resource, sys
from pathlib import Path
from flantune.tasks.sources.choice import SourceChoice
from flantune.tasks.sources.sql import answer

source = SourceChoice.model_validate({"kind": "sql", "url": sys.argv[1], "splits": {"train": sys.argv[2]}})
for row, number in answer(source, "train", Path(sys.argv[3]), {}):
    pass
print(number, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
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


# --- hostile queries ----------------------------------------------------------------------------------------

NOT_READING = 'a query begins with SELECT, WITH, VALUES or TABLE, not with "'
SEVERAL = 'a query is one statement: take out the ";" in it'
SLOW = 'the query of split "train" takes longer than 1 s, its source.timeout; ask for less, or raise it'

# What flantune says, and what the database says where it is asked all the same; None: it has nothing against it.
HOSTILE_TO_SQLITE = {
    "ATTACH DATABASE 'other.db' AS other": (NOT_READING, "not authorized"),
    "DETACH DATABASE main": (NOT_READING, "not authorized"),
    "PRAGMA writable_schema = ON": (NOT_READING, "not authorized"),
    "PRAGMA journal_mode = DELETE": (NOT_READING, "not authorized"),
    "DROP TABLE posts": (NOT_READING, "not authorized"),
    "DELETE FROM posts": (NOT_READING, "not authorized"),
    "CREATE TABLE other (id)": (NOT_READING, "not authorized"),
    "CREATE TEMP TABLE other (id)": (NOT_READING, "not authorized"),
    "ALTER TABLE posts RENAME TO other": (NOT_READING, "not authorized"),
    "VACUUM INTO 'other.db'": (NOT_READING, "not authorized|authorization denied"),
    "ANALYZE": (NOT_READING, "not authorized"),
    "REINDEX": (NOT_READING, "not authorized"),
    "BEGIN IMMEDIATE": (NOT_READING, "not authorized"),
    "COMMIT": (NOT_READING, "not authorized"),
    "SAVEPOINT here": (NOT_READING, "not authorized"),
    "INSERT INTO posts VALUES (9, 'x', 1) RETURNING id": (NOT_READING, "not authorized"),
    "/* SELECT */ REPLACE INTO posts VALUES (1, 'x', 1)": (NOT_READING, "not authorized"),
    "SELECT 1; DROP TABLE posts": (SEVERAL, "one statement at a time"),
    "SELECT ';' -- '\n; DROP TABLE posts": (SEVERAL, "one statement at a time"),
    "WITH x AS (SELECT 1) DELETE FROM posts RETURNING id": ("not authorized", "not authorized"),
    "WITH x AS (SELECT 9) INSERT INTO posts SELECT 9, 'x', 1 FROM x RETURNING id": ("not authorized", "not authorized"),
    "WITH x AS (SELECT 1) UPDATE posts SET body = 'x' RETURNING id": ("not authorized", "not authorized"),
    "SELECT load_extension('./hostile.so')": ("not authorized", "not authorized"),
    "SELECT fts3_tokenizer('simple', x'4141414141414141')": ("not authorized", "not authorized"),
    "SELECT writefile('other.txt', 'x')": ("no such function", "no such function"),
    "SELECT readfile('/etc/passwd')": ("no such function", "no such function"),
    "SELECT edit('x', 'sh')": ("no such function", "no such function"),
    "SELECT * FROM pragma_writable_schema": ("not authorized|no such table", "not authorized|no such table"),
    "SELECT * FROM pragma_table_info('posts')": ("not authorized", "not authorized"),
    "SELECT 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab' REGEXP '(a|a)*c'": ("not authorized", "not authorized"),
    "SELECT zeroblob(999000000) AS x": ("too big", "too big"),
    "SELECT replace(hex(zeroblob(40000000)), '0', 'xxxxxxxx') AS x": ("too big", "too big"),
    f"{ENDLESS} SELECT x FROM n": (SLOW, None),
    f"{ENDLESS} SELECT max(x) FROM n": (SLOW, None),
}
HOSTILE_TO_POSTGRESQL = {
    "COPY posts TO '/tmp/flantune-hostile'": (NOT_READING, "syntax error"),
    "COPY posts TO PROGRAM 'touch /tmp/flantune-hostile'": (NOT_READING, "syntax error"),
    "COPY posts FROM '/etc/passwd'": (NOT_READING, "syntax error"),
    "DROP TABLE posts": (NOT_READING, "syntax error"),
    "TRUNCATE posts": (NOT_READING, "syntax error"),
    "INSERT INTO posts VALUES (9, 'x', 1) RETURNING id": (NOT_READING, "syntax error"),
    "DO $$ BEGIN DROP TABLE posts; END $$": (NOT_READING, "syntax error"),
    "CALL destroy()": (NOT_READING, "syntax error"),
    "SET default_transaction_read_only = off": (NOT_READING, "syntax error"),
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE": (NOT_READING, "syntax error"),
    "COMMIT": (NOT_READING, "syntax error"),
    "LOAD 'plpgsql'": (NOT_READING, "syntax error"),
    "CREATE DATABASE other": (NOT_READING, "syntax error"),
    "ALTER ROLE CURRENT_USER SUPERUSER": (NOT_READING, "syntax error"),
    "EXPLAIN ANALYZE DELETE FROM posts": (NOT_READING, "syntax error"),
    "SELECT 1; DROP TABLE posts": (SEVERAL, "multiple commands"),
    "SELECT 1; COMMIT; DROP TABLE posts": (SEVERAL, "multiple commands"),
    "SELECT $$'$$; COMMIT; DROP TABLE posts; SELECT $$'$$": (SEVERAL, "multiple commands"),
    "SELECT E'\\''; COMMIT; DROP TABLE posts; SELECT ''": (SEVERAL, "multiple commands"),
    "WITH x AS (DELETE FROM posts RETURNING id) SELECT * FROM x": ("data-modifying", "data-modifying"),
    "WITH x AS (INSERT INTO posts VALUES (9, 'x', 1) RETURNING id) TABLE x": ("data-modifying", "data-modifying"),
    "SELECT * INTO other FROM posts": ("not allowed", "not allowed"),
    "SELECT * FROM posts FOR UPDATE": ("read-only transaction", "read-only transaction"),
    "SELECT nextval('counter')": ("read-only transaction", "read-only transaction"),
    "SELECT setval('counter', 99)": ("read-only transaction", "read-only transaction"),
    "SELECT destroy()": ("read-only transaction", "read-only transaction"),
    "SELECT set_config('transaction_read_only', 'off', false), destroy()": ("before any query", "before any query"),
    "SELECT query_to_xml('DROP TABLE posts', true, true, '')": ("not allowed|read-only", "not allowed|read-only"),
    "SELECT pg_read_file('/etc/passwd')": ("permission denied", "permission denied"),
    "SELECT pg_read_binary_file('/etc/passwd')": ("permission denied", "permission denied"),
    "SELECT * FROM pg_ls_dir('/')": ("permission denied", "permission denied"),
    "SELECT lo_import('/etc/passwd')": ("permission denied", "permission denied"),
    "SELECT lo_export(1, '/tmp/flantune-hostile')": ("permission denied", "permission denied"),
    "SELECT pg_reload_conf()": ("permission denied", "permission denied"),
    "SELECT * FROM dblink('', 'DROP TABLE posts') AS x (y int)": ("does not exist", "does not exist"),
    "SELECT rolpassword FROM pg_authid": ("permission denied", "permission denied"),
    "SELECT pg_sleep(86400)": (SLOW, None),
    "SELECT set_config('statement_timeout', '0', false) FROM generate_series(1, 1000) UNION ALL "
    "SELECT pg_sleep(86400)::text": (SLOW, None),
    f"{ENDLESS} SELECT x FROM n": (SLOW, None),
    f"{ENDLESS} SELECT max(x) FROM n": (SLOW, None),
}


def asked_all_the_same(folder, query, url):
    """Sends a query without looking at it first."""
    with read_only(database_url(url, {}), folder, PATIENCE) as connection:
        options = {"stream_results": True, "no_parameters": True}
        with closing(connection.exec_driver_sql(query, execution_options=options)) as result:
            return result.all() if result.returns_rows else None


def content(folder):
    return {path.name: hashlib.blake2b(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.mark.parametrize("query", HOSTILE_TO_SQLITE)
def test_a_hostile_query_to_sqlite_is_refused_and_changes_nothing(shop, query, monkeypatch):
    monkeypatch.chdir(shop)
    before = content(shop)
    flantunes, databases = HOSTILE_TO_SQLITE[query]
    assert re.search(flantunes, told(ask, shop, query, timeout=1 if databases is None else PATIENCE))
    if databases is not None:
        with pytest.raises(Exception, match=databases):
            asked_all_the_same(shop, query, "sqlite:///posts.db")
    assert content(shop) == before


def everything_in(server):
    """Rows, sequences, tables, functions, roles, databases and large objects, as one text."""
    with server.boss("shop") as boss:
        parts = boss.execute("""
            SELECT (SELECT string_agg(posts::text, '|' ORDER BY id) FROM stock.posts),
            (SELECT last_value::text || is_called FROM stock.counter),
            (SELECT string_agg(concat(relname, relowner, relkind), '|' ORDER BY oid) FROM pg_class),
            (SELECT string_agg(concat(proname, prosrc), '|' ORDER BY oid) FROM pg_proc),
            (SELECT string_agg(pg_authid::text, '|' ORDER BY oid) FROM pg_authid),
            (SELECT string_agg(pg_db_role_setting::text, '|' ORDER BY setrole) FROM pg_db_role_setting),
            (SELECT string_agg(datname, '|' ORDER BY oid) FROM pg_database),
            (SELECT count(*)::text FROM pg_largeobject_metadata)
        """).fetchone()
    assert parts[:2] == ('(1,"Fine: 50% off",5)|(2,007,)', "1false")
    return "\n".join(parts)


@pytest.mark.parametrize("query", HOSTILE_TO_POSTGRESQL)
def test_a_hostile_query_to_postgresql_is_refused_and_changes_nothing(server, postgresql, tmp_path, query):
    before = everything_in(server)
    flantunes, databases = HOSTILE_TO_POSTGRESQL[query]
    assert re.search(flantunes, told(ask, tmp_path, query, postgresql, timeout=1 if databases is None else PATIENCE))
    if databases is not None:
        with pytest.raises(Exception, match=databases):
            asked_all_the_same(tmp_path, query, postgresql)
    assert everything_in(server) == before
    assert not Path("/tmp/flantune-hostile").exists()


def test_what_a_reading_transaction_lets_through_is_rolled_back(server, postgresql, tmp_path):
    """PostgreSQL before 16 makes a large object also there."""
    before = everything_in(server)
    with contextlib.suppress(FlantuneError):
        ask(tmp_path, "SELECT lo_from_bytea(0, 'hostile') AS x", postgresql)
    assert everything_in(server) == before


@pytest.mark.parametrize("role", ["SUPERUSER", "IN ROLE pg_read_server_files", "IN ROLE boss"])
def test_a_user_whom_no_transaction_keeps_from_files_is_refused(server, postgresql, tmp_path, role, monkeypatch):
    with server.boss("shop") as boss:
        boss.execute(f"CREATE ROLE mighty LOGIN PASSWORD 'mighty-password' {role}")
        monkeypatch.setenv("DB_USER", "mighty")
        monkeypatch.setenv("DB_PASSWORD", "mighty-password")
        try:
            assert told(ask, tmp_path, "SELECT 1 AS one", postgresql) == (
                "source.url: this database user may reach the server's files, as a superuser may, which no read-only "
                "transaction prevents; name one that may only read: "
                "CREATE ROLE reader LOGIN PASSWORD '...' IN ROLE pg_read_all_data"
            )
        finally:
            boss.execute("DROP ROLE mighty")


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


# --- credentials --------------------------------------------------------------------------------------------

TASK = """\
name: posts
metrics: [accuracy]
source:
  kind: sql
  url: {url}
  timeout: {timeout}
  splits:
    train: {query}
templates:
  - name: plain
    text: "{{{{ body }}}} ||| {{{{ stars }}}}"
"""
WHOLE_URL = f"postgresql+psycopg://{READER}:{quote(READER_PASSWORD, safe='')}@/shop?host={{folder}}"
CANARIES = {READER, READER_PASSWORD, quote(READER_PASSWORD, safe=""), repr(READER_PASSWORD)[1:-1], "z9xq1k", "canary"}
GOOD_QUERY = "SELECT * FROM posts ORDER BY id"
# What is otherwise than in the task that works: the URL, the query, a variable, the time.
FAILURES = {
    "a wrong password": {"DB_PASSWORD": "canary-wrong-password"},
    "an unknown user": {"DB_USER": "canary-unknown-user"},
    "no server": {"url": "postgresql+psycopg://${env:DB_USER}:${env:DB_PASSWORD}@/shop?host=/nowhere"},
    "an unknown host": {"url": "postgresql+psycopg://${env:DB_USER}:${env:DB_PASSWORD}@nowhere.invalid/shop"},
    "an unknown database": {"url": "postgresql+psycopg://${env:DB_USER}:${env:DB_PASSWORD}@/nope?host={folder}"},
    "an unknown parameter": {"url": "postgresql+psycopg://${env:DB_USER}:${env:DB_PASSWORD}@/shop?nope=${env:DB_USER}"},
    "another driver": {"url": "postgresql+psycopg2://${env:DB_USER}:${env:DB_PASSWORD}@/shop?host={folder}"},
    "an unknown kind": {"url": "postgres://${env:DB_USER}:${env:DB_PASSWORD}@/shop?host={folder}"},
    "a variable that is not set": {"url": "postgresql+psycopg://${env:DB_USER}:${env:UNSET}@/shop?host={folder}"},
    "an @ in a whole URL": {"url": "${env:DB_URL}", "DB_URL": "postgresql+psycopg://canary-user:canary@pass@host/shop"},
    "no port in a whole URL": {"url": "${env:DB_URL}", "DB_URL": "postgresql+psycopg://canary-user:canary-pass/shop"},
    "no URL at all": {"url": "${env:DB_URL}", "DB_URL": "canary-user canary-pass"},
    "a password in the file": {"url": "postgresql+psycopg://canary-user:canary-pass@/shop?host={folder}"},
    "a password in a parameter": {"url": "postgresql+psycopg:///shop?password=canary-pass&host={folder}"},
    "a missing table": {"query": "SELECT * FROM nope"},
    "a mistake in the query": {"query": "SELECT FROM WHERE"},
    "a query that writes": {"query": "SELECT destroy()"},
    "a query that tells the user": {"query": "SELECT CAST(current_user AS integer)"},
    "a query that ends the connection": {"query": "SELECT pg_terminate_backend(pg_backend_pid())"},
    "a query without end": {"query": f"{ENDLESS} SELECT x FROM n", "timeout": 1},
    "no rows": {"query": "SELECT * FROM posts WHERE id > 9"},
    "two columns of one name": {"query": "SELECT id, body AS id FROM posts"},
    "a value without a plain form": {"query": "SELECT int4range(1, 5) AS ages"},
}


def written(folder, server, url, *, query=GOOD_QUERY, timeout=PATIENCE, **_):
    url = url.replace("{folder}", str(server.folder))
    (folder / "posts.yaml").write_text(TASK.format(url=json.dumps(url), query=json.dumps(query), timeout=timeout))
    return folder / "posts.yaml"


def with_a_canary(text):
    return [canary for canary in CANARIES if canary in text]


@pytest.mark.parametrize("failure", FAILURES)
def test_no_failure_tells_a_credential(server, postgresql, tmp_path, monkeypatch, caplog, capfd, failure):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("FLANTUNE_CACHE", str(tmp_path / "cache"))
    wrong = {"url": postgresql, **FAILURES[failure]}
    for name, value in wrong.items():
        if name.isupper():
            monkeypatch.setenv(name, value)
    path = written(tmp_path, server, **wrong)
    message = told(lambda: load_task(path).split("train"))
    assert message.startswith((f"{path}:", "sql:train:1: "))
    assert with_a_canary(message) == []
    assert with_a_canary(caplog.text + "".join(capfd.readouterr())) == []
    path.unlink()
    for file in tmp_path.rglob("*"):
        assert with_a_canary(file.name + file.read_bytes().decode("latin-1") if file.is_file() else file.name) == []


@pytest.mark.parametrize("refresh", [True, False])
@pytest.mark.parametrize("url", ["in parts", "whole"])
def test_a_success_leaves_no_credential_in_output_and_cache(server, postgresql, tmp_path, monkeypatch, url, refresh):
    monkeypatch.setenv("DB_URL", WHOLE_URL.format(folder=server.folder))
    path = written(tmp_path, server, postgresql if url == "in parts" else "${env:DB_URL}")
    path.write_text(path.read_text().replace("  timeout:", f"  refresh: {str(refresh).lower()}\n  timeout:"))
    done = flantune("tasks", "show", path, "-n", "2", cache=tmp_path / "cache")
    assert done.returncode == 0, done.stderr
    assert "Fine: 50% off" in done.stdout
    assert with_a_canary(done.stdout + done.stderr) == []
    files = [file for file in (tmp_path / "cache").rglob("*") if file.is_file()]
    assert files
    for file in files:
        assert with_a_canary(str(file.relative_to(tmp_path))) == []
        assert with_a_canary(file.read_bytes().decode("latin-1")) == []


@pytest.mark.slow
def test_a_run_on_rows_of_a_database_keeps_no_credential(server, postgresql, tmp_path):
    recipe = write_recipe(tmp_path)
    given = [json.loads(line) for line in (tmp_path / "words-train.jsonl").read_text().splitlines()]
    with server.boss("shop") as boss:
        boss.execute("CREATE TABLE stock.words (id serial, text text, answer text)")
        boss.cursor().executemany("INSERT INTO stock.words (text, answer) VALUES (%(text)s, %(answer)s)", given)
        boss.execute(f"GRANT SELECT ON stock.words TO {READER}")
    task = tmp_path / "words.yaml"
    old = "  kind: jsonl\n  splits: {train: words-train.jsonl, test: words-test.jsonl}\n"
    assert old in task.read_text()
    query = "SELECT text, answer FROM words WHERE id {} 30 ORDER BY id"
    splits = json.dumps({"train": query.format("<="), "test": query.format(">")})
    task.write_text(
        task.read_text().replace(old, f"  kind: sql\n  url: {json.dumps(postgresql)}\n  splits: {splits}\n")
    )
    done = flantune("train", recipe, cache=tmp_path / "cache", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert with_a_canary(done.stdout + done.stderr) == []
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert {"report.html", "README.md", "environment.json"} <= {file.name for file in files}
    for file in files:
        assert with_a_canary(str(file.relative_to(tmp_path)) + file.read_bytes().decode("latin-1")) == []


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


# --- DuckDB -------------------------------------------------------------------------------------------------

HOSTILE_TO_DUCKDB = {
    "SELECT * FROM read_text('/etc/passwd')": "disabled by configuration",
    "SELECT * FROM '/etc/passwd'": "does not exist",
    "SELECT * FROM glob('/etc/*')": "disabled by configuration",
    "COPY posts TO 'other.csv'": "disabled by configuration",
    "ATTACH 'other.db'": "disabled by configuration",
    "INSTALL httpfs": "disabled by configuration",
    "SET enable_external_access = true": "has been locked",
    "DROP TABLE posts": "read-only mode",
    "SELECT 1; DROP TABLE posts": "read-only mode",
}


@pytest.fixture
def duck(tmp_path):
    """A folder with posts.duckdb: one post."""
    pytest.importorskip("duckdb_engine", reason="the duckdb-engine package is not installed")
    duckdb = pytest.importorskip("duckdb", reason="the duckdb package is not installed")
    with duckdb.connect(str(tmp_path / "posts.duckdb")) as made:
        made.execute(POSTS)
        made.execute("INSERT INTO posts VALUES (1, 'Fine: 50% off', 5)")
    return tmp_path


def test_rows_of_duckdb_come_as_they_are(duck):
    query = "SELECT posts.*, 19.90 AS price, [1, 2] AS parts, {'a': 1} AS more FROM posts WHERE body LIKE '%: 50%'"
    assert rows_of(duck, query, "duckdb:///posts.duckdb") == [
        {"id": 1, "body": "Fine: 50% off", "stars": 5, "price": "19.90", "parts": [1, 2], "more": {"a": 1}}
    ]


@pytest.mark.parametrize("query", HOSTILE_TO_DUCKDB)
def test_a_hostile_query_to_duckdb_is_refused_and_changes_nothing(duck, query):
    before = content(duck)
    told(ask, duck, query, "duckdb:///posts.duckdb")
    with pytest.raises(Exception, match=HOSTILE_TO_DUCKDB[query]):
        asked_all_the_same(duck, query, "duckdb:///posts.duckdb")
    assert content(duck) == before


def test_a_query_without_end_to_duckdb_is_stopped(duck):
    assert told(ask, duck, f"{ENDLESS} SELECT max(x) FROM n", "duckdb:///posts.duckdb", timeout=1) == SLOW
