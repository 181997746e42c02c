"""SQL sources: hostile queries are refused, or end in time, and change nothing."""

from __future__ import annotations

import contextlib
import hashlib
import re
from contextlib import closing
from pathlib import Path

import pytest

from databases import ENDLESS, PATIENCE, POSTS, ask, rows_of, told
from flantune.errors import FlantuneError
from flantune.tasks.sources.database_url import database_url
from flantune.tasks.sources.read_only import read_only

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
