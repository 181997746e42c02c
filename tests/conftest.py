"""Settings of all tests."""

from __future__ import annotations

import os
import sqlite3
import sys
from contextlib import closing

import hypothesis
import pytest

from databases import POSTS, READER, READER_PASSWORD
from flantune.tasks.sources import cache, digests
from postgres import postgresql_server

# How long an example takes depends on what else the machine does, and says nothing about what is tested.
hypothesis.settings.register_profile("flantune", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("flantune")


@pytest.fixture(autouse=True)
def one_thread():
    """Threads that wait for each other make tiny models many times slower on a busy machine."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def rows_of_tests(tmp_path_factory):
    """Keeps made-up rows out of the user's cache, where the embedded model lies."""
    folder = tmp_path_factory.mktemp("cache")

    def elsewhere(name, usual):
        return lambda: usual() if "FLANTUNE_CACHE" in os.environ else folder / name

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "rows_folder", elsewhere("rows", cache.rows_folder))
        patch.setattr(digests, "digests_folder", elsewhere("digests", digests.digests_folder))
        yield


@pytest.fixture(autouse=True, scope="session")
def all_early(request, tmp_path_factory):
    """By module, what begins with the first test; see early.py."""
    modules = dict.fromkeys(item.module for item in request.session.items if hasattr(item.module, "begin_early"))
    begun = {module: module.begin_early(tmp_path_factory.mktemp("early")) for module in modules}
    yield begun
    for process in begun.values():
        process.stop()


@pytest.fixture(scope="module")
def early(request, all_early):
    """What the module's `begin_early` returned."""
    return all_early[request.module]


@pytest.fixture(scope="module")
def trials(folder):
    """Runs of a module, below its own `folder`."""
    from trials import Trials

    with Trials(folder / "cache") as made:
        yield made


@pytest.fixture(scope="module")
def browser():
    """A real browser."""
    from browser import open_browser

    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def arguments(folder):
    """Of a small run in float32, for ranks and hosts that share it."""
    from runs import write_recipe

    balanced = "training.loss.per=example"  # else a warning would be said
    return [str(write_recipe(folder)), balanced, "training.precision=fp32", "training.rows_per_step=4"]


@pytest.fixture(scope="module")
def alone(folder, trials, arguments):
    """That run by one process."""
    run = folder / "alone"
    assert trials.run([*arguments, f"output={run}"]).codes == [0]
    return run


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
