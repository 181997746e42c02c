"""A real PostgreSQL server that belongs to one test module; skipped where none is installed."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

BOSS, BOSS_PASSWORD = "boss", "only-for-the-test"


@dataclass(frozen=True)
class Server:
    """A running server, reached by the socket in its folder alone."""

    folder: Path

    def boss(self, database: str = "postgres") -> Any:
        """A connection of its superuser; each statement is its own transaction."""
        import psycopg

        return psycopg.connect(
            host=str(self.folder), user=BOSS, password=BOSS_PASSWORD, dbname=database, autocommit=True
        )


@contextmanager
def postgresql_server() -> Iterator[Server]:
    """A server with an empty cluster that asks for passwords; stopped and removed at the end of the block."""
    pytest.importorskip("psycopg", reason="the psycopg package is not installed")
    programs = _programs()
    if programs is None:
        pytest.skip("no PostgreSQL server on this machine")
    with tempfile.TemporaryDirectory(prefix="flantune-postgresql-") as name:
        folder = Path(name)
        (folder / "password").write_text(BOSS_PASSWORD, encoding="utf-8")
        for path in (folder, folder / "password"):
            shutil.chown(path, _account().get("user", os.getuid()))
        login = ("--auth=scram-sha-256", f"--username={BOSS}", f"--pwfile={folder / 'password'}")
        _run(programs / "initdb", folder, *login, "--encoding=UTF8", "--no-locale", "--no-sync")
        with (folder / "data" / "postgresql.conf").open("a", encoding="utf-8") as settings:
            settings.write(f"listen_addresses = ''\nunix_socket_directories = '{folder}'\nfsync = off\n")
        _run(programs / "pg_ctl", folder, "--wait", f"--log={folder / 'log'}", "start")
        try:
            yield Server(folder)
        finally:
            _run(programs / "pg_ctl", folder, "--wait", "--mode=immediate", "stop")


def _programs() -> Path | None:
    """Where initdb is: on the path, or where Debian keeps it, the newest version."""
    found = [*filter(None, [shutil.which("initdb")]), *Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    return max((Path(path).parent for path in found), key=lambda path: (len(str(path)), str(path)), default=None)


def _run(program: Path, folder: Path, *arguments: str) -> None:
    command = [str(program), "-D", str(folder / "data"), *arguments]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, check=False, **_account())
    assert done.returncode == 0, (folder / "log").read_text() if (folder / "log").exists() else command


def _account() -> dict[str, Any]:
    """PostgreSQL refuses to run as root: then another account runs it."""
    if os.getuid() != 0:
        return {}
    accounts = {entry.pw_name: entry for entry in pwd.getpwall()}
    chosen = accounts.get("postgres") or accounts["nobody"]
    return {"user": chosen.pw_name, "group": chosen.pw_gid, "extra_groups": []}
