"""SQL sources: what a database answers to one query a split; streamed, and never more than read."""

from __future__ import annotations

import base64
import contextlib
import datetime
import decimal
import ipaddress
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flantune.errors import FlantuneError
from flantune.files import digest
from flantune.tasks.sources.database_url import DatabaseUrl, database_url, with_variables
from flantune.tasks.sources.read_only import read_only
from flantune.tasks.sources.rows import Origin, Row

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from flantune.tasks.sources.choice import SourceChoice

BATCH = 1000  # rows that are fetched, and held, at once

# After comments and brackets. Possessive: no text takes longer than its length.
FIRST_WORD = re.compile(r"(?:[\s(]|--[^\n]*+|(?>/\*.*?\*/))*+(\w*)", re.DOTALL)
READING_WORDS = ("SELECT", "WITH", "VALUES", "TABLE", "FROM")
QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`")
UNSURE = re.compile(r"\\|\$|--|/\*|#|\[")  # where one stands, databases differ in where a quoted text ends


def sql_rows(source: SourceChoice, split: str, folder: Path, variables: Mapping[str, str]) -> Origin:
    """The origin of a split's rows; nothing is asked before its records are wanted.

    What a database would answer is known by asking alone: there is an identity only where the source says
    `refresh: false`, and it is that of the question. Places are `sql:train:17`, without anything of the URL.

    Raises:
        FlantuneError: What can be told without asking: of the URL, its variables, and the query's look.
    """
    place, query = _address(source, variables).identity(folder), _query(source, split, variables)
    return Origin(
        identity=None if source.refresh else digest("sql", place, query),
        name=f"sql:{split}",
        records=lambda: answer(source, split, folder, variables),
    )


def answer(source: SourceChoice, split: str, folder: Path, variables: Mapping[str, str]) -> Iterator[tuple[Row, int]]:
    """Rows of a query's answer in the order in which the database gives them, with their number from 1.

    Text, whole numbers, floats, truth and NULL stay as they are. A decimal becomes text with all its digits; a date, a
    time and a time stamp ISO 8601 text, in UTC where there is a zone; an interval its seconds; a UUID and a network
    address text; bytes base64 text; an array a list; JSON that the driver has parsed what it holds.

    Args:
        source: Of kind sql.
        split: Whose query is asked.
        folder: A relative path of an SQLite or DuckDB file starts here.
        variables: Values for `${NAME}` in URL and query.
    Raises:
        FlantuneError: No connection, a query that is refused, that takes longer than `source.timeout` or gives no rows,
            two columns of one name, a value without a plain form. No message holds a credential.
    """
    address, query = _address(source, variables), _query(source, split, variables)
    number = 0
    with _one_line(address, split, source.timeout), read_only(address, folder, source.timeout) as connection:
        until = time.monotonic() + source.timeout
        for number, row in enumerate(_rows(connection, query, split), start=1):
            if number % BATCH == 0 and time.monotonic() >= until:  # a driver may have nothing to interrupt it
                raise TimeoutError
            yield row, number
    if number == 0:
        raise FlantuneError(f'the query of split "{split}" gives no rows; write one that gives at least one')


@contextlib.contextmanager
def _one_line(address: DatabaseUrl, split: str, seconds: float) -> Iterator[None]:
    began = time.monotonic()
    try:
        yield
    except FlantuneError:
        raise
    except Exception as error:  # drivers raise all kinds, and a traceback might show the credentials
        if time.monotonic() - began >= seconds:
            limit = f"{seconds:g} s, its source.timeout; ask for less, or raise it"
            raise FlantuneError(f'the query of split "{split}" takes longer than {limit}') from None
        raise FlantuneError(
            f'the query of split "{split}" fails: {address.told(error)}; check source.splits.{split}'
        ) from None


def _rows(connection: Connection, query: str, split: str) -> Iterator[Row]:
    options = {"yield_per": BATCH, "no_parameters": True, "sqlite_raw_colnames": True}
    with contextlib.closing(connection.exec_driver_sql(query, execution_options=options)) as result:
        names = _column_names(list(result.keys()))
        for number, values in enumerate(result, start=1):
            row = dict(zip(names, values, strict=True))
            for name, value in row.items():
                if type(value) not in PLAIN:
                    row[name] = _plain_value(name, value, f"sql:{split}:{number}")
            yield row


def _address(source: SourceChoice, variables: Mapping[str, str]) -> DatabaseUrl:
    try:
        import sqlalchemy  # noqa: F401
    except ImportError:
        raise FlantuneError(
            'a source of kind sql needs the package "sqlalchemy"; pip install "flantune[sql]"'
        ) from None
    return database_url(str(source.url), variables)


def _query(source: SourceChoice, split: str, variables: Mapping[str, str]) -> str:
    query = with_variables(str(source.splits[split]), variables, f'the query of split "{split}"')
    if "${env:" in query:
        raise FlantuneError(f'the query of split "{split}" names ${{env:...}}; the environment is for source.url alone')
    return single_statement(query)


def single_statement(query: str) -> str:
    """The query, if it is one statement that reads, by its look; what it may do is left to `read_only`.

    A database that takes several statements at once could be led out of its read-only transaction.

    Raises:
        FlantuneError: Another word than SELECT and its like comes first, or a semicolon is not surely inside quotes.
    """
    statement = re.sub(r"[;\s]+\Z", "", query)
    word = FIRST_WORD.match(statement)[1]  # type: ignore[index]  # it matches any text
    if word.upper() not in READING_WORDS:
        raise FlantuneError(
            f'a query begins with SELECT, WITH, VALUES or TABLE, not with "{word[:20]}"; it is there to read rows'
        )
    if ";" in (statement if UNSURE.search(statement) else QUOTED.sub("", statement)):
        raise FlantuneError(
            'a query is one statement: take out the ";" in it, or write CHR(59) for one in a text (it may stand in '
            "quotes only where the query has no comment, backslash, dollar sign, # and square bracket)"
        )
    return statement


def _column_names(names: Sequence[str]) -> list[str]:
    for number, name in enumerate(names, start=1):
        if not name:
            raise FlantuneError(f"column {number} of the answer has no name; give it one: AS name")
        if name in names[: number - 1]:
            raise FlantuneError(f'column "{name}" stands twice in the answer; rename one: AS name')
    return list(names)


def _plain_value(name: str, value: Any, place: str) -> Any:
    try:
        return plain(value)
    except TypeError as error:
        remedy = f"write CAST({name} AS TEXT) AS {name}"
        raise FlantuneError(f'column "{name}" holds {error}, which has no plain form; {remedy}', place) from None


PLAIN = frozenset({str, int, float, bool, type(None)})


def plain(value: Any) -> Any:
    """A value of a database as text, number, truth, None, or a list or mapping of these.

    Raises:
        TypeError: It has no such form; the message is its type's name.
    """
    if type(value) in PLAIN:
        return value
    for kinds, form in FORMS:
        if isinstance(value, kinds):
            return form(value)
    raise TypeError(type(value).__name__)


def _in_utc(value: datetime.datetime) -> str:
    """A session's time zone is the machine's: the same moment would be another text elsewhere."""
    return (value if value.tzinfo is None else value.astimezone(datetime.UTC)).isoformat()


NETWORK_ADDRESSES = (
    *(ipaddress.IPv4Address, ipaddress.IPv4Interface, ipaddress.IPv4Network),
    *(ipaddress.IPv6Address, ipaddress.IPv6Interface, ipaddress.IPv6Network),
)
FORMS: tuple[tuple[tuple[type, ...], Callable[[Any], Any]], ...] = (
    ((decimal.Decimal,), lambda value: format(value, "f")),
    ((datetime.datetime,), _in_utc),
    ((datetime.date, datetime.time), lambda value: value.isoformat()),
    ((datetime.timedelta,), lambda value: value.total_seconds()),
    (
        (
            uuid.UUID,
            *(getattr(ipaddress, f"IPv{v}{part}") for v in (4, 6) for part in ("Address", "Interface", "Network")),
        ),
        str,
    ),
    ((bytes, bytearray, memoryview), lambda value: base64.b64encode(value).decode()),
    ((Mapping,), lambda value: {str(key): plain(item) for key, item in value.items()}),
    ((list, tuple), lambda value: [plain(item) for item in value]),
)
