"""A small database and what is asked of it, for the tests of SQL sources."""

from __future__ import annotations

import pytest

from flantune.errors import FlantuneError
from flantune.tasks.sources.choice import SourceChoice
from flantune.tasks.sources.sql import answer

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
