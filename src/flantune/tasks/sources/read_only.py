"""Connections that read a database and do nothing else, whatever they are asked."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from flantune.errors import FlantuneError
from flantune.tasks.sources.database_url import DatabaseUrl

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

LONGEST_VALUE = 100_000_000  # bytes of one value that SQLite may make; its own limit is a gigabyte
MOST_SECONDS = 1_000_000  # PostgreSQL counts milliseconds in 32 bits
LONGEST_WAIT = 30  # seconds for a connection, or for a lock
DRIVERS = {"MySQLdb": "mysqlclient", "psycopg": '"psycopg[binary]"', "psycopg2": "psycopg2-binary"}


@contextlib.contextmanager
def read_only(address: DatabaseUrl, folder: Path, seconds: float) -> Iterator[Connection]:
    """A connection on which nothing can be written, nor any file reached; always rolled back.

    SQLite and DuckDB are held by the engine itself, PostgreSQL, MySQL and MariaDB by a read-only transaction. Other
    databases have none that SQLAlchemy could ask for: there the rights of the user are what holds.

    Args:
        address: Where the database is.
        folder: A relative path of an SQLite or DuckDB file starts here.
        seconds: After these, whatever is running is stopped.
    Raises:
        FlantuneError: No connection, a missing driver or file, a user whom no transaction holds to reading.
    """
    seconds = min(seconds, MOST_SECONDS)
    with contextlib.ExitStack() as held:
        try:
            connection = held.enter_context(contextlib.closing(_engine(address, folder, seconds).connect()))
            held.enter_context(_stopped_after(seconds, connection))
            held.callback(_roll_back, connection)
            BEGINNINGS.get(address.kind, _begin)(connection, seconds)
        except FlantuneError:
            raise
        except Exception as error:  # drivers raise all kinds, and a traceback might show the credentials
            raise FlantuneError(f"cannot connect to the database: {address.told(error)}; check source.url") from None
        yield connection


def _roll_back(connection: Connection) -> None:
    from sqlalchemy.exc import SQLAlchemyError

    with contextlib.suppress(SQLAlchemyError):  # a connection that is gone has nothing to roll back
        connection.rollback()


def _engine(address: DatabaseUrl, folder: Path, seconds: float) -> Engine:
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    if address.url.get_dialect().is_async:
        raise FlantuneError(
            f'source.url: the driver "{address.url.get_driver_name()}" is asynchronous; name another one'
        )
    options = ENGINES[address.kind](address, folder) if address.kind in ENGINES else _server(address, seconds)
    try:
        return create_engine(poolclass=NullPool, hide_parameters=True, **options)
    except ImportError as error:
        module = str(error.name or address.url.get_driver_name()).partition(".")[0]
        raise FlantuneError(
            f'source.url: the driver "{module}" is missing; pip install {DRIVERS.get(module, module)}, '
            "or name one that is there, as in postgresql+psycopg://"
        ) from None


def _server(address: DatabaseUrl, seconds: float) -> dict[str, Any]:
    patient = address.url.get_driver_name() in ("psycopg", "psycopg2") and "connect_timeout" not in address.url.query
    wait = max(2, math.ceil(min(seconds, LONGEST_WAIT)))
    return {"url": address.url, "connect_args": {"connect_timeout": wait} if patient else {}}


def _sqlite_file(address: DatabaseUrl, folder: Path) -> dict[str, Any]:
    import sqlite3

    path = _database_file(address, folder)
    if address.url.get_driver_name() != "pysqlite" or address.url.query:
        raise FlantuneError("source.url: SQLite is opened in one way only; write sqlite:///FILE, without more")

    def opened() -> sqlite3.Connection:
        return sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=LONGEST_WAIT)

    return {"url": "sqlite://", "creator": opened}


def _duckdb_file(address: DatabaseUrl, folder: Path) -> dict[str, Any]:
    path = _database_file(address, folder)
    if address.url.query:
        raise FlantuneError("source.url: DuckDB is opened in one way only; write duckdb:///FILE, without more")
    config = {"enable_external_access": "false", "lock_configuration": "true"}
    return {"url": address.url.set(database=str(path)), "connect_args": {"read_only": True, "config": config}}


def _database_file(address: DatabaseUrl, folder: Path) -> Path:
    name = address.url.database
    if not name or name == ":memory:":
        raise FlantuneError(f"source.url names no file; write {address.kind}:///FILE")
    path = folder / name
    if not path.is_file():
        raise FlantuneError(f"source.url: no such file: {path}; a relative path starts at the task's file")
    return path


ENGINES: dict[str, Callable[[DatabaseUrl, Path], dict[str, Any]]] = {"sqlite": _sqlite_file, "duckdb": _duckdb_file}


def _begin(connection: Connection, seconds: float) -> None:
    connection.begin()


def _begin_sqlite(connection: Connection, seconds: float) -> None:
    """Allows what reading needs, and nothing that is not named here."""
    import sqlite3

    # Two load code; SQLAlchemy's own regexp is Python's, which no interrupt stops.
    refused = ("load_extension", "fts3_tokenizer", "regexp")
    allowed = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
    opens_virtual_tables = {  # json_each and full-text search ask for these; the file itself is opened for reading
        (sqlite3.SQLITE_UPDATE, "sqlite_master"),
        (sqlite3.SQLITE_PRAGMA, "data_version"),
    }

    def judge(action: int, first: str | None, second: str | None, *_: str | None) -> int:
        fine = action in allowed or (action, first) in opens_virtual_tables
        named = (second or "").lower() if action == sqlite3.SQLITE_FUNCTION else None
        return sqlite3.SQLITE_OK if fine and named not in refused else sqlite3.SQLITE_DENY

    connection.begin()
    driver: Any = connection.connection.dbapi_connection
    driver.execute("PRAGMA schema_version")  # reads the file: one that is no database is told so, whatever is asked
    driver.execute("PRAGMA trusted_schema = OFF")
    driver.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_VALUE)
    driver.set_authorizer(judge)


FILES_OF_POSTGRESQL = """
SELECT count(*) > 0 FROM pg_roles
WHERE (rolsuper OR rolname IN ('pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program'))
AND pg_has_role(session_user, oid, 'MEMBER')
"""
FILES_OF_MYSQL = """
SELECT count(*) > 0 FROM information_schema.user_privileges
WHERE privilege_type = 'FILE' AND replace(grantee, '''', '') = current_user()
"""
READER_OF_POSTGRESQL = "CREATE ROLE reader LOGIN PASSWORD '...' IN ROLE pg_read_all_data"
READER_OF_MYSQL = "CREATE USER reader IDENTIFIED BY '...', and GRANT SELECT ON a_database.* TO reader"


def _begin_postgresql(connection: Connection, seconds: float) -> None:
    connection.execution_options(postgresql_readonly=True)
    connection.begin()
    for setting in (
        f"SET LOCAL statement_timeout = {math.ceil(seconds * 1000)}",  # also where this process dies
        "SET LOCAL synchronize_seqscans = off",  # or a large table is read from where another reader is
    ):
        connection.exec_driver_sql(setting)
    _refuse_users_who_reach_files(connection, FILES_OF_POSTGRESQL, READER_OF_POSTGRESQL)


def _begin_mysql(connection: Connection, seconds: float) -> None:
    mariadb = getattr(connection.dialect, "is_mariadb", False)
    for setting in (
        "SET SESSION TRANSACTION READ ONLY",
        f"SET SESSION max_statement_time = {seconds}"
        if mariadb
        else f"SET SESSION max_execution_time = {math.ceil(seconds * 1000)}",
    ):
        connection.exec_driver_sql(setting)
    connection.rollback()  # the transaction that these began; the next one is read-only
    connection.begin()
    _refuse_users_who_reach_files(connection, FILES_OF_MYSQL, READER_OF_MYSQL)


def _refuse_users_who_reach_files(connection: Connection, question: str, remedy: str) -> None:
    """A transaction that reads only still lets them read and write files of the server, by functions."""
    if connection.exec_driver_sql(question).scalar():
        raise FlantuneError(
            "source.url: this database user may reach the server's files, as a superuser may, which no read-only "
            f"transaction prevents; name one that may only read: {remedy}"
        )


BEGINNINGS: dict[str, Callable[[Connection, float], None]] = {
    "sqlite": _begin_sqlite,
    "postgresql": _begin_postgresql,
    "mysql": _begin_mysql,
    "mariadb": _begin_mysql,
}


@contextlib.contextmanager
def _stopped_after(seconds: float, connection: Connection) -> Iterator[None]:
    """Interrupts what runs on a connection once the time is over, again and again until the block ends."""
    driver: Any = connection.connection.dbapi_connection
    names = ("interrupt", "cancel_safe", "cancel")  # of SQLite and DuckDB; of psycopg; of other drivers
    stop: Any = next((getattr(driver, name) for name in names if hasattr(driver, name)), None)
    done = threading.Event()

    def watch() -> None:
        wait = seconds
        while not done.wait(wait):
            with contextlib.suppress(Exception):  # whatever a driver raises: the server stops the statement as well
                stop()
            wait = 1.0

    watcher = threading.Thread(target=watch, daemon=True)
    if stop is not None:
        watcher.start()
    try:
        yield
    finally:
        done.set()
