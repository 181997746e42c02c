"""The URL of a database: its credentials come from the environment alone and are never shown."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote_plus

from flantune.errors import FlantuneError, nearest
from flantune.recipe.yaml_file import WrongAt
from flantune.settings import environment_value

if TYPE_CHECKING:
    from sqlalchemy import URL

REFERENCE = re.compile(r"\$\{env:([A-Za-z_][A-Za-z0-9_]*)\}")
VARIABLE = re.compile(r"\$\{([^}]*)\}")
SECRET_PARAMETER = re.compile(  # a path to a file of secrets is none
    r"([\w-]*(?:pass(?!file)|pwd|secret|token|credential(?!s?_path)|api_?key|private_?key)[\w-]*)\s*=\s*([^&;]*)", re.I
)
IN_FILES = ("sqlite", "duckdb")
KNOWN = (*IN_FILES, "postgresql", "mysql", "mariadb", "mssql", "oracle")
EXAMPLE = "postgresql+psycopg://${env:DB_USER}:${env:DB_PASSWORD}@host/database"
LONGEST_MESSAGE = 300  # characters of what a driver says
SHORT = 6  # a secret of fewer characters is hidden as a word: "pass" is no part of "password"


@dataclass(frozen=True)
class DatabaseUrl:
    """Where a database is, and what of that may not be told.

    Attributes:
        url: For SQLAlchemy, with the credentials.
        secrets: Texts that no message may hold, longest first.
    """

    url: URL = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)

    @property
    def kind(self) -> str:
        """`sqlite`, `postgresql` and so on, without the driver."""
        return self.url.get_backend_name()

    def hidden(self, text: str) -> str:
        """A text with every secret replaced by `***`, also where it stands percent-encoded or quoted."""
        for secret in self.secrets:
            for form in {secret, quote(secret, safe=""), quote(secret), repr(secret)[1:-1]}:
                whole_word = len(form) < SHORT
                text = re.sub(rf"(?<!\w){re.escape(form)}(?!\w)" if whole_word else re.escape(form), "***", text)
        return text

    def told(self, error: Exception) -> str:
        """The first line of what a driver says, without the secrets."""
        said = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
        return self.hidden(said or type(error).__name__)[:LONGEST_MESSAGE]

    def identity(self, folder: Path) -> list[str]:
        """Who asks where: what may change an answer, without passwords, tokens and the like.

        Args:
            folder: Where a relative path of a file starts.
        """
        url = self.url
        database = str((folder / (url.database or "")).resolve()) if self.kind in IN_FILES else url.database
        parameters = sorted(f"{name}={value}" for name, value in url.query.items())
        told = [parameter for parameter in parameters if not SECRET_PARAMETER.search(parameter)]
        return [*map(str, (url.drivername, url.username, url.host, url.port, database)), *told]


def check_url(text: str) -> None:
    """Refuses a URL in a task's file that holds a secret, or that is none.

    Raises:
        WrongAt: At `url`. The message holds nothing of the URL.
    """
    wrong = _wrong(text)
    if wrong is not None:
        raise WrongAt(["url"], wrong)


def _wrong(text: str) -> str | None:
    if "://" not in VARIABLE.sub("://", text):
        return f"is no URL of a database; one such as {EXAMPLE} or sqlite:///FILE is wanted"
    base, _, parameters = REFERENCE.sub("\0", text).partition("?")  # what stays is written literally
    password = (base.partition("://")[2] or base).rpartition("@")[0].partition(":")[2]
    if password.strip("\0") and _scheme(text) not in IN_FILES:
        return f"holds a password; take it out of the file (change it, if others saw the file), and write {EXAMPLE}"
    for name, value in SECRET_PARAMETER.findall(unquote_plus(parameters)):
        if value.strip("\0"):
            return f"holds a secret in the parameter {name}; write {name}=${{env:NAME}}, and set the variable NAME"
    return None


def _scheme(text: str) -> str:
    return text.partition("://")[0].partition("+")[0]


def database_url(text: str, variables: Mapping[str, str]) -> DatabaseUrl:
    """The URL of a task's file with its variables and credentials.

    Args:
        text: As in the file. A value of the environment may hold any character where it is user, password or parameter;
            where it is the whole URL, it is percent-encoded as a URL is.
        variables: Values for `${NAME}`.
    Raises:
        FlantuneError: An unknown variable, one that the environment lacks, a secret written literally, no URL, an
            unknown kind of database.
    """
    text = with_variables(text, variables, "source.url")
    wrong = _wrong(text)
    if wrong is not None:
        raise FlantuneError(f"source.url {wrong}")
    base, mark, parameters = text.partition("?")
    user, at, place = ("", "", base) if _scheme(text) in IN_FILES else base.rpartition("@")
    url = _parsed(_filled(user, encoded=True) + at + _filled(place) + mark + _filled(parameters, encoded=True))
    given = [
        *_values(user),
        *_values(parameters),
        *(value for value in _values(place) if "://" in value or "@" in value),
    ]
    inside = [url.username, url.password, *(str(value) for value in url.query.values())]
    secrets = {secret for secret in (*given, *inside) if secret and secret not in text}
    return DatabaseUrl(url, tuple(sorted(secrets, key=len, reverse=True)))


def with_variables(text: str, variables: Mapping[str, str], what: str) -> str:
    """A text with the recipe's variables in place of its `${NAME}`; `${env:NAME}` stays.

    Raises:
        FlantuneError: A variable that the recipe lacks.
    """

    def value(match: re.Match[str]) -> str:
        if REFERENCE.fullmatch(match[0]):
            return match[0]
        if match[1] not in variables:
            raise FlantuneError(f"{what} needs a value: put `variables: {{{match[1]}: ...}}` into the recipe")
        return variables[match[1]]

    return VARIABLE.sub(value, text)


def _filled(text: str, *, encoded: bool = False) -> str:
    return REFERENCE.sub(lambda match: quote(_value(match[1]), safe="") if encoded else _value(match[1]), text)


def _values(text: str) -> Iterator[str]:
    return map(_value, REFERENCE.findall(text))


def _value(name: str) -> str:
    value = environment_value(name)
    if value is None:
        raise FlantuneError(f"source.url needs the environment variable {name}, which is not set; export {name}=...")
    return value


def _parsed(text: str) -> URL:
    """SQLAlchemy's URL. Its own messages are not told: they show parts of what is wrong, such as half a password."""
    from sqlalchemy import make_url
    from sqlalchemy.exc import NoSuchModuleError, SQLAlchemyError

    try:
        url = make_url(text)
        if "@" in _misplaced(url):
            raise FlantuneError("source.url has more than one @; write @ as %40 and / as %2F in its user and password")
        url.get_dialect()
    except NoSuchModuleError:
        kind = _scheme(text) if re.fullmatch(r"[\w+]*", _scheme(text)) else "?"
        raise FlantuneError(
            f'source.url: SQLAlchemy knows no database "{kind}" here; {nearest(kind, KNOWN)}; '
            "others need the package of their dialect, as duckdb needs duckdb-engine"
        ) from None
    except (SQLAlchemyError, ValueError):
        raise FlantuneError(f"source.url is no URL of a database; one such as {EXAMPLE} is wanted") from None
    return url


def _misplaced(url: URL) -> str:
    """Where a user or password lands that has an @ or / in it."""
    return (url.host or "") + ("" if url.get_backend_name() in IN_FILES else url.database or "")
