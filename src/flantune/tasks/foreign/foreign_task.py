"""ForeignTask: what a file of another project says, in the words of a flantune task file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2.nodes

from flantune.tasks.foreign.tagged_yaml import Location, line_in
from flantune.tasks.jinja import environment

SEPARATOR = "|||"
LONGEST_NAME = 64


@dataclass(frozen=True)
class ForeignTask:
    """A task of another project; it stands where a parsed task file stands.

    Attributes:
        path: The file it was read from; paths in its `source` are relative to the folder of that file.
        data: What a task file would say: it validates as `TaskFile`.
        lines: Location in `data` to line of the file that it came from.
        notes: What the file says that is not applied, a sentence each.
        trusted: Whether `data` holds no Jinja of others: their words are quoted in templates of flantune's own.
    """

    path: Path
    data: dict[str, Any]
    lines: Mapping[Location, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    trusted: bool = False

    def line(self, location: Sequence[str | int]) -> int | None:
        """Line (from 1) of the deepest part of a location in `data` that is known."""
        return line_in(self.lines, location)


def task_name(collection: str, name: str) -> str:
    """A valid name for a task of a collection.

    >>> task_name("promptsource", "Zaid/coqa expanded")
    'promptsource/zaid_coqa_expanded'
    """
    return f"{collection}/{re.sub('[^a-z0-9_.-]+', '_', name.lower()).strip('_.-') or 'task'}"


def template_names(names: Iterable[str]) -> list[str]:
    """Valid template names, each different from the others, in the order of the names given.

    >>> template_names(["Summarize this:", "Summarize this", "?"])
    ['Summarize_this', 'Summarize_this_2', 'template']
    """
    made: list[str] = []
    for name in names:
        plain = re.sub("[^a-zA-Z0-9_-]+", "_", name).strip("_")[:LONGEST_NAME] or "template"
        candidate, number = plain, 1
        while candidate in made:
            number += 1
            candidate = f"{plain[: LONGEST_NAME - len(str(number)) - 1]}_{number}"
        made.append(candidate)
    return made


def without_separator(text: str) -> str:
    """The Jinja text with each `|||` that stands in it as text quoted, so that it parts nothing."""
    if SEPARATOR not in text:
        return text
    pieces, raw = [], False
    for _, kind, value in environment().lex(text):
        raw = raw or kind == "raw_begin"
        pieces.append(value.replace(SEPARATOR, f'{{{{ "{SEPARATOR}" }}}}') if kind == "data" and not raw else value)
        raw = raw and kind != "raw_end"
    return "".join(pieces)


def single_expression(text: str) -> str | None:
    """What stands between the braces of a text that is one `{{ ... }}`; None where it is more or less than that."""
    found = re.fullmatch(r"\s*\{\{[-+]?(.*?)[-+]?\}\}\s*", text, re.DOTALL)
    if found is None:
        return None
    outputs = [node for node in environment().parse(text.strip()).body if isinstance(node, jinja2.nodes.Output)]
    parts = [part for output in outputs for part in output.nodes]
    return found[1].strip() if len(parts) == 1 and not isinstance(parts[0], jinja2.nodes.TemplateData) else None
