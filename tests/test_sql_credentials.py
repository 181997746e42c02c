"""SQL sources: no failure and no success ever shows a credential."""

from __future__ import annotations

import json
import logging
from urllib.parse import quote

import pytest

from databases import ENDLESS, PATIENCE, READER, READER_PASSWORD, told
from flantune.tasks import load_task
from runs import flantune, write_recipe

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
