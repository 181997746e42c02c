"""URLs of databases: credentials come from the environment, reach the driver as they are, and are never shown."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flantune.errors import FlantuneError
from flantune.recipe.yaml_file import WrongAt
from flantune.tasks.sources.database_url import check_url, database_url

USER_AND_PASSWORD = "postgresql+psycopg://${env:DB_USER}:${env:DB_PASSWORD}@host/shop"
EXAMPLE = "postgresql+psycopg://${env:DB_USER}:${env:DB_PASSWORD}@host/database"
# What an environment variable can hold: text without NUL, and what was undecodable before.
values = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)


def told(text, **variables):
    with pytest.raises(FlantuneError) as caught:
        database_url(text, variables)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- what is read -------------------------------------------------------------------------------------------


@settings(max_examples=200)
@given(user=values, password=values)
def test_user_and_password_reach_the_driver_as_the_environment_has_them(user, password):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DB_USER", user)
        patch.setenv("DB_PASSWORD", password)
        url = database_url(USER_AND_PASSWORD, {}).url
    assert (url.username, url.password, url.host, url.database) == (user, password, "host", "shop")


def test_every_part_may_come_from_the_environment(monkeypatch):
    for name, value in {"H": "db.example.org", "P": "6543", "D": "shop", "MODE": "verify-full"}.items():
        monkeypatch.setenv(name, value)
    url = database_url("postgresql+psycopg://me@${env:H}:${env:P}/${env:D}?sslmode=${env:MODE}", {}).url
    assert url.render_as_string(hide_password=False) == (
        "postgresql+psycopg://me@db.example.org:6543/shop?sslmode=verify-full"
    )


def test_the_whole_url_may_come_from_the_environment_percent_encoded_as_urls_are(monkeypatch):
    monkeypatch.setenv("DB_URL", "postgresql+psycopg://bob:p%40ss@host:6543/shop?connect_timeout=3")
    url = database_url("${env:DB_URL}", {}).url
    assert (url.username, url.password, url.port, dict(url.query)) == ("bob", "p@ss", 6543, {"connect_timeout": "3"})


def test_a_variable_of_the_recipe_may_stand_in_a_url(tmp_path):
    assert database_url("sqlite:///${DATA}/shop.db", {"DATA": str(tmp_path)}).url.database == f"{tmp_path}/shop.db"


# --- what is refused ----------------------------------------------------------------------------------------

LITERAL = [
    "postgresql://bob:hunter22@host/shop",
    "postgresql://bob:hun@ter22@host/shop",
    "postgresql://bob:hun/ter22@host/shop",
    "postgresql://bob:hunter22@",
    "postgresql+psycopg://${env:DB_USER}:hunter22@host/shop",
    "postgresql+psycopg://${env:DB_USER}:hunter22${env:DB_PASSWORD}@host/shop",
    "postgresql+psycopg://${env:DB_USER}:${PASSWORD}@host/shop",
    "${env:SCHEME}://bob:hunter22@host/shop",
    "mysql+pymysql://:hunter22@host/shop",
]
LITERAL_PARAMETERS = {
    "postgresql://bob@host/shop?password=hunter22": "password",
    "postgresql://bob@host/shop?sslmode=require&sslpassword=hunter22": "sslpassword",
    "mssql+pyodbc:///?odbc_connect=DRIVER%3Dx%3BUID%3Dbob%3BPWD%3Dhunter22": "PWD",
    "snowflake://bob@host/shop?token=hunter22": "token",
    "x://h/?private_key=${env:A}hunter22": "private_key",
}


@pytest.mark.parametrize("text", LITERAL)
def test_a_password_in_the_file_is_refused_without_showing_it(text):
    with pytest.raises(WrongAt) as caught:
        check_url(text)
    assert caught.value.location == ("url",)
    assert str(caught.value) == (
        f"holds a password; take it out of the file (change it, if others saw the file), and write {EXAMPLE}"
    )


@pytest.mark.parametrize("text", LITERAL_PARAMETERS)
def test_a_secret_parameter_in_the_file_is_refused_without_showing_it(text):
    with pytest.raises(WrongAt) as caught:
        check_url(text)
    name = LITERAL_PARAMETERS[text]
    assert str(caught.value) == (
        f"holds a secret in the parameter {name}; write {name}=${{env:NAME}}, and set the variable NAME"
    )


def test_a_password_in_a_variable_of_the_recipe_is_refused_too_since_recipes_are_kept_with_the_run():
    assert told("postgresql://bob:${PW}@host/shop", PW="hunter22") == (
        f"source.url holds a password; take it out of the file (change it, if others saw the file), and write {EXAMPLE}"
    )


@pytest.mark.parametrize(
    "text",
    [
        USER_AND_PASSWORD,
        "${env:DB_URL}",
        "${URL}",
        "postgresql://bob@host/shop",
        "postgresql://host:5432/shop?passfile=/home/bob/.pgpass&sslkey=key.pem",
        "bigquery://project/set?credentials_path=key.json",
        "sqlite:////home/a@b:c/shop.db",
        "sqlite:///${DATA}/shop.db",
        "mssql+pyodbc:///?odbc_connect=DRIVER%3Dx%3BUID%3Dbob%3BPWD%3D${env:A}",
    ],
)
def test_a_url_without_a_secret_of_its_own_is_accepted(text):
    check_url(text)


def test_text_that_is_no_url_is_refused():
    with pytest.raises(WrongAt) as caught:
        check_url("shop.db")
    assert str(caught.value) == f"is no URL of a database; one such as {EXAMPLE} or sqlite:///FILE is wanted"


MISTAKES = {
    "postgresql://bob:p@ss@host/shop": "source.url has more than one @; write @ as %40 and / as %2F in its user and "
    "password",
    "postgresql://bo/b:pass@host/shop": "source.url has more than one @; write @ as %40 and / as %2F in its user and "
    "password",
    "postgresql://host:not-a-port/shop": f"source.url is no URL of a database; one such as {EXAMPLE} is wanted",
    "hunter22": f"source.url is no URL of a database; one such as {EXAMPLE} is wanted",
    "postgres://bob:pass@host/shop": 'source.url: SQLAlchemy knows no database "postgres" here; did you mean '
    '"postgresql"? (duckdb, mariadb, mssql, mysql, oracle, postgresql, sqlite); others need the package of their '
    "dialect, as duckdb needs duckdb-engine",
}


@pytest.mark.parametrize("url", MISTAKES)
def test_a_mistake_in_a_url_of_the_environment_is_told_without_showing_it(monkeypatch, url):
    monkeypatch.setenv("DB_URL", url)
    assert told("${env:DB_URL}") == MISTAKES[url]


@pytest.mark.parametrize("value", [None, ""])
def test_a_variable_that_is_not_set_is_named(monkeypatch, value):
    monkeypatch.setenv("DB_USER", "bob")
    monkeypatch.delenv("DB_PASSWORD", raising=False)
    if value is not None:
        monkeypatch.setenv("DB_PASSWORD", value)
    assert told(USER_AND_PASSWORD) == (
        "source.url needs the environment variable DB_PASSWORD, which is not set; export DB_PASSWORD=..."
    )


def test_a_variable_that_the_recipe_lacks_is_named():
    assert told("sqlite:///${DATA}/shop.db") == (
        "source.url needs a value: put `variables: {DATA: ...}` into the recipe"
    )


# --- what is hidden -----------------------------------------------------------------------------------------


@settings(max_examples=200)
@given(
    password=values.filter(lambda text: len(text.strip()) > 5),
    before=st.text(max_size=20),
    after=st.text(max_size=20),
    url=st.booleans(),
)
def test_no_message_holds_a_password_however_it_stands_there(password, before, after, url):
    from urllib.parse import quote

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DB_USER", "canary-user")
        patch.setenv("DB_PASSWORD", password)
        patch.setenv("DB_URL", f"postgresql+psycopg://canary-user:{quote(password, safe='')}@host/shop")
        address = database_url("${env:DB_URL}" if url else USER_AND_PASSWORD, {})
    for form in (password, quote(password), quote(password, safe=""), repr(password)[1:-1], str((1045, password))):
        hidden = address.hidden(f"{before}{form}{after} canary-user")
        assert password not in hidden
        assert "canary-user" not in hidden


def test_a_short_secret_is_hidden_as_a_word_and_betrays_itself_in_no_other(monkeypatch):
    monkeypatch.setenv("DB_USER", "sa")
    monkeypatch.setenv("DB_PASSWORD", "pass")
    address = database_url(USER_AND_PASSWORD, {})
    assert address.hidden('password authentication failed for user "sa" (pass)') == (
        'password authentication failed for user "***" (***)'
    )


def test_a_user_in_the_file_a_host_and_a_database_may_be_told(monkeypatch):
    monkeypatch.setenv("DB_PASSWORD", "hunter22")
    monkeypatch.setenv("DB_HOST", "db.example.org")
    address = database_url("postgresql+psycopg://bob:${env:DB_PASSWORD}@${env:DB_HOST}/shop", {})
    assert address.hidden('user "bob" at db.example.org, database "shop", hunter22') == (
        'user "bob" at db.example.org, database "shop", ***'
    )


def test_an_address_shows_nothing_of_itself_when_printed(monkeypatch):
    monkeypatch.setenv("DB_USER", "canary-user")
    monkeypatch.setenv("DB_PASSWORD", "canary-password")
    assert repr(database_url(USER_AND_PASSWORD, {})) == "DatabaseUrl()"


def test_an_identity_tells_users_hosts_and_databases_apart_but_not_passwords(monkeypatch, tmp_path):
    def identity(password="one", text=USER_AND_PASSWORD):
        monkeypatch.setenv("DB_USER", "bob")
        monkeypatch.setenv("DB_PASSWORD", password)
        return database_url(text, {}).identity(tmp_path)

    assert identity("one") == identity("two") == ["postgresql+psycopg", "bob", "host", "None", "shop"]
    assert identity(text=f"{USER_AND_PASSWORD}?options=a&password=${{env:DB_PASSWORD}}")[5:] == ["options=a"]
    others = [USER_AND_PASSWORD.replace("host", "other"), USER_AND_PASSWORD.replace("shop", "other")]
    assert len({tuple(identity(text=text)) for text in [USER_AND_PASSWORD, *others]}) == 3


def test_a_file_is_the_same_by_any_path_and_another_in_another_folder(tmp_path):
    def identity(text, folder):
        return database_url(text, {}).identity(folder)

    absolute = identity(f"sqlite:///{tmp_path}/shop.db", tmp_path / "other")
    assert identity("sqlite:///shop.db", tmp_path) == absolute != identity("sqlite:///shop.db", tmp_path / "other")


def test_the_check_of_a_file_loads_no_sqlalchemy():
    import subprocess

    code = (
        "import sys; from flantune.tasks.sources.database_url import check_url; "
        "check_url('sqlite:///shop.db'); print('sqlalchemy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
