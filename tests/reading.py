"""Reading made-up files through a source, and text that some reader or other would change."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from flantune.errors import FlantuneError
from flantune.tasks.sources import Row, Rows, SourceChoice, read_split
from flantune.tasks.sources.readers import file_rows, split_files

# Taken elsewhere for a number, a truth value, a missing value, a date, a formula, or the end of a line or of a field.
AWKWARD = [
    *["007", "1e5", "1.50", "-0", "+5", "0x10", "1_000", "12:30:00", "3.", ".5", "1E400", "9" * 400, "½", "٣"],
    *["NA", "nan", "NaN", "null", "None", "~", "", " ", "  x ", "-", "inf", "-.inf", "N/A", "#N/A"],
    *["no", "yes", "true", "False", "on", "y", "2024-01-01", "2001-12-14t21:59:43.10-05:00"],
    *["=1+1", "@name", "*star", "&and", "!tag", "<<", "- item", "a: b", "# no comment", "{x}", "[x]", "`", "%d"],
    *["it's", '"', '""', "\\", "\\n", "a\\tb", ",", ";", "|", "1,5", "<b>&amp;</b>", "]]>", "&lt;"],
    *[
        "a\u2028b",
        "a\u2029b",
        "a\x85b",
        "a\x1cb",
        "a\xa0",
        "\u200b",
        "\ufeffx",
        "שלום \u202eabc",
        "👩‍👩‍👧 🇩🇪",
        "e\u0301",
        "\U0010ffff",
    ],
]
WITH_LINE_ENDS = ["two\nlines", "\n", "a\n\nb\n", "a\tb"]

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


def read(folder: Path, split: str = "all", *, variables: Mapping[str, str] | None = None, **source: Any) -> Rows:
    """The rows of a split of a source."""
    return read_split(SourceChoice.model_validate(source), split, folder, variables or {})


def rows_of(folder: Path, content: str | bytes, name: str, **source: Any) -> Rows:
    """The rows of one file of the kind that its name ends in."""
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    at = f"{name}#{source.pop('at')}" if "at" in source else name
    return read(folder, kind=source.pop("kind", name.split(".")[1]), splits={"all": at}, **source)


def parsed(folder: Path, content: str | bytes, name: str, **source: Any) -> list[Row]:
    """The rows of one file as its reader gives them, past the cache: for many small files."""
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    choice = SourceChoice.model_validate({"kind": name.split(".")[1], "splits": {"all": name}, **source})
    return [record.row for record in file_rows(choice, split_files(choice, "all", folder, {}))]


def lines_of(rows: Rows) -> list[str]:
    """The line of each row, or what its place ends in."""
    return [rows.place(i).rpartition(":")[2].strip() for i in range(len(rows))]


def told(call: Callable[..., Any], *arguments: Any, **options: Any) -> str:
    """What the one line says that a user sees."""
    with pytest.raises(FlantuneError) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def json_lines(rows: Sequence[Row]) -> str:
    """Rows as JSONL."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
