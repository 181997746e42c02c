"""What stands in the way in the rows as they are read, and the transforms that remove it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flantune.errors import FlantuneError
from flantune.tasks.init.names import suggests
from flantune.tasks.sources import Row
from flantune.tasks.sources.transform_schema import Transform
from flantune.tasks.sources.transforms import transformer

Stated = dict[str, Any]  # a transform as a task file states it


def tidying(rows: Sequence[Row]) -> list[Stated]:
    """Transforms for the texts of a sample: marks at their ends, escaped newlines, hard line breaks, JSON in text."""
    found: list[Stated] = []
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row.get(name) for row in rows]
        texts = [value for value in values if isinstance(value, str) and value.strip()]
        everywhere = all(name in row for row in rows)
        if (
            len(texts) < 3
            or not everywhere
            or any(value is not None and not isinstance(value, str) for value in values)
        ):
            continue
        found += [made for rule in _RULES for made in rule(name, texts)]
    return found


def changed(rows: Sequence[Row], transforms: Sequence[Mapping[str, Any]]) -> list[Row]:
    """The rows as the transforms make them.

    Raises:
        FlantuneError: A row that a transform cannot change.
    """
    if not transforms:
        return list(rows)
    change = transformer([Transform.model_validate(dict(stated)) for stated in transforms], allow_code=False)
    return [made for row in rows for made in change(row)]


def can_change(rows: Sequence[Row], transforms: Sequence[Mapping[str, Any]]) -> bool:
    """Whether no row of a sample stands against the transforms."""
    try:
        changed(rows, transforms)
    except FlantuneError:
        return False
    return True


def _json_in_text(name: str, texts: Sequence[str]) -> list[Stated]:
    if not all(text.strip()[0] in "[{" for text in texts):
        return []
    try:
        values = [json.loads(text) for text in texts]
    except (ValueError, RecursionError):
        return []
    told = [value for value in values if isinstance(value, dict) or any(isinstance(item, str | dict) for item in value)]
    return [{"cast": {"field": name, "to": "json"}}] if len(told) > 0.5 * len(values) else []


def _escapes(name: str, texts: Sequence[str]) -> list[Stated]:
    escaped = sum(r"\n" in text for text in texts)
    return [{"unescape": name}] if escaped > 0.05 * len(texts) and not any("\n" in text for text in texts) else []


def shared_beginning(texts: Sequence[str]) -> str:
    """The longest text that all begin with."""
    first, last = min(texts), max(texts)
    same = next((at for at, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[:same]


def _marks_at_the_end(name: str, texts: Sequence[str]) -> list[Stated]:
    """`<|endoftext|>`, or an `Answer:` that waits for its answer."""
    shared = shared_beginning([text[::-1] for text in texts])[::-1]
    mark = re.search(r"\s*(<[|/]?[\w/]+[|]?>|\[/?[A-Z]{3,}\]|</s>)\s*$|\s*\n(\w+):\s*$", shared)
    if mark is None or (mark[2] is not None and not suggests(mark[2], "answer") and not suggests(mark[2], "output")):
        return []
    return [{"strip_suffix": {"field": name, "suffix": mark[0]}}]


def _words_at_the_start(name: str, texts: Sequence[str]) -> list[Stated]:
    """`Question: ` before each question, where no other such word stands inside the texts."""
    shared = shared_beginning(texts)
    word = re.match(r"(\w{3,20}): ", shared)
    if word is None or sum(bool(re.search(r"\n\w+: |\s[A-Z]\w+: ", text)) for text in texts) > 0.1 * len(texts):
        return []
    return [{"strip_prefix": {"field": name, "prefix": word[0]}}]


def _line_breaks(name: str, texts: Sequence[str]) -> list[Stated]:
    """Lines that were broken to fit a page, and indented."""
    broken = sum(bool(re.search(r"\S\r?\n[\t ]+\S", text)) for text in texts)
    tabbed = sum("\n\t" in text for text in texts) > 0.05 * len(texts)
    code = sum(bool(re.search(r"[;{}:]\s*$", text, re.MULTILINE)) for text in texts)
    if broken < (0.05 if tabbed else 0.5) * len(texts) or code > 0.3 * len(texts):
        return []
    return [{"regex": {"field": name, "pattern": r"\s*\n[\t ]+", "replace": " "}}]


def _calculator_marks(name: str, texts: Sequence[str]) -> list[Stated]:
    """`<<3*4=12>>` inside worked answers."""
    marked = sum(bool(re.search(r"<<[^<>\n]*=[^<>\n]*>>", text)) for text in texts)
    return [{"regex": {"field": name, "pattern": "<<[^<>]*>>", "replace": ""}}] if marked > 0.5 * len(texts) else []


def _marks_between_sentences(name: str, texts: Sequence[str]) -> list[Stated]:
    """A mark without a letter that stands inside nearly all texts, such as `<::::>`."""
    marks = [re.search(r"(<[^\w\s<>]{2,}>|\|{3,})", text) for text in texts]
    found = {mark[1] for mark in marks if mark}
    if len(found) != 1 or sum(mark is not None for mark in marks) < 0.9 * len(texts):
        return []
    return [{"regex": {"field": name, "pattern": rf"\s*{re.escape(found.pop())}\s*", "replace": " "}}]


_RULES: tuple[Callable[[str, Sequence[str]], list[Stated]], ...] = (
    _json_in_text, _escapes, _marks_at_the_end, _words_at_the_start, _line_breaks, _calculator_marks,
    _marks_between_sentences,
)  # fmt: skip
